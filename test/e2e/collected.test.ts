/** A daemon whose NARs are in the Nix store alone, while Nix collects their paths, and while they come back. */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdir, rename, rm } from 'node:fs/promises';
import { get, type IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { ALONE, Lab, readNarInfos } from '../support/lab.ts';
import { NixClient } from '../support/nix-client.ts';
import { cacheAfterDaemon, narRequests, startSubstitution, type Substitution } from '../support/substituting.ts';

/** More than the buffers of a connection take. */
const LARGE = 32_000_000;
const LIMIT = { timeout: 180_000 };

suite('a path that Nix collects while a daemon runs', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let infos: readonly NarInfo[];

  before(async () => {
    lab = await Lab.open();
    made = await cacheAfterDaemon(lab, [LARGE, 60_000]);
    infos = [...(await readNarInfos(made.cacheDir)).values()].toSorted((a, b) => b.narSize - a.narSize);
  });
  after(() => lab[Symbol.asyncDispose]());

  interface Holder extends Substitution {
    /** Folder of its Nix store. */
    readonly root: string;
    /** Runs a program of Nix on that store. */
    readonly inNix: (...words: readonly string[]) => void;
  }

  /** Starts a daemon that keeps no NAR file, since its Nix store has all paths. */
  async function holder(): Promise<Holder> {
    const root = await lab.folder('nix');
    assert.equal(spawnSync('cp', ['-a', `${made.buildStore}/.`, root]).status, 0);
    const env = { NIX_REMOTE: `local?root=${root}` };
    const store = await lab.folder('store');
    const from = ['--from', `file://${made.cacheDir}`, '--trusted-public-key', made.publicKey, ...ALONE];
    const fetched = await lab.run(['fetch', made.root, '--no-copy', '--store', store, ...from], { env });
    assert.equal(fetched.status, 0, fetched.stderr);
    const pruned = await lab.run(['gc', '--store', store, '--keep-imported', 'recipe'], { env });
    assert.equal(pruned.status, 0, pruned.stderr);
    assert.deepEqual(await readdir(join(store, 'nar')), []);
    const inNix = (file = '', ...args: readonly string[]): void => {
      const { status, stderr } = spawnSync(file, args, { encoding: 'utf8', env: { ...lab.env, ...env } });
      assert.equal(status, 0, stderr);
    };
    return { ...(await startSubstitution(lab, made, { store, env })), root, inNix };
  }

  const questionOf = ({ url }: Holder, { storePath }: NarInfo): string =>
    `${url}/${storePath.slice('/nix/store/'.length).slice(0, 32)}.narinfo`;

  /** Asks in all ways. Every narinfo must name a NAR that is given. @returns the narinfo */
  async function told(one: Holder, info: NarInfo, userAgent = 'curl'): Promise<NarInfo | undefined> {
    const headers = { 'user-agent': userAgent };
    const url = questionOf(one, info);
    const [head, answer] = [await fetch(url, { method: 'HEAD', headers }), await fetch(url, { headers })];
    assert.equal(head.status, answer.status);
    if (answer.status === 404) return undefined;
    const given = parseNarInfo(await answer.text());
    const nar = await fetch(`${one.url}/${given.url}`, { headers });
    assert.equal(nar.status, 200);
    assert.equal((await nar.arrayBuffer()).byteLength, given.fileSize);
    return given;
  }

  test('is told to nobody if no cache has it, and again once it is back', LIMIT, async () => {
    await using one = await holder();
    await one.upstream.stop();
    for (const info of infos) assert.equal((await told(one, info))?.compression, 'none');
    one.inNix('nix-collect-garbage');
    for (const info of infos)
      for (const agent of ['curl', 'narswarm/1']) assert.equal(await told(one, info, agent), undefined);
    const copy = ['nix', 'copy', '--extra-experimental-features', 'nix-command', '--no-check-sigs'];
    one.inNix(...copy, '--from', `file://${made.cacheDir}`, made.root);
    for (const info of infos) while ((await told(one, info)) === undefined) await sleep(100);
  });

  test('is told as its cache tells it, and its NAR is fetched', LIMIT, async () => {
    await using one = await holder();
    const top = infos.find(({ storePath }) => storePath === made.root);
    assert.ok(top !== undefined);
    assert.equal((await told(one, top))?.compression, 'none');
    one.inNix('nix-store', '--delete', made.root);
    const given = await told(one, top);
    assert.deepEqual([given?.compression, given?.fileHash], ['xz', top.fileHash]);
    assert.equal(narRequests(one.upstream).get(`/${top.url}`), 1);
    const nix = await one.nix();
    const { status, stderr } = await nix.realise(made.root).ended;
    assert.equal(status, 0, stderr);
    await nix.assertHas(made.root);
    assert.equal(narRequests(one.second).size, 0);
  });

  test('ends the connection to whom its NAR is being sent', LIMIT, async () => {
    await using one = await holder();
    const [large] = infos;
    assert.ok(large !== undefined);
    const { url, narSize } = parseNarInfo(await (await fetch(questionOf(one, large))).text());
    const answer = await begin(`${one.url}/${url}`);
    assert.equal(answer.headers['content-length'], String(narSize));
    one.inNix('nix-collect-garbage');
    assert.ok((await restOf(answer)) < narSize);
    assert.equal(answer.complete, false);
  });

  test('is fetched by Nix from the next cache if it is collected while Nix reads it', LIMIT, async () => {
    await using one = await holder();
    const [large] = infos;
    assert.ok(large !== undefined);
    const settings = { fallback: true, 'download-attempts': 1, 'http-connections': 1 };
    const { second, url } = one;
    const substituters = [url, second.url];
    const nix = await NixClient.of(lab, { substituters, publicKey: made.publicKey, settings });
    await using run = nix.realise(large.storePath);
    await run.receiving(large.narSize);
    one.inNix('nix-collect-garbage');
    await one.upstream.stop();
    const { status, stderr } = await run.ended;
    assert.equal(status, 0, stderr);
    await nix.assertHas(large.storePath);
  });

  test('is offered no longer while the disk of the Nix store is away', LIMIT, async () => {
    await using one = await holder();
    await one.upstream.stop();
    for (const info of infos) assert.notEqual(await told(one, info), undefined);
    const [mounted, away] = [join(one.root, 'nix'), join(one.root, 'away')];
    await rename(mounted, away);
    for (const info of infos) assert.equal(await told(one, info), undefined);
    await rm(mounted, { recursive: true, force: true }); // Nix may have made an empty store there
    await rename(away, mounted);
    for (const info of infos) assert.notEqual(await told(one, info), undefined);
  });
});

/** Begins a download, and stops reading after its first bytes. */
async function begin(url: string): Promise<IncomingMessage> {
  const [answer] = (await once(get(url), 'response')) as [IncomingMessage];
  answer.on('error', () => undefined); // it may end before its end
  await once(answer, 'readable');
  return answer;
}

/** Reads on. @returns the bytes of the body until it ends, in whatever way */
async function restOf(answer: IncomingMessage): Promise<number> {
  let bytes = 0;
  answer.on('data', (chunk: Buffer) => (bytes += chunk.length));
  await new Promise((resolve) => answer.once('close', resolve)); // an error comes before it
  return bytes;
}
