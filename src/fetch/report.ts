import { RateMeter } from '../bytes/rate-meter.ts';
import type { ByteSource, FetchEvent } from './events.ts';

/** Sums up the events of a fetch, for a progress display and for the report at the end. */
export class Progress {
  readonly startedAtMs = performance.now();
  /** Payload bytes by sender: `host:port` of a peer, base URL of an upstream. */
  readonly bySource = new Map<string, { kind: ByteSource; bytes: number }>();
  totalNars = 0;
  totalBytes = 0;
  doneNars = 0;
  peerBytes = 0;
  upstreamBytes = 0;
  /** Paths that Nix has copied. */
  copiedPaths = 0;
  /** Bytes of begun NARs that an earlier run left. */
  keptBytes = 0;
  readonly #rate = new RateMeter();

  get durationMs(): number {
    return Math.round(performance.now() - this.startedAtMs);
  }

  /** Bytes a second over the last two seconds. */
  get rate(): number {
    return this.#rate.rate();
  }

  /** Seconds until the end at the current rate. Undefined while no bytes come. */
  get secondsLeft(): number | undefined {
    const { rate } = this;
    return rate === 0 ? undefined : Math.max(0, this.totalBytes - this.receivedBytes) / rate;
  }

  /** Bytes so far of the NARs to fetch, out of {@link totalBytes}. Slightly more if some came twice. */
  get receivedBytes(): number {
    return this.keptBytes + this.peerBytes + this.upstreamBytes;
  }

  get peersInUse(): number {
    return [...this.bySource.values()].filter((source) => source.kind === 'peers').length;
  }

  /** Counts an event. */
  take(event: FetchEvent): void {
    if (event.type === 'nar-bytes') this.#takeBytes(event.source, event.origin, event.bytes);
    else if (event.type === 'nar-kept') this.keptBytes += event.bytes;
    else if (event.type === 'nar-fetched') this.doneNars++;
    else if (event.type === 'path-copied') this.copiedPaths++;
    else if (event.type === 'downloading') {
      this.totalNars += event.nars;
      this.totalBytes += event.bytes;
    }
  }

  #takeBytes(kind: ByteSource, origin: string, bytes: number): void {
    if (kind === 'peers') this.peerBytes += bytes;
    else this.upstreamBytes += bytes;
    this.#rate.add(bytes);
    const source = this.bySource.get(origin);
    if (source === undefined) this.bySource.set(origin, { kind, bytes });
    else source.bytes += bytes;
  }
}
