/** File stores whose paths the real Nix has imported into the default store of a test (see nix-folder.ts). */
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import type { TestContext } from 'node:test';
import type { StorePath } from '../../../src/nix/brands.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { physicalPath } from '../../../src/nix/store-place.ts';
import { Catalogue } from '../../../src/store/catalogue/catalogue.ts';
import type { CatalogueEntry } from '../../../src/store/catalogue/catalogue-entry.ts';
import type { Releasing } from '../../../src/store/collect/release.ts';
import type { FileStore } from '../../../src/store/file-store.ts';
import { collectGarbage, type GcOptions, type GcResult } from '../../../src/store/gc.ts';
import { NixNars } from '../../../src/store/in-nix/nix-nars.ts';
import { CACHE_DIR, LEAF, NOTE, TOP } from '../../nix/fixtures.ts';
import { entryFor, filledStore, infoOf } from '../store-fixture.ts';

export interface ImportedStore {
  readonly store: FileStore;
  readonly top: NarInfo;
  readonly leaf: NarInfo;
  readonly note: NarInfo;
}

/** Makes a store with the three paths of the fixtures, fetched and imported. `top` refers to the others. */
export async function importedStore(t: TestContext): Promise<ImportedStore> {
  const store = await filledStore(t);
  const [top, leaf, note] = [await infoOf(store, TOP), await infoOf(store, LEAF), await infoOf(store, NOTE)];
  copyToNix(top);
  const entries = await Promise.all([TOP, LEAF, NOTE].map((hash) => entryFor(store, hash)));
  await (await Catalogue.open(store)).add(entries);
  return { store, top, leaf, note };
}

/** Makes the default Nix store have a path of the fixtures with its closure. */
export function copyToNix({ storePath }: Pick<NarInfo, 'storePath'>): void {
  const words = [
    'copy',
    '--no-check-sigs',
    '--extra-experimental-features',
    'nix-command',
    '--from',
    `file://${CACHE_DIR}`,
  ];
  const { status, stderr } = spawnSync('nix', [...words, storePath], { encoding: 'utf8' });
  assert.equal(status, 0, stderr);
}

/** Collects garbage, with everything pinned that `keep` names. */
export async function collect(
  store: FileStore,
  releasing: Partial<Releasing> = {},
  options: Partial<GcOptions> & { readonly keep?: readonly StorePath[]; readonly keeper?: string } = {},
): Promise<GcResult> {
  const { keep = [], keeper, ...rest } = options;
  return collectGarbage({
    store,
    roots: () => Promise.resolve(keep.map((storePath) => ({ storePath, keeper, isWhole: true }))),
    releasing: { when: 'always', nars: new NixNars(), imported: new Set(), ...releasing },
    maxBytes: undefined,
    dryRun: false,
    now: new Date(),
    signal: new AbortController().signal,
    onWarning: ({ kind }) => assert.fail(kind),
    ...rest,
  });
}

/** Returns where the default Nix store keeps a path. */
export function placeOf({ storePath }: Pick<NarInfo, 'storePath'>): string {
  const place = physicalPath(storePath, process.env.NIX_REMOTE ?? '');
  assert.ok(place !== undefined);
  return place;
}

/** Returns the catalogue's entry of a path, as a new process reads it. */
export async function entryIn(store: FileStore, { storePath }: Pick<NarInfo, 'storePath'>): Promise<CatalogueEntry> {
  const entry = (await Catalogue.open(store)).byStorePath(storePath);
  assert.ok(entry !== undefined);
  return entry;
}
