/**
 * Nobody vouches for the NarHash of an unsigned path. Its contents are checked against its content address before others
 * get it. The real Nix made the paths (fixtures/nix/content-addresses/make.sh).
 */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import { zstdCompressSync } from 'node:zlib';
import { collectRecords } from '../../src/publish/collect-records.ts';
import { verifiesContentAddress } from '../../src/nix/content-address.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { isTrusted } from '../../src/nix/signature.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { NixNars } from '../../src/store/in-nix/nix-nars.ts';
import { Gate } from '../../src/serve/gate.ts';
import { NarChecker } from '../../src/serve/nar-checker.ts';
import { verifyStore } from '../../src/store/verify.ts';
import { emptyStore, entryFor, sharedBy, unchecked } from './store-fixture.ts';
import type { Fault } from '../../src/store/damage/fault.ts';

const FOLDER = new URL('../../fixtures/nix/content-addresses/cache/', import.meta.url);
const HASHES = {
  text: 'migf3i53pc35bf1lkscgbi243my58ims',
  flat: '123wnf4jmc02x22gs983c6iayg01xaqn',
  'tree by md5': 'zxansk4wvf7d9apcvgjnq8bd3ac59sd0',
  'refers to itself': 'y37xnqz3yvsgv7fds92bivj9w22gpz7h',
};
const OTHER = 'k763zwkxdgnw610bm4jy5vx5wafcwysk';

interface Path {
  readonly info: NarInfo;
  readonly nar: Buffer;
}

function read(hash: string): Path {
  const info = parseNarInfo(readFileSync(new URL(`${hash}.narinfo`, FOLDER), 'utf8'));
  return { info, nar: readFileSync(new URL(info.url, FOLDER)) };
}

/** The path with other contents, and a narinfo that says so. */
function forged({ info }: Path, { info: other, nar }: Path): Path {
  return { info: { ...info, narHash: other.narHash, narSize: other.narSize }, nar };
}

async function storeWith(t: TestContext, { info, nar }: Path, compression: 'none' | 'zstd'): Promise<FileStore> {
  const store = await emptyStore(t);
  const file = compression === 'none' ? nar : zstdCompressSync(nar);
  const fileHash = fileHashOf(createHash('sha256').update(file).digest());
  const url = FileStore.narUrl(fileHash, compression === 'none' ? '' : 'zst');
  const described = { ...info, url, compression, fileHash, fileSize: file.length };
  writeFileSync(store.narPath(described), file);
  await store.rewriteNarInfo(described);
  return store;
}

/** Returns whether the gate lets the NAR through, and whether a hash map has it. */
async function reaches(store: FileStore, hash: string): Promise<{ peers: boolean; map: boolean }> {
  const { signal } = new AbortController();
  const catalogue = await Catalogue.open(store);
  const entry = unchecked(await entryFor(store, hash, 'publish'));
  await catalogue.add([entry]);
  await using checker = new NarChecker({
    store,
    catalogue,
    nixNars: new NixNars(),
    keys: [],
    onWarning: () => undefined,
  });
  const info = await store.readNarInfoOf(entry.storePath);
  assert(info !== undefined);
  await checker.check(entry, info, 'now'); // the gate would wait for it half a second
  const peers =
    (await new Gate(store, catalogue, sharedBy(store, []), checker).admit(entry.torrent!.infoHash)) !== undefined;
  const { records } = await collectRecords([info], { store, catalogue, keys: [], signal });
  return { peers, map: records.length === 1 };
}

for (const [kind, hash] of Object.entries(HASHES)) {
  for (const compression of ['none', 'zstd'] as const) {
    test(`${kind}, compression ${compression}`, async (t) => {
      const path = read(hash);
      const right = await storeWith(t, path, compression);
      assert.deepEqual(await reaches(right, hash), { peers: true, map: true });
      const lie = forged(path, read(OTHER));
      assert(verifiesContentAddress(lie.info), 'the path follows from the address all the same');
      const wrong = await storeWith(t, lie, compression);
      assert.deepEqual(await reaches(wrong, hash), { peers: false, map: false });
      const faults: Fault[] = [];
      const onDamage = ({ fault }: { fault: Fault }): number => faults.push(fault);
      const { signal } = new AbortController();
      await verifyStore({ store: wrong, hashes: undefined, deep: true, keys: [], signal, onDamage });
      assert.partialDeepStrictEqual(faults, [{ kind: 'wrong-nar-named', contents: { kind: 'unusable-contents' } }]);
    });
  }
}

test('does not give others contents that only Nix can check', () => {
  const { info } = read(OTHER);
  const git = { ...info, ca: 'fixed:git:sha1:pzki9p5zq6xfkkhkmrx2bhwzqafnwagx' };
  const storePath = '/nix/store/p3mq27al6qgja0m0b97nq1vs55fa34pr-source' as NarInfo['storePath'];
  assert(verifiesContentAddress({ ...git, storePath }));
  assert(!isTrusted({ ...git, storePath }, []));
  assert(isTrusted(info, []));
});
