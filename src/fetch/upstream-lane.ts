import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { FileHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { fingerprint } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import type { PartialNar } from '../store/partial.ts';
import { giveBack, takeBuffer } from '../torrent/lent-buffers.ts';
import type { RateLimit } from '../torrent/rate-limit.ts';
import type { HttpClient } from '../http/client.ts';
import type { Upstream } from '../http/upstream.ts';
import { RETRIES_WITH_ALTERNATIVE, upstreamSource } from './find-narinfo.ts';
import type { JobObserver, NarJob } from './job.ts';

/** Lies about one NAR after which an upstream is not asked for it again: the first may have been an accident. */
const MAX_LIES = 2;

/** NARs in a row that an upstream lacked, after which it is asked after the others. */
const MISSES = 2;

/** An upstream has the NAR, but not the file that was asked for: it compresses otherwise. */
export class OtherFile extends Error {
  readonly own: NarInfo & { readonly fileHash: FileHash; readonly fileSize: number };

  constructor(own: OtherFile['own']) {
    super(`another file of ${own.storePath}`);
    this.own = own;
  }
}

/** Which upstreams to ask, and in what order: the given one, but those that fail or lie come after the others. */
export class UpstreamOrder {
  readonly #upstreams: readonly Upstream[];
  readonly #failing = new Set<Upstream>();
  /** NARs in a row that each did not have. */
  readonly #misses = new Map<Upstream, number>();

  constructor(upstreams: readonly Upstream[]) {
    this.#upstreams = upstreams;
  }

  /** @param lies how often each upstream, by its name, sent wrong bytes of the NAR */
  of(lies: ReadonlyMap<string, number>): Upstream[] {
    const count = (upstream: Upstream): number => lies.get(upstream.name) ?? 0;
    const isUseless = (upstream: Upstream): boolean =>
      this.#failing.has(upstream) || (this.#misses.get(upstream) ?? 0) >= MISSES;
    const rank = (upstream: Upstream): number => count(upstream) * 2 + (isUseless(upstream) ? 1 : 0);
    return this.#upstreams.filter((one) => count(one) < MAX_LIES).toSorted((a, b) => rank(a) - rank(b));
  }

  /** Takes down whether an upstream could be relied on. */
  note(upstream: Upstream, failure: unknown): void {
    const isMiss = isNarswarmError(failure, 'NAR_UNAVAILABLE', 'HTTP_NOT_FOUND');
    this.#misses.set(upstream, isMiss ? (this.#misses.get(upstream) ?? 0) + 1 : 0);
    if (failure === undefined) this.#failing.delete(upstream);
    else if (isNarswarmError(failure, 'HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED')) this.#failing.add(upstream);
  }
}

/**
 * Fetches what is missing of a NAR from the upstream caches, in their order. Bytes that came before, from whatever
 * source, are not fetched again.
 *
 * @throws OtherFile where none has this file and one has the same NAR in another; an AggregateError of what each upstream
 *   said, where none could deliver; storage failures as they are
 */
export async function fetchFromUpstreams(
  job: NarJob,
  partial: PartialNar,
  context: {
    upstreams: readonly Upstream[];
    http: HttpClient;
    limit: RateLimit;
    /** Files of this NAR that were asked for: an upstream that has one of those has no other. */
    tried: ReadonlySet<FileHash>;
    observer: JobObserver;
    signal: AbortSignal;
    /** Told how each upstream did that was asked. */
    onOutcome?: (upstream: Upstream, failure: unknown) => void;
  },
): Promise<void> {
  const failures: unknown[] = [];
  for (const upstream of context.upstreams) {
    try {
      const givesWay = upstream !== context.upstreams.at(-1);
      const retries = givesWay ? RETRIES_WITH_ALTERNATIVE : undefined;
      await fetchFrom(upstream, job, partial, { ...context, retries, givesWay });
      context.onOutcome?.(upstream, undefined);
      return;
    } catch (error) {
      context.signal.throwIfAborted();
      if (isNarswarmError(error, 'STORE_FULL', 'STORE_UNWRITABLE')) throw error;
      context.onOutcome?.(upstream, error);
      failures.push(error);
    }
  }
  const other = failures.find((failure) => failure instanceof OtherFile);
  if (other !== undefined) throw other;
  throw new AggregateError(failures, `no upstream delivered ${job.info.storePath}`);
}

async function fetchFrom(
  upstream: Upstream,
  job: NarJob,
  partial: PartialNar,
  context: {
    http: HttpClient;
    limit: RateLimit;
    tried: ReadonlySet<FileHash>;
    observer: JobObserver;
    signal: AbortSignal;
    retries: number | undefined;
    givesWay: boolean;
  },
): Promise<void> {
  const { http, observer, limit, signal, retries, givesWay } = context;
  const transfer = async (url: string): Promise<void> => {
    for (const { from, to } of partial.missing()) {
      const writer = new BlockWriter(partial, from, upstream.name);
      try {
        await http.download(url, {
          offset: from,
          end: to,
          sizeBytes: job.sizeBytes,
          signal,
          retries,
          givesWay,
          sink: async (bytes) => {
            observer.onBytes('upstream', upstream.name, bytes.length);
            await writer.write(bytes);
            await limit.pace(bytes.length, signal);
          },
        });
      } catch (error) {
        // of an upstream that fails, what is gathered may be anything: the next one must not be blamed for it
        if (signal.aborted) await writer.flush();
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

/** A narinfo that came from elsewhere may name the file otherwise than this upstream does: ask the upstream's own. */
async function ownUrlOf(
  upstream: Upstream,
  job: NarJob,
  cause: unknown,
  { http, tried, signal, retries }: Pick<Parameters<typeof fetchFrom>[3], 'http' | 'tried' | 'signal' | 'retries'>,
): Promise<string> {
  const own = await upstreamSource(upstream, http, retries).find(storeHashOf(job.info.storePath), signal);
  if (own !== undefined && isSameNar(own, job.info) && own.fileHash !== job.fileHash) {
    const { fileHash, fileSize } = own;
    if (fileHash !== undefined && fileSize !== undefined && !tried.has(fileHash))
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

/** True where the signature of the one narinfo, which was checked, is over what the other says, too. */
function isSameNar(own: NarInfo, signed: NarInfo): boolean {
  return own.storePath === signed.storePath && fingerprint(own) === fingerprint(signed);
}

/** Gathers the 64 KiB that a socket gives at a time into writes worth a system call. */
class BlockWriter {
  static readonly #blockBytes = 512 * 1024;
  readonly #partial: PartialNar;
  readonly #origin: string;
  #offset: number;
  #block: Buffer | undefined;
  #bytes = 0;

  constructor(partial: PartialNar, offset: number, origin: string) {
    this.#partial = partial;
    this.#offset = offset;
    this.#origin = origin;
  }

  async write(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length;) {
      this.#block ??= takeBuffer(BlockWriter.#blockBytes);
      const part = chunk.subarray(at, at + BlockWriter.#blockBytes - this.#bytes);
      this.#block.set(part, this.#bytes);
      this.#bytes += part.length;
      at += part.length;
      if (this.#bytes === BlockWriter.#blockBytes) await this.flush();
    }
  }

  async flush(): Promise<void> {
    if (this.#block === undefined) return;
    const block = this.#block;
    const bytes = block.subarray(0, this.#bytes);
    const offset = this.#offset;
    this.#offset += this.#bytes;
    this.#block = undefined;
    this.#bytes = 0;
    await this.#partial.write(offset, [bytes], this.#origin);
    giveBack(block);
  }
}
