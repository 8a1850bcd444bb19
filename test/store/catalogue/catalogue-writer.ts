/** Adds entries to a catalogue, one write each: `catalogue-writer.ts STORE NAME COUNT`. Run by catalogue.test.ts. */
import type { FileHash, InfoHash, StorePath } from '../../../src/nix/brands.ts';
import { Catalogue } from '../../../src/store/catalogue/catalogue.ts';
import { FileStore } from '../../../src/store/file-store.ts';

const [dir = '', name = '', count = '0'] = process.argv.slice(2);
const catalogue = await Catalogue.open(await FileStore.open(dir, { create: false }));
for (let index = 0; index < Number(count); index++) {
  await catalogue.add([
    {
      storePath: `/nix/store/${'a'.repeat(32)}-${name}-${index}` as StorePath,
      fileHash: '0'.repeat(52) as FileHash,
      sizeBytes: index + 1,
      mtimeMs: 1,
      extension: 'xz',
      torrent: { infoHash: `${name}${index}`.padEnd(40, '0') as InfoHash, pieces: 'A'.repeat(2_000) },
      askedBy: 'fetch',
    },
  ]);
}
