/** Caches with right signed facts and wrong other fields: paths that Nix would get from them come, too. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { asFileHash } from '../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { startSite } from '../support/http-site.ts';
import { ALONE, assertFailure, assertSound, Lab, readNarInfos, requisites, type Run } from '../support/lab.ts';
import { WrittenCache, type WrittenPath } from '../support/written-cache.ts';

describe('caches that lie in unsigned fields', { concurrency: 4 }, () => {
  let lab: Lab;
  let honest: WrittenCache;
  let honestUrl: string;
  let dep: WrittenPath;
  let root: WrittenPath;

  before(async () => {
    lab = await Lab.open();
    honest = await WrittenCache.create(await lab.folder('honest'), 'lab-1');
    dep = await honest.add('dep', { contents: randomBytes(20_000).toString('hex') });
    root = await honest.add('root', { references: [dep.baseName] });
    honestUrl = lab.use(await startHttpCache(honest.dir)).url;
  });
  after(() => lab[Symbol.asyncDispose]());

  const target = async (): Promise<string> => `local?root=${await lab.folder('target')}`;
  const fetch = (store: string, to: string, caches: readonly string[], key = honest.publicKey): Promise<Run> =>
    lab.run(
      ['fetch', root.info.storePath, '--store', store, '--to', to]
        .concat(caches.flatMap((url) => ['--from', url]))
        .concat(key.split(' ').flatMap((one) => ['--trusted-public-key', one])),
    );
  const succeeds = async (run: Run, store: string, to: string): Promise<void> => {
    assert.equal(run.status, 0, run.stdout + run.stderr);
    assert.equal(requisites(to, root.info.storePath).length, 2);
    await assertSound(store, honest.publicKey);
  };
  /** The same paths with one more lie in the narinfo of each. */
  const liar = async (lie: (info: NarInfo) => Partial<NarInfo>): Promise<WrittenCache> => {
    const cache = await WrittenCache.create(await lab.folder('liar'), honest);
    for (const { info, file } of [dep, root]) {
      await writeFile(join(cache.dir, info.url), file);
      await writeFile(
        join(cache.dir, `${info.storePath.slice(11, 43)}.narinfo`),
        formatNarInfo({ ...info, ...lie(info) }),
      );
    }
    return cache;
  };

  /** Lies with which Nix still takes paths from such a cache, since it checks NarHash. */
  const harmless: readonly (readonly [name: string, lie: (info: NarInfo) => Partial<NarInfo>])[] = [
    ['a malformed CA', () => ({ ca: 'foo' })],
    ['a CA of other contents', () => ({ ca: `fixed:r:sha256:${'0'.repeat(52)}` })],
    ['a malformed Sig', ({ signatures }) => ({ signatures: ['garbage', ...signatures] })],
    ['a wrong FileHash', () => ({ fileHash: asFileHash('1'.repeat(52)) })],
    ['a FileSize that is too small', () => ({ fileSize: 1 })],
    ['an impossible FileSize', () => ({ fileSize: Number.MAX_SAFE_INTEGER })],
    ['an invented Compression', () => ({ compression: 'zstd-19' })],
    ['the Compression of another file', () => ({ compression: 'zstd' })],
    ['a Compression with a path', () => ({ compression: '../x' })],
  ];
  for (const [name, lie] of harmless) {
    test(`${name} does no harm, and is not written`, async () => {
      const { url } = lab.use(await startHttpCache((await liar(lie)).dir));
      const [store, to] = [await lab.folder('store'), await target()];
      await succeeds(await fetch(store, to, [url]), store, to);
      const written = await readNarInfos(store);
      for (const { info } of [dep, root]) assert.deepEqual(written.get(info.storePath.slice(11, 43)), info);
    });
  }

  /** Lies with which nobody could get paths from such a cache. */
  const useless: readonly (readonly [name: string, lie: (info: NarInfo) => Partial<NarInfo>])[] = [
    ['a URL of no file', () => ({ url: 'nar/nothing.nar.xz' })],
    ['a URL outside the cache', () => ({ url: '../../etc/passwd' })],
    ['Compression none', () => ({ compression: 'none' })],
    ['the file of another path', ({ storePath }) => fileOf(storePath === dep.info.storePath ? root : dep)],
  ];
  for (const [name, lie] of useless) {
    test(`${name} costs a retry at the next cache`, async () => {
      const { url } = lab.use(await startHttpCache((await liar(lie)).dir));
      const [store, to] = [await lab.folder('store'), await target()];
      const alone = await fetch(store, to, [url]);
      assert.ok(alone.status === 5 || alone.status === 8, alone.stdout + alone.stderr);
      assert.match(alone.stderr, new RegExp(`(?:${dep.info.storePath}|${root.info.storePath})[^]*`));
      assert.match(alone.stderr, new RegExp(url));
      // By now the store has the words of the liar.
      await succeeds(await fetch(store, to, [url, honestUrl]), store, to);
    });
  }

  test('an endless body is read only as far as NarSize allows', async () => {
    for (const lie of [{ fileSize: 40e9 }, { fileSize: undefined, fileHash: undefined }]) {
      const cache = await liar(() => lie as Partial<NarInfo>);
      let sentBytes = 0;
      const site = lab.use(
        await startSite((request, response) => {
          const { url = '' } = request;
          if (!url.startsWith('/nar/')) {
            void readFile(join(cache.dir, url)).then(
              (bytes) => response.end(bytes),
              () => response.writeHead(404).end(),
            );
            return;
          }
          const chunk = Buffer.alloc(65_536, 1);
          const send = (): void => {
            while (!response.destroyed && response.write(chunk)) sentBytes += chunk.length;
            if (!response.destroyed) response.once('drain', send);
          };
          send();
        }),
      );
      const [store, to] = [await lab.folder('store'), await target()];
      const run = await fetch(store, to, [site.url, honestUrl]);
      await succeeds(run, store, to);
      const sources = run.event('done')['sources'] as { source: string; bytes: number }[];
      const taken = sources.find(({ source }) => source === site.url)?.bytes ?? 0;
      const bound = [dep, root].reduce((sum, { info }) => sum + info.narSize * (17 / 16) + 65_537, 0);
      assert.ok(taken <= bound, `${taken} bytes were taken, ${sentBytes} sent`);
    }
  });

  test('if the NAR of a path is lost, another build of it is taken, with its own references', async () => {
    const other = await WrittenCache.create(await lab.folder('other'), 'other-1');
    const own = await other.add('own-dep');
    const build = await other.add('root', {
      references: [own.baseName],
      contents: `another build /nix/store/${own.baseName}`,
    });
    const lost = await WrittenCache.create(await lab.folder('lost'), 'lost-1');
    const first = await lost.add('root', { references: [(await lost.add('dep')).baseName] });
    await rm(join(lost.dir, first.info.url));
    const caches = await Promise.all([lost, other].map(async ({ dir }) => lab.use(await startHttpCache(dir)).url));
    const [store, to] = [await lab.folder('store'), await target()];
    const run = await fetch(store, to, caches, `${lost.publicKey} ${other.publicKey}`);
    assert.equal(run.status, 0, run.stdout + run.stderr);
    assert.deepEqual(new Set(requisites(to, root.info.storePath)), new Set([build.info.storePath, own.info.storePath]));
    assert.deepEqual((await readNarInfos(store)).get(root.baseName.slice(0, 32)), build.info);
  });

  // Both narinfos name one file. Its contents show whose it is, whichever narinfo is found first.
  for (const first of ['good', 'bad'] as const) {
    const what = `a path that no source has right fails with its referrers; the others are imported (${first} first)`;
    test(what, async () => {
      const cache = await WrittenCache.create(await lab.folder('mixed'), honest);
      const good = await cache.add('good');
      const bad = await cache.add('bad', { lie: () => fileOf(good) });
      const top = await cache.add('top', { references: [good.baseName, bad.baseName] });
      const server = lab.use(await startHttpCache(cache.dir));
      const urlOf = ({ baseName }: WrittenPath): string => `/${baseName.slice(0, 32)}.narinfo`;
      const [sooner, later] = first === 'good' ? [good, bad] : [bad, good];
      const isAnswered = (): boolean => server.requests.some((one) => one.url === urlOf(sooner) && one.bytes > 0);
      const until = (async () => {
        while (!isAnswered()) await sleep(20);
        await sleep(20);
      })();
      server.faults = [{ kind: 'hold', match: new RegExp(urlOf(later)), until }];
      const [store, to] = [await lab.folder('store'), await target()];
      const from = ['--from', server.url, '--trusted-public-key', honest.publicKey];
      const run = await lab.run(['fetch', top.info.storePath, '--store', store, '--to', to, ...from]);
      const reason = `the NAR of ${bad.info.storePath} does not have the signed contents`;
      assertFailure(run, 5, 'NAR_UNAVAILABLE', new RegExp(reason));
      assert.match(run.stderr, new RegExp(server.url), 'the source is named');
      assert.deepEqual(requisites(to, good.info.storePath), [good.info.storePath]);
      assert.deepEqual((await assertSound(store, honest.publicKey)).narInfos, [good.baseName]);

      const right = await WrittenCache.create(await lab.folder('right'), honest);
      for (const [name, references] of [['good'], ['bad'], ['top', [good.baseName, bad.baseName]]] as const)
        await right.add(name, { references: references ?? [] });
      const { url } = lab.use(await startHttpCache(right.dir));
      const next = await lab.run(['fetch', top.info.storePath, '--store', store, '--to', to, ...from, '--from', url]);
      assert.equal(next.status, 0, next.stderr);
      assert.equal(requisites(to, top.info.storePath).length, 3);
      await assertSound(store, honest.publicKey);
    });
  }

  test('wrong lines that an older version wrote are repaired by the next run, and by verify --deep --repair', async () => {
    const poison = async (store: string, edit: (text: string) => string): Promise<void> => {
      for (const { info } of [dep, root]) {
        const file = join(store, `${info.storePath.slice(11, 43)}.narinfo`);
        await writeFile(file, edit(await readFile(file, 'utf8')));
      }
    };
    const edits: readonly ((text: string) => string)[] = [
      (text) => `${text}CA: foo\nX-Unknown: \x01\n`,
      (text) => `${text}Sig: garbage\n`,
      (text) => text.replace(/^FileHash: .*$/m, `FileHash: sha256:${'1'.repeat(52)}`),
      (text) => text.replace(/^FileHash: .*$/m, 'FileHash: sha256:x'),
      (text) => text.replace(/^FileSize: .*$/m, 'FileSize: 7'),
      (text) => text.replace(/^URL: .*$/m, 'URL: nar/nothing.nar.xz'),
      (text) => text.replace(/^Compression: .*$/m, 'Compression: zstd-19'),
    ];
    const store = await lab.folder('store');
    const first = await target();
    await succeeds(await fetch(store, first, [honestUrl]), store, first);
    for (const edit of edits) {
      await poison(store, edit);
      // From what the store itself has: there is no cache.
      const what = ['--store', store, '--no-upstream', '--trusted-public-key', honest.publicKey, ...ALONE];
      const repaired = await lab.run(['verify', '--deep', '--repair', ...what]);
      assert.equal(repaired.status, 0, `${String(edit)} ${repaired.stdout}${repaired.stderr}`);
      assert.equal(repaired.event('done')['repaired'], 2, String(edit));
      for (const { info } of [dep, root]) {
        const kept = await readFile(join(store, `${info.storePath.slice(11, 43)}.narinfo`), 'utf8');
        assert.equal(kept, formatNarInfo(info), String(edit));
      }
      await assertSound(store, honest.publicKey);
    }
    for (const edit of edits.slice(0, 2)) {
      await poison(store, edit);
      const second = await target();
      await succeeds(await fetch(store, second, []), store, second);
      for (const { info } of [dep, root])
        assert.deepEqual((await readNarInfos(store)).get(info.storePath.slice(11, 43)), info);
    }
  });
});

function fileOf({ info: { url, fileHash, fileSize } }: WrittenPath): Partial<NarInfo> {
  return { url, ...(fileHash && { fileHash }), ...(fileSize && { fileSize }) };
}
