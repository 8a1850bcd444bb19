/** Reads NARs out of a Nix store, as `ssh://` stores do (Nix: src/libstore/serve-protocol.hh). */
import type { StoreCallOptions } from './run-nix.ts';
import { greet, startServe } from './serve-process.ts';
import type { ValidPath } from '../valid-path.ts';
import { encodeNumber, encodeString, WireReader } from './wire-format.ts';

const DUMP_STORE_PATH = 3;

/** A path, and its NAR as it arrives. */
export interface DumpedNar<T> {
  readonly path: T;
  /** NarSize bytes. Nix does not check them: a store may be damaged. */
  readonly nar: AsyncIterable<Buffer>;
}

/**
 * Yields the NARs of paths, in their order, by one process of Nix. Take the whole of each before the next one.
 *
 * @throws NarswarmError `NIX_FAILED`, also if Nix is not installed; the signal's reason
 */
export async function* dumpNars<T extends Pick<ValidPath, 'storePath' | 'narSize'>>(
  paths: readonly T[],
  options: StoreCallOptions,
): AsyncGenerator<DumpedNar<T>> {
  const process = startServe(options);
  const reader = new WireReader(process.stdout);
  const orThrow = async function* (bytes: AsyncIterable<Buffer>): AsyncGenerator<Buffer> {
    try {
      yield* bytes;
    } catch (error) {
      throw await process.failure(error);
    }
  };
  try {
    await greet(process, reader).catch(async (error: unknown) => Promise.reject(await process.failure(error)));
    for (const { storePath } of paths)
      process.stdin.write(Buffer.concat([encodeNumber(DUMP_STORE_PATH), encodeString(storePath)]));
    process.stdin.end(); // a NAR that is too short ends the stream instead of leaving it silent
    for (const path of paths) yield { path, nar: orThrow(reader.bytes(path.narSize)) };
  } finally {
    await process.end();
  }
}
