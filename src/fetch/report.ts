import type { NarJob, JobObserver } from './job.ts';
import { RateMeter } from '../bytes/rate-meter.ts';

/** How far a fetch is, for a progress display and for the report at the end. */
export class Progress implements JobObserver {
  readonly startedAtMs = performance.now();
  /** Payload bytes by who sent them: `host:port` of a peer, base URL of an upstream. */
  readonly bySource = new Map<string, { kind: 'peers' | 'upstream'; bytes: number }>();
  readonly warnings: string[] = [];
  totalNars = 0;
  totalBytes = 0;
  doneNars = 0;
  doneBytes = 0;
  peerBytes = 0;
  upstreamBytes = 0;
  /** Bytes of NARs on their way that an earlier run has left. */
  keptBytes = 0;
  readonly #rate = new RateMeter();
  readonly #warn: (message: string) => void;

  constructor(warn: (message: string) => void) {
    this.#warn = warn;
  }

  get durationMs(): number {
    return Math.round(performance.now() - this.startedAtMs);
  }

  /** Bytes a second over the last two seconds. */
  get rate(): number {
    return this.#rate.rate();
  }

  /** Seconds until everything is there at the present rate, or undefined while nothing comes. */
  get secondsLeft(): number | undefined {
    const { rate } = this;
    return rate === 0 ? undefined : Math.max(0, this.totalBytes - this.receivedBytes) / rate;
  }

  /** Bytes of the NARs to fetch that are there, of {@link totalBytes}; a little more where some came twice. */
  get receivedBytes(): number {
    return this.keptBytes + this.peerBytes + this.upstreamBytes;
  }

  get peersInUse(): number {
    return [...this.bySource.values()].filter((source) => source.kind === 'peers').length;
  }

  onBytes = (kind: 'peers' | 'upstream', origin: string, bytes: number): void => {
    if (kind === 'peers') this.peerBytes += bytes;
    else this.upstreamBytes += bytes;
    this.#rate.add(bytes);
    const source = this.bySource.get(origin);
    if (source === undefined) this.bySource.set(origin, { kind, bytes });
    else source.bytes += bytes;
  };

  onKept = (bytes: number): void => {
    this.keptBytes += bytes;
  };

  onNar = (job: NarJob): void => {
    this.doneNars++;
    this.doneBytes += job.sizeBytes;
  };

  onWarning = (message: string): void => {
    this.warnings.push(message);
    this.#warn(message);
  };
}
