/** Synthetic NARs, and xz files of NARs, which are kept between runs: xz takes a minute for a large closure. */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { NarHash } from '../../src/nix/brands.ts';
import { narHashOf } from '../../src/nix/hash.ts';
import { RandomStream } from './random.ts';

/** A NAR as a cache has it. */
export interface MadeNar {
  /** The xz file. */
  readonly file: Buffer;
  readonly narHash: NarHash;
  readonly narSize: number;
}

/** Repetitions of each block: real NARs are about four times as large as their xz files, too. */
const REPEATS = 4;
const BLOCK_BYTES = 4096;
/** Measured bytes that xz adds to each block. */
const OVERHEAD = 1.017;
/** The fastest options of xz. Its dictionary holds some blocks. */
const OPTIONS = ['--lzma2=mode=fast,mf=hc3,dict=64KiB,nice=32'];
const KEPT = fileURLToPath(new URL('../../node_modules/.cache/bench-nars', import.meta.url));

/**
 * Makes a NAR whose xz file has about `fileBytes`: the same seed always gives the same.
 *
 * @throws Error without xz
 */
export async function makeNar(seed: string, fileBytes: number): Promise<MadeNar> {
  const random = new RandomStream(seed);
  const blocks: Buffer[] = [];
  for (let left = Math.ceil(fileBytes / OVERHEAD); left > 0; left -= BLOCK_BYTES) {
    const block = random.bytes(Math.min(left, BLOCK_BYTES));
    blocks.push(...Array.from({ length: REPEATS }, () => block));
  }
  return compressedNar(Buffer.concat(blocks), OPTIONS);
}

/**
 * Compresses a NAR, unless an earlier run has done it.
 *
 * @param options of xz; they decide only about a NAR that is not kept yet
 * @throws Error without xz
 */
export async function compressedNar(nar: Buffer, options: readonly string[]): Promise<MadeNar> {
  const digest = createHash('sha256').update(nar).digest();
  const kept = join(KEPT, `${digest.toString('hex')}.xz`);
  const file = (await readFile(kept).catch(() => undefined)) ?? (await compressTo(kept, nar, options));
  return { file, narHash: narHashOf(digest), narSize: nar.length };
}

async function compressTo(path: string, nar: Buffer, options: readonly string[]): Promise<Buffer> {
  const file = await compress(nar, options);
  await mkdir(KEPT, { recursive: true });
  await writeFile(`${path}.new`, file);
  await rename(`${path}.new`, path); // whole, also where a run is stopped
  return file;
}

function compress(nar: Buffer, options: readonly string[]): Promise<Buffer> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
  const child = execFile(
    'xz',
    [...options, '--stdout'],
    { encoding: 'buffer', maxBuffer: Infinity },
    (error, stdout) => {
      if (error === null) resolve(stdout);
      else reject(new Error(`the benchmark needs xz, to make NARs with: ${error.message}`, { cause: error }));
    },
  );
  child.stdin?.on('error', () => undefined); // the end of the process tells
  child.stdin?.end(nar);
  return promise;
}
