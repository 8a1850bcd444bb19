import { RateMeter } from '../bytes/rate-meter.ts';
import { SteadyRate } from '../bytes/steady-rate.ts';
import { formatEndpoint, hostOf } from '../discovery/endpoint.ts';
import type { ByteSource, FetchEvent, Received, SenderGroup } from './events.ts';

/** One sender so far. */
export interface Sender {
  readonly kind: ByteSource;
  readonly group: SenderGroup;
  bytes: number;
}

/** A group of senders so far. */
export interface GroupProgress {
  bytes: number;
  /** Hosts of peers, base URLs of caches. */
  readonly senders: Set<string>;
  /** NARs in the store of which no other group has sent more. */
  nars: number;
  readonly rate: RateMeter;
}

/** Sums up the events of a fetch, for a progress display and for the report at the end. */
export class Progress {
  readonly startedAtMs = performance.now();
  /** Payload bytes by sender: `host:port` of a peer, base URL of an upstream. */
  readonly bySource = new Map<string, Sender>();
  readonly groups = new Map<SenderGroup, GroupProgress>();
  totalNars = 0;
  totalBytes = 0;
  doneNars = 0;
  peerBytes = 0;
  upstreamBytes = 0;
  /** Paths that Nix has copied, and the last of them. */
  copiedPaths = 0;
  lastCopied: string | undefined;
  /** True once the download is over, and Nix imports the rest. */
  isImporting = false;
  /** Paths that Nix is to copy in all, with those that it has copied. Undefined if not known. */
  importPaths: number | undefined;
  /** Bytes of begun NARs that an earlier run left. */
  keptBytes = 0;
  /** Bytes of the patches that made NARs, and of the files in whose place they came. */
  readonly patched = { nars: 0, patchBytes: 0, fileBytes: 0 };
  /** Bytes of NARs that this run has completed. */
  #fetchedBytes = 0;
  /** Bytes of NARs that came uncompressed, less those of the files that a cache would have sent. */
  #surplusBytes = 0;
  /** Bytes that came over the local network. */
  #nearBytes = 0;
  /** Senders by their address as it was told: chunks are counted often. */
  readonly #origins = new Map<string, Sender>();
  /** Bytes of each NAR that is arriving, by group. */
  readonly #arriving = new Map<string, Map<SenderGroup, number>>();
  readonly #rate = new SteadyRate();
  /** Milliseconds of the downloads before this one. */
  #downloadedMs = 0;
  /** Begin of this download and time of its last byte. Undefined if nothing is being downloaded. */
  #download: { readonly fromMs: number; lastMs: number } | undefined;

  get durationMs(): number {
    return Math.round(performance.now() - this.startedAtMs);
  }

  /** Milliseconds of downloading alone, without the walk before and the import after it. */
  get downloadMs(): number {
    return this.#downloadedMs + (this.#download === undefined ? 0 : this.#download.lastMs - this.#download.fromMs);
  }

  /** Bytes a second over the last two seconds. */
  get rate(): number {
    return this.#rate.rate();
  }

  /** Seconds until the end at the current rate. Undefined while no bytes come. */
  get secondsLeft(): number | undefined {
    const { rate } = this;
    return rate === 0 ? undefined : this.#restBytes / rate;
  }

  /** Seconds until the end, for people. Undefined unless the rate has been steady for a while. */
  get steadySecondsLeft(): number | undefined {
    return this.#rate.secondsFor(this.#restBytes);
  }

  /** Bytes so far of the NARs to fetch, out of {@link totalBytes}. Slightly more if some came twice. */
  get receivedBytes(): number {
    return this.keptBytes + this.peerBytes + this.upstreamBytes;
  }

  get peersInUse(): number {
    return [...this.bySource.values()].filter((source) => source.kind === 'peers').length;
  }

  /**
   * Bytes that came from the local network and that the internet would have had to send otherwise. Bytes that came
   * twice do not count, nor do wrong ones: this is the size of the completed NARs, less the bytes that came from
   * elsewhere. An uncompressed NAR counts as the file of a cache.
   */
  get savedBytes(): number {
    const farBytes = this.peerBytes + this.upstreamBytes - this.#nearBytes;
    const neededBytes = Math.min(this.#nearBytes, this.#fetchedBytes - this.keptBytes - farBytes);
    return Math.max(0, neededBytes - this.#surplusBytes);
  }

  get #restBytes(): number {
    return Math.max(0, this.totalBytes - this.receivedBytes);
  }

  /** Counts an event. */
  take(event: FetchEvent): void {
    if (event.type === 'nar-bytes') this.#takeBytes(event);
    else if (event.type === 'nar-kept') this.keptBytes += event.bytes;
    else if (event.type === 'nar-fetched') this.#takeNar(event);
    else if (event.type === 'nar-patched') {
      this.patched.nars++;
      this.patched.patchBytes += event.patchBytes;
      this.patched.fileBytes += event.fileBytes;
    } else if (event.type === 'importing') this.isImporting = true;
    else if (event.type === 'to-import') this.importPaths = this.copiedPaths + event.paths;
    else if (event.type === 'path-copied') {
      this.copiedPaths++;
      this.lastCopied = event.path;
    } else if (event.type === 'downloading') {
      this.totalNars += event.nars;
      this.totalBytes += event.bytes;
      const nowMs = performance.now();
      if (event.nars > 0) this.#download ??= { fromMs: nowMs, lastMs: nowMs };
    } else if (event.type === 'walking' || event.type === 'committing') this.#endDownload();
  }

  #takeBytes({ source: kind, group, isNear, origin, nar, bytes }: Received): void {
    if (kind === 'peers') this.peerBytes += bytes;
    else this.upstreamBytes += bytes;
    if (isNear) this.#nearBytes += bytes;
    this.#rate.add(bytes);
    if (this.#download !== undefined) this.#download.lastMs = performance.now();
    this.#senderOf(kind, group, origin).bytes += bytes;
    const sum = this.#groupOf(group);
    sum.bytes += bytes;
    sum.rate.add(bytes);
    const arriving = this.#arriving.get(nar) ?? new Map<SenderGroup, number>();
    arriving.set(group, (arriving.get(group) ?? 0) + bytes);
    this.#arriving.set(nar, arriving);
  }

  #takeNar({ nar, sizeBytes, cacheBytes = sizeBytes }: Extract<FetchEvent, { type: 'nar-fetched' }>): void {
    this.doneNars++;
    this.#fetchedBytes += sizeBytes;
    this.#surplusBytes += sizeBytes - cacheBytes;
    const [most] = [...(this.#arriving.get(nar) ?? [])].toSorted(([, a], [, b]) => b - a);
    this.#arriving.delete(nar);
    if (most !== undefined) this.#groupOf(most[0]).nars++;
  }

  #senderOf(kind: ByteSource, group: SenderGroup, origin: string): Sender {
    const seen = this.#origins.get(origin);
    if (seen !== undefined) return seen;
    const name = kind === 'peers' ? inOneSpelling(origin) : origin;
    const sender = this.bySource.get(name) ?? { kind, group, bytes: 0 };
    this.bySource.set(name, sender);
    this.#origins.set(origin, sender);
    this.#groupOf(group).senders.add(kind === 'peers' ? hostOf(origin) : origin);
    return sender;
  }

  #groupOf(group: SenderGroup): GroupProgress {
    const known = this.groups.get(group);
    if (known !== undefined) return known;
    const made = { bytes: 0, senders: new Set<string>(), nars: 0, rate: new RateMeter() };
    this.groups.set(group, made);
    return made;
  }

  #endDownload(): void {
    this.#downloadedMs = this.downloadMs;
    this.#download = undefined;
  }
}

/** Spells the address of a peer as every other connection of the same host does. */
function inOneSpelling(address: string): string {
  return formatEndpoint({ host: hostOf(address), port: Number(address.slice(address.lastIndexOf(':') + 1)) });
}
