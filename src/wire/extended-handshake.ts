import bencode from 'bencode';
import { isDictionary } from '../torrent/bencoding.ts';
import { ANNOUNCED_OPEN_REQUESTS, DEFAULT_OPEN_REQUESTS } from './bounds.ts';
import { extendedMessage } from './messages.ts';

/** What a peer says of itself in its handshake of extensions (BEP 10), as far as anybody here reads it. */
export interface PeerExtensions {
  /** By name, of those that we speak; 0 takes one back. */
  readonly ids: ReadonlyMap<string, number>;
  readonly metadataBytes: number | undefined;
  /** Requests that it takes at a time. */
  readonly maxRequests: number;
}

/** What a peer says that says nothing of itself. */
export const SILENT_PEER: PeerExtensions = {
  ids: new Map(),
  metadataBytes: undefined,
  maxRequests: DEFAULT_OPEN_REQUESTS,
};

/** Reads a handshake that the message guard has found sound. */
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
 * The same handshake for the swarm, in the library's own words: it decodes what a peer sends in ways of its own, and
 * takes memory for as much metadata as is claimed. An extension that was taken back stays known to it, since it throws
 * where it answers over one that is not; nothing of it goes out.
 */
export function handshakeForSwarm({ ids, maxRequests }: PeerExtensions): Buffer {
  const m = Object.fromEntries([...ids].filter(([, id]) => id !== 0));
  return extendedMessage(0, bencode.encode({ m, reqq: maxRequests }));
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value > 0;
}
