import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { IndexSource } from '../hash-map.ts';
import { MANIFEST_NAME } from '../files/index-torrent.ts';
import { MAX_MANIFEST_BYTES } from '../format/limits.ts';
import { openFetched, type Lookup, type Resolved } from './open-map.ts';
import { orMembers } from '../files/or-members.ts';

/** Fetches a small file over HTTP. Undefined if it does not exist. */
export type GetBytes = (
  url: string,
  options: { maxBytes: number; signal: AbortSignal },
) => Promise<Uint8Array | undefined>;

/**
 * Opens the edition of a publisher's HTTP mirror. Members give the shards that the mirror does not.
 *
 * @throws INDEX_UNREACHABLE, INDEX_SIGNATURE, INDEX_INVALID, INDEX_EXPIRED, INDEX_ROLLBACK; the signal's reason
 */
export async function resolveByMirror(lookup: Lookup, baseUrl: string, getBytes: GetBytes): Promise<Resolved> {
  const source = orMembers(new Mirror(baseUrl, getBytes), lookup);
  const bytes = await source.readFile(MANIFEST_NAME, { maxBytes: MAX_MANIFEST_BYTES, signal: lookup.signal });
  return await openFetched(lookup, bytes, source, new URL(baseUrl).hostname);
}

/** Reads the files of a hash map over HTTP. */
class Mirror implements IndexSource {
  readonly #baseUrl: string;
  readonly #getBytes: GetBytes;

  constructor(baseUrl: string, getBytes: GetBytes) {
    this.#baseUrl = baseUrl;
    this.#getBytes = getBytes;
  }

  async readFile(name: string, options: { maxBytes: number; signal: AbortSignal }): Promise<Uint8Array> {
    const url = this.#baseUrl;
    const bytes = await this.#getBytes(`${url}/${name}`, options).catch((cause: unknown) => {
      if (!isNarswarmError(cause, 'HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED')) throw cause;
      throw new NarswarmError('INDEX_UNREACHABLE', `no hash map from its mirror: ${cause.message}`, {
        cause,
        facts: { url },
      });
    });
    if (bytes !== undefined) return bytes;
    throw new NarswarmError(
      'INDEX_UNREACHABLE',
      `${url}/${name} does not exist: check that this is the mirror of a hash map`,
      { facts: { url } },
    );
  }
}
