/** NARs of this machine's own files, below /usr: Nix unpacks them, and they compress as those of packages do. */
import { lstat, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { encodeNumber, encodeString } from '../../src/nix/programs/wire-format.ts';
import type { NarMaker } from './binary-cache.ts';
import { compressedNar } from './made-nar.ts';
import { RandomStream } from './random.ts';

const FOLDERS = ['/usr/bin', '/usr/include', '/usr/lib', '/usr/share'];
/** Measured size of a NAR of these files, divided by that of its xz file. */
const RATIO = 3.8;
/** As the build servers of Nix do it. */
const OPTIONS = ['-6', '--threads=1'];
/** Shares of the wanted size that may be missing, and files in a row that are too large before the search ends. */
const TOLERANCE = 0.03;
const MAX_MISSES = 300;

/** A file of a NAR. */
interface Content {
  readonly isExecutable: boolean;
  readonly data: Buffer;
}

/**
 * Lists the files once.
 *
 * @param options of xz. Default: those of Nix's build servers
 * @returns a maker of NARs: the same seed gives the same, as long as the files stay as they are
 */
export async function systemNars(options: readonly string[] = OPTIONS): Promise<NarMaker> {
  const found = await Promise.all(FOLDERS.map((dir) => readdir(dir, { recursive: true, withFileTypes: true })));
  const paths = found
    .flat()
    .flatMap((entry) => (entry.isFile() ? [join(entry.parentPath, entry.name)] : []))
    .toSorted();
  return async (seed, fileBytes) => compressedNar(formatNar(await choose(paths, seed, fileBytes * RATIO)), options);
}

/** Draws files with about `wantedBytes` in all. */
async function choose(paths: readonly string[], seed: string, wantedBytes: number): Promise<Content[]> {
  const random = new RandomStream(seed);
  const chosen: Content[] = [];
  let left = wantedBytes;
  for (let misses = 0; left > wantedBytes * TOLERANCE && misses < MAX_MISSES;) {
    const path = paths[random.below(paths.length)] ?? '';
    const stats = await lstat(path).catch(() => undefined); // this machine may change meanwhile
    const isFit = stats !== undefined && stats.size <= left;
    const data = isFit ? await readFile(path).catch(() => undefined) : undefined; // some are root's alone
    misses = data === undefined ? misses + 1 : 0;
    if (stats === undefined || data === undefined) continue;
    chosen.push({ isExecutable: (stats.mode & 0o111) !== 0, data });
    left -= data.length;
  }
  return chosen;
}

/** A NAR of one folder with these files (Nix: src/libutil/archive.cc). */
function formatNar(files: readonly Content[]): Buffer {
  const parts = words('nix-archive-1', '(', 'type', 'directory');
  for (const [index, { isExecutable, data }] of files.entries()) {
    const name = `file-${String(index).padStart(6, '0')}`; // in order
    parts.push(...words('entry', '(', 'name', name, 'node', '(', 'type', 'regular'));
    if (isExecutable) parts.push(...words('executable', ''));
    const padding = Buffer.alloc((8 - (data.length % 8)) % 8);
    parts.push(...words('contents'), encodeNumber(data.length), data, padding, ...words(')', ')'));
  }
  return Buffer.concat([...parts, ...words(')')]);
}

function words(...texts: readonly string[]): Buffer[] {
  return texts.map(encodeString);
}
