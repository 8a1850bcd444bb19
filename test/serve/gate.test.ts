/** Each test removes one condition of the gate, and the NAR is no longer served. */
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { appendFile, readFile, rm, utimes, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import type { TestContext } from 'node:test';
import type { InfoHash } from '../../src/nix/brands.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import type { PublicKey } from '../../src/nix/signature.ts';
import { baseNameOf } from '../../src/nix/store-path.ts';
import { Catalogue, cataloguePath } from '../../src/store/catalogue/catalogue.ts';
import { noContents, pendingEntry, type CatalogueEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import type { FileStore } from '../../src/store/file-store.ts';
import { Gate } from '../../src/serve/gate.ts';
import { LEAF, NOTE, TOP } from '../nix/fixtures.ts';
import { entryFor, filledStore, infoOf, KEY, sharedBy, unchecked } from '../store/store-fixture.ts';

interface Door {
  readonly store: FileStore;
  readonly entry: CatalogueEntry;
  readonly narInfoPath: string;
  readonly narPath: string;
  readonly catalogue: Catalogue;
  readonly admits: (keys?: readonly PublicKey[]) => Promise<boolean>;
}

/** Makes a store with a requested path. */
async function door(t: TestContext): Promise<Door> {
  const store = await filledStore(t);
  const entry = await entryFor(store, LEAF);
  const info = await infoOf(store, LEAF);
  const catalogue = await Catalogue.open(store);
  await catalogue.add([entry]);
  const warm = new Gate(store, catalogue, sharedBy(store));
  assert.ok(await warm.admit(entry.torrent!.infoHash)); // it remembers this verdict, and must not use it
  return {
    store,
    entry,
    narInfoPath: `${store.dir}/${LEAF}.narinfo`,
    narPath: store.narPath(info),
    catalogue,
    admits: async (keys) => {
      const isAdmitted =
        (await new Gate(store, catalogue, sharedBy(store, keys)).admit(entry.torrent!.infoHash)) !== undefined;
      if (keys === undefined) assert.equal((await warm.admit(entry.torrent!.infoHash)) !== undefined, isAdmitted);
      return isAdmitted;
    },
  };
}

test('serves a requested, signed and unchanged NAR', async (t) => {
  const { store, entry, narPath, catalogue } = await door(t);
  const admitted = await new Gate(store, catalogue, sharedBy(store)).admit(entry.torrent!.infoHash);
  assert.equal(admitted?.path, narPath);
  assert.equal(admitted.torrent.infoHash, entry.torrent!.infoHash);
  assert.equal(admitted.torrent.sizeBytes, (await readFile(narPath)).length);
});

test('does not serve a signed NAR that nobody requested', async (t) => {
  const { store, catalogue } = await door(t);
  const gate = new Gate(store, catalogue, sharedBy(store));
  for (const other of [TOP, NOTE]) {
    assert.equal(await gate.admit((await entryFor(store, other)).torrent!.infoHash), undefined);
  }
  assert.equal(await gate.admit('a'.repeat(40) as InfoHash), undefined);
});

test('does not serve an unsigned path', async (t) => {
  const { narInfoPath, admits } = await door(t);
  const text = await readFile(narInfoPath, 'utf8');
  await writeFile(narInfoPath, text.replaceAll(/^Sig:.*\n/gm, ''));
  assert.equal(await admits(), false);
});

test('serves an unsigned path of its own if it follows from its content address', async (t) => {
  const store = await filledStore(t);
  const entry = await entryFor(store, NOTE, 'add');
  const info = await infoOf(store, NOTE);
  const catalogue = await Catalogue.open(store);
  await catalogue.add([entry]);
  const admits = async (change: Partial<NarInfo>): Promise<boolean> => {
    await store.rewriteNarInfo({ ...info, signatures: [], ...change });
    return (await new Gate(store, catalogue, sharedBy(store, [])).admit(entry.torrent!.infoHash)) !== undefined;
  };
  assert.equal(await admits({}), true);
  assert.equal(await admits({ references: [baseNameOf(info.storePath)] }), false);
  assert.equal(await admits({ ca: 'foo' }), false);
});

test('does not serve a path signed by a key that is not configured', async (t) => {
  const { admits } = await door(t);
  const stranger = { name: KEY.name, key: generateKeyPairSync('ed25519').publicKey };
  assert.equal(await admits([stranger]), false);
  assert.equal(await admits([]), false);
  assert.equal(await admits([stranger, KEY]), true);
});

test('does not serve a narinfo with changed signed facts', async (t) => {
  const { narInfoPath, admits } = await door(t);
  const text = await readFile(narInfoPath, 'utf8');
  await writeFile(
    narInfoPath,
    text.replace(/^NarSize: (\d+)$/m, (_line, size: string) => `NarSize: ${Number(size) + 1}`),
  );
  assert.equal(await admits(), false);
});

test('does not serve a narinfo of another path than in the catalogue', async (t) => {
  const { store, narInfoPath, admits } = await door(t);
  await writeFile(narInfoPath, await readFile(`${store.dir}/${NOTE}.narinfo`));
  assert.equal(await admits(), false);
});

test('does not serve a file for the signed narinfo of another path that names it', async (t) => {
  const { store, narInfoPath, admits } = await door(t);
  const [own, other] = [await readFile(narInfoPath, 'utf8'), await readFile(`${store.dir}/${NOTE}.narinfo`, 'utf8')];
  const fields = /^(?:URL|FileHash|FileSize): .*$/gm; // the signature does not cover them
  const values = own.match(fields) ?? [];
  assert.equal(values.length, 3);
  await writeFile(
    narInfoPath,
    other.replace(fields, () => values.shift() ?? ''),
  );
  assert.equal(await admits(), false);
});

test('does not serve a narinfo that names another file by its hash', async (t) => {
  const { narInfoPath, admits } = await door(t);
  const text = await readFile(narInfoPath, 'utf8');
  await writeFile(narInfoPath, text.replace(/^FileHash: .*$/m, `FileHash: sha256:${'0'.repeat(52)}`));
  assert.equal(await admits(), false);
});

test('does not serve a damaged or missing narinfo', async (t) => {
  const { narInfoPath, admits } = await door(t);
  await writeFile(narInfoPath, 'hello');
  assert.equal(await admits(), false);
  await rm(narInfoPath);
  assert.equal(await admits(), false);
});

test('does not serve a URL that leads out of the store', async (t) => {
  const { narInfoPath, admits } = await door(t);
  const text = await readFile(narInfoPath, 'utf8');
  await writeFile(narInfoPath, text.replace(/^URL: .*$/m, 'URL: ../../etc/passwd'));
  assert.equal(await admits().catch(() => false), false);
});

test('does not serve a changed file', async (t) => {
  const { narPath, admits } = await door(t);
  const later = new Date(Date.now() + 5_000);
  await utimes(narPath, later, later);
  assert.equal(await admits(), false);
});

test('does not serve a file of another size, even with the time of the old one', async (t) => {
  const { narPath, entry, admits } = await door(t);
  await appendFile(narPath, 'x');
  await utimes(narPath, entry.mtimeMs / 1000, entry.mtimeMs / 1000);
  assert.equal(await admits(), false);
});

test('does not serve a missing file', async (t) => {
  const { narPath, admits } = await door(t);
  await rm(narPath);
  assert.equal(await admits(), false);
});

test('does not serve an unchecked file, nor one with other contents than the signed ones', async (t) => {
  const { store, entry } = await door(t);
  const admits = async (listed: CatalogueEntry): Promise<boolean> => {
    const catalogue = new Catalogue(store);
    await rm(cataloguePath(store));
    await catalogue.add([listed]);
    return (await new Gate(store, catalogue, sharedBy(store)).admit(entry.torrent!.infoHash)) !== undefined;
  };
  assert.equal(await admits(unchecked(entry)), false);
  assert.equal(await admits({ ...entry, narHash: (await infoOf(store, NOTE)).narHash }), false);
  assert.equal(await admits({ ...entry, narHash: noContents(1_000_000) }), false);
  assert.equal(await admits(entry), true);
});

test('does not serve a path whose file is not hashed yet', async (t) => {
  const { store, catalogue } = await door(t);
  const { fileHash, sizeBytes, extension, mtimeMs, storePath } = await entryFor(store, NOTE);
  await catalogue.add([pendingEntry({ fileHash, sizeBytes, extension, mtimeMs }, storePath, 'fetch')]);
  assert.equal(await new Gate(store, catalogue, sharedBy(store)).admit('' as InfoHash), undefined);
});
