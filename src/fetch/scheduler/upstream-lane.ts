import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { isSameNar } from '../../nix/signature.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { PartialNar } from '../../store/partial.ts';
import type { DirectionLimit } from '../../bytes/rate-limit.ts';
import type { HttpDownloads } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import { BlockWriter } from './block-writer.ts';
import { RETRIES_WITH_ALTERNATIVE, upstreamSource } from '../sources/narinfo-sources.ts';
import { bytesFrom, type Tell } from '../events.ts';
import type { NarJob } from '../plan/job.ts';
import { namedFile } from '../plan/named-file.ts';
import { SharedNar } from './shared-nar.ts';
import type { UpstreamOrder } from './upstream-order.ts';
import { UpstreamRace, type LapContext } from './upstream-race.ts';

/** Thrown if an upstream has the NAR in another file than requested: it compresses differently. */
export class OtherFile extends Error {
  readonly own: NarInfo & { readonly fileHash: FileHash; readonly fileSize: number };

  constructor(own: OtherFile['own']) {
    super(`another file of ${own.storePath}`);
    this.own = own;
  }
}

/** Means of fetching a NAR from upstreams. */
export interface UpstreamContext {
  readonly upstreams: readonly Upstream[];
  readonly order: UpstreamOrder;
  readonly http: HttpDownloads;
  readonly limit: DirectionLimit;
  /** Files of this NAR that were requested. An upstream that has one of those has no other. */
  readonly tried: ReadonlySet<FileHash>;
  readonly tell: Tell;
  readonly signal: AbortSignal;
  /** Returns true if no source has sent a byte for a moment. */
  readonly isLineSilent: () => boolean;
  /** False if the bytes of several sources must not be mixed, since one of them lied. */
  readonly mayRace: boolean;
  /** True if some peers were not asked since an upstream failed. Default: false. */
  readonly peersMayHelp?: boolean;
}

/**
 * Fetches the missing part of a NAR from the upstream caches in order, and from two at once while the first is slow.
 * Does not fetch bytes again that any source has sent.
 *
 * @throws OtherFile if none has this file and one has the same NAR in another file; an AggregateError of each
 *   upstream's failure if none could deliver; storage failures unchanged
 */
export async function fetchFromUpstreams(job: NarJob, partial: PartialNar, context: UpstreamContext): Promise<void> {
  const { upstreams, order, limit, signal } = context;
  const nar = new SharedNar(partial);
  const failures = await new UpstreamRace({
    upstreams,
    order,
    ask: (upstream, lap) => fetchFrom(upstream, job, { ...context, ...lap, partial, nar }),
    othersMayHelp: context.peersMayHelp,
    leftBytes: () => partial.sizeBytes - partial.heldBytes,
    isHeldBack: () => !context.mayRace || limit.isUsedUp,
    isLineSilent: context.isLineSilent,
    onOutcome: (upstream, failure) => order.note(upstream, failure),
    // Another file of an honest upstream comes before this file of a liar.
    isFatal: (error) =>
      isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE') ||
      (error instanceof OtherFile && upstreams.some((one) => order.isLiar(one))),
    signal,
  }).run();
  if (failures === undefined) return;
  const other = failures.find((failure) => failure instanceof OtherFile);
  if (other !== undefined) throw other;
  throw new AggregateError(failures, `no upstream delivered ${job.info.storePath}`);
}

interface LaneContext extends UpstreamContext, LapContext {
  readonly partial: PartialNar;
  readonly nar: SharedNar;
}

async function fetchFrom(upstream: Upstream, job: NarJob, context: LaneContext): Promise<void> {
  const { http, tell, limit, signal, givesWay, partial, nar } = context;
  const transfer = async (url: string): Promise<void> => {
    const rate = limit.towards(new URL(url).hostname);
    for (let left = Infinity; ;) {
      const missing = partial.missing();
      const range = missing.at(context.isSecond ? -1 : 0);
      if (range === undefined) return;
      // Each turn must make progress, or the loop would never end.
      const leftBefore = left;
      left = missing.reduce((sum, { from, to }) => sum + to - from, 0);
      if (left >= leftBefore) throw new Error(`${upstream.name} sends nothing more`);
      const writer = new BlockWriter(nar, range.from, upstream.name);
      try {
        await http.download(url, {
          offset: range.from,
          end: range.to,
          sizeBytes: job.sizeBytes,
          linkedFrom: upstream.url,
          isAnnounced: upstream.isAnnounced,
          signal,
          retries: givesWay ? RETRIES_WITH_ALTERNATIVE : undefined,
          givesWay,
          sink: (bytes) => {
            context.onBytes(bytes.length);
            tell(bytesFrom(upstream, job.fileHash, bytes.length));
            return both(writer.write(bytes), rate.pace(bytes.length, signal));
          },
        });
      } catch (error) {
        // Gathered bytes of a failed upstream may be wrong. The next upstream must not be blamed for them.
        if (signal.aborted) await writer.flush();
        else await writer.drop();
        throw error;
      }
      await writer.flush();
    }
  };
  try {
    await transfer(upstream.narUrl(job.info.url));
  } catch (error) {
    if (!isNarswarmError(error, 'HTTP_NOT_FOUND')) throw error;
    await transfer(await ownUrlOf(upstream, job, error, context));
  }
}

/** Waits for those that are promises. */
function both(first: void | Promise<void>, second: void | Promise<void>): void | Promise<void> {
  if (first === undefined) return second;
  return second === undefined ? first : Promise.all([first, second]).then(() => undefined);
}

/** Returns the URL in the upstream's own narinfo. A narinfo from another source may name the file differently. */
async function ownUrlOf(
  upstream: Upstream,
  job: NarJob,
  cause: unknown,
  { http, tried, signal, givesWay }: LaneContext,
): Promise<string> {
  const retries = givesWay ? RETRIES_WITH_ALTERNATIVE : undefined;
  const own = await upstreamSource(upstream, http, retries).find(storeHashOf(job.info.storePath), signal);
  if (own !== undefined && isSameNar(own, job.info) && own.fileHash !== job.fileHash) {
    const { fileHash, fileSize } = own;
    if (fileHash !== undefined && fileSize !== undefined && namedFile(own) !== undefined && !tried.has(fileHash))
      throw new OtherFile({ ...own, fileHash, fileSize });
  }
  if (own === undefined || own.fileHash !== job.fileHash || own.url === job.info.url) {
    throw new NarswarmError('NAR_UNAVAILABLE', `${upstream.name} does not hold the NAR of ${job.info.storePath}`, {
      cause,
      facts: { path: job.info.storePath, upstream: upstream.name },
    });
  }
  return upstream.narUrl(own.url);
}
