/** Partial NARs in folders that vanish. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { isNarswarmError } from '../../src/errors.ts';
import { HashThread } from '../../src/bytes/hash-thread.ts';
import { PartialNar } from '../../src/store/partial.ts';
import { torrentOf } from '../swarm/swarm-fixture.ts';
import { tempDir } from './store-fixture.ts';

/** Hashes and writes what arrives, in a thread if a test has started it. */
export const hashThread = new HashThread();

export interface Case {
  readonly bytes: Buffer;
  readonly path: string;
  readonly target: string;
  readonly begin: (options?: { pieceless?: boolean; leftovers?: Set<string> }) => Promise<PartialNar>;
  readonly piece: (index: number) => Buffer;
}

/** Makes a NAR to be received. Above 1 MiB it is in a file from the first byte on. */
export async function prepare(t: TestContext, sizeBytes: number, dir?: string): Promise<Case> {
  const bytes = randomBytes(sizeBytes);
  const torrent = torrentOf(bytes);
  const folder = dir ?? (await tempDir(t));
  const path = join(folder, 'partial');
  return {
    bytes,
    path,
    target: join(folder, 'target'),
    begin: async ({ pieceless = false, leftovers } = {}) => {
      const expected = { sizeBytes, fileHash: torrent.fileHash, torrent: pieceless ? undefined : torrent };
      const partial = await PartialNar.open(path, expected, leftovers, hashThread);
      t.after(() => partial.close());
      return partial;
    },
    piece: (index) => bytes.subarray(index * torrent.pieceLength, (index + 1) * torrent.pieceLength),
  };
}

/** Returns the code and the facts of the expected NarswarmError. */
export async function failureOf(
  work: Promise<unknown>,
): Promise<{ code: string; facts: Readonly<Record<string, unknown>> }> {
  const error: unknown = await work.then(
    () => assert.fail('it did not fail'),
    (cause: unknown) => cause,
  );
  assert.ok(isNarswarmError(error), String(error));
  return { code: error.code, facts: error.facts };
}
