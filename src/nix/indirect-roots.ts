/**
 * Registers symbolic links as indirect GC roots, also links to paths that are not valid yet. No command of Nix does that:
 * `nix-store --add-root` wants a valid path, and by then a garbage collector may have taken it. So this speaks the
 * protocol of the Nix daemon (Nix: src/libstore/daemon.cc) with `nix-daemon --stdio`, which works on the store itself or
 * passes on to the running daemon, as this user's Nix does.
 */
import { NarswarmError } from '../errors.ts';
import type { StoreCallOptions } from './run-nix.ts';
import { startWorker } from './serve-process.ts';
import { encodeNumber, encodeString, WireReader } from './wire-format.ts';

const HELLO = 0x6e_69_78_63;
const HELLO_BACK = 0x64_78_69_6f;
/** The protocol of Nix 2.15, the newest without a list of features. Nix 2.8 has 1.34. */
const VERSION = 0x1_23;
const WITH_NIX_VERSION = 0x1_21;
const WITH_TRUST = 0x1_23;
const ADD_INDIRECT_ROOT = 12;

/** Messages before the answer to a request. */
const LAST = 0x61_6c_74_73;
const LOG_LINE = 0x6f_6c_6d_67;
const ERROR = 0x63_78_74_70;

/**
 * Registers links with a store on this machine. Nix forgets them by itself once they are gone.
 *
 * @param links absolute paths of symbolic links that exist
 * @param options.store a store URI. Undefined: Nix's default store
 * @throws NarswarmError `NIX_FAILED`, also if Nix is not installed; the signal's reason
 */
export async function addIndirectRoots(links: readonly string[], options: StoreCallOptions = {}): Promise<void> {
  if (links.length === 0) return;
  options.signal?.throwIfAborted();
  const nix = startWorker(options);
  const reader = new WireReader(nix.stdout);
  const send = (...parts: readonly Buffer[]): void => void nix.stdin.write(Buffer.concat(parts));
  try {
    send(encodeNumber(HELLO));
    if ((await reader.number()) !== HELLO_BACK) throw unknownProtocol();
    const version = Math.min(await reader.number(), VERSION);
    const neitherAffinityNorReserve = [encodeNumber(0), encodeNumber(0)];
    send(encodeNumber(version), ...neitherAffinityNorReserve);
    if (version >= WITH_NIX_VERSION) await reader.string();
    if (version >= WITH_TRUST) await reader.number();
    await finish(reader);
    for (const link of links) {
      send(encodeNumber(ADD_INDIRECT_ROOT), encodeString(link));
      await finish(reader);
      await reader.number(); // always 1
    }
  } catch (error) {
    if (error instanceof RefusedByNix)
      throw new NarswarmError('NIX_FAILED', `nix failed: ${error.message}`, { cause: error });
    throw await nix.failure(error);
  } finally {
    await nix.end();
  }
}

/** Nix's own words about a request. */
class RefusedByNix extends Error {}

/** Reads up to the end of a request. */
async function finish(reader: WireReader): Promise<void> {
  for (;;) {
    const message = await reader.number();
    if (message === LAST) return;
    if (message === ERROR) throw await readError(reader);
    if (message !== LOG_LINE) throw unknownProtocol();
    await reader.string();
  }
}

async function readError(reader: WireReader): Promise<RefusedByNix> {
  await reader.string(); // "Error"
  await reader.number(); // level
  await reader.string(); // name
  return new RefusedByNix(await reader.string());
}

function unknownProtocol(): NarswarmError {
  return new NarswarmError('NIX_FAILED', 'nix-daemon --stdio does not speak a protocol that narswarm knows');
}
