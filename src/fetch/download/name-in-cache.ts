import type { HttpDownloads } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import { isSameNar } from '../../nix/signature.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { pieceLengthOf } from '../../torrent/canonical.ts';
import type { NarJob } from '../plan/job.ts';
import { RETRIES_WITH_ALTERNATIVE, upstreamSource } from '../sources/narinfo-sources.ts';

/**
 * Returns true if only another source, such as a neighbour, has named the file of a NAR. Once a configured cache names
 * it, too, its parts can be given as they arrive.
 */
export function lacksName({ namedBy, torrent, sizeBytes }: NarJob): boolean {
  return namedBy === undefined && torrent === undefined && sizeBytes > pieceLengthOf(sizeBytes);
}

/** Returns the first configured cache whose own narinfo names the file of a job. Undefined if there is none. */
export async function cacheThatNames(
  { fileHash, info }: NarJob,
  upstreams: readonly Upstream[],
  http: HttpDownloads,
  signal: AbortSignal,
): Promise<Upstream | undefined> {
  for (const upstream of upstreams.filter(({ isAnnounced }) => !isAnnounced)) {
    const source = upstreamSource(upstream, http, RETRIES_WITH_ALTERNATIVE);
    const own = await source.find(storeHashOf(info.storePath), signal).catch(() => undefined);
    if (own?.fileHash === fileHash && isSameNar(own, info)) return upstream;
  }
  return undefined;
}
