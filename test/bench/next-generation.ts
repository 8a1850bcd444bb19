/** The closure of the next night: some paths of a binary cache differ, and so do those that refer to them. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import { parseNarInfo } from '../../src/nix/narinfo.ts';
import { DEFAULT_STORE_DIR } from '../../src/nix/store-path.ts';
import { describe, formatSigned, type BinaryCache } from './binary-cache.ts';
import { makeNar } from './made-nar.ts';
import { RandomStream } from './random.ts';

/** The paths of the next generation that are new. */
export interface NextGeneration {
  readonly rootPath: string;
  readonly nars: number;
  readonly bytes: number;
}

/** Adds the next generation to a cache. @param share of the NARs that differ, 0 to 1 */
export async function writeNextGeneration(cache: BinaryCache, share: number): Promise<NextGeneration> {
  const random = new RandomStream('next generation');
  // Paths refer to later ones only: the first ones are closed under what refers to them.
  const changed = cache.baseNames.slice(0, Math.round(cache.baseNames.length * share));
  const renamed = new Map(changed.map((name) => [name, `${encodeNix32(random.bytes(20))}${name.slice(32)}`]));
  let bytes = 0;
  for (const [before, name] of renamed) {
    const old = parseNarInfo(await readFile(join(cache.dir, `${before.slice(0, 32)}.narinfo`), 'utf8'));
    const made = await makeNar(name, old.fileSize ?? 0);
    const { nar, info } = describe(name, made);
    const references = old.references.map((one) => renamed.get(one) ?? one).toSorted();
    await writeFile(join(cache.dir, 'nar', nar.name), made.file);
    await writeFile(
      join(cache.dir, `${name.slice(0, 32)}.narinfo`),
      formatSigned({ ...info, references }, cache.secretKey),
    );
    bytes += made.file.length;
  }
  const [root = ''] = renamed.values();
  return { rootPath: `${DEFAULT_STORE_DIR}/${root}`, nars: renamed.size, bytes };
}
