import bencode from 'bencode';
import { isDictionary } from '../torrent/bencoding.ts';
import { ANNOUNCED_OPEN_REQUESTS, DEFAULT_OPEN_REQUESTS } from './bounds.ts';
import { extendedMessage } from './messages.ts';

/** The parts of a peer's handshake of extensions (BEP 10) that are used here. */
export interface PeerExtensions {
  /** Ids by name, of extensions that we speak; 0 withdraws one. */
  readonly ids: ReadonlyMap<string, number>;
  readonly metadataBytes: number | undefined;
  /** Limit on requests that it accepts at a time. */
  readonly maxRequests: number;
}

/** The values of a peer without a handshake. */
export const SILENT_PEER: PeerExtensions = {
  ids: new Map(),
  metadataBytes: undefined,
  maxRequests: DEFAULT_OPEN_REQUESTS,
};

/** Reads a handshake that the message guard has accepted. */
export function readExtendedHandshake(payload: Buffer, known: Iterable<string>): PeerExtensions {
  const { m, metadata_size: metadataBytes, reqq } = bencode.decode(payload) as Readonly<Record<string, unknown>>;
  const ids = new Map<string, number>();
  for (const name of known) {
    const id = isDictionary(m) && Object.hasOwn(m, name) ? m[name] : undefined;
    if (typeof id === 'number') ids.set(name, id);
  }
  return {
    ids,
    metadataBytes: typeof metadataBytes === 'number' ? metadataBytes : undefined,
    maxRequests: isCount(reqq) ? Math.min(reqq, ANNOUNCED_OPEN_REQUESTS) : DEFAULT_OPEN_REQUESTS,
  };
}

/**
 * Writes the handshake for the swarm, in the library's own form. The library decodes peers' handshakes in its own way,
 * and takes memory for as much metadata as is claimed. Keeps a withdrawn extension known to the library, which throws
 * if it answers over an unknown one. Its messages are not sent.
 */
export function handshakeForSwarm({ ids, maxRequests }: PeerExtensions): Buffer {
  const m = Object.fromEntries([...ids].filter(([, id]) => id !== 0));
  return extendedMessage(0, bencode.encode({ m, reqq: maxRequests }));
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0;
}
