import { copyInto, takeBuffer } from '../../bytes/lent-buffers.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { DownloadMemory } from './download-memory.ts';
import type { DownloadSource } from './download-source.ts';
import type { Member, Outcome } from '../member.ts';
import type { Picker } from './picker.ts';
import type { Asked, PickFile, Unit } from './unit.ts';

/** A range that has arrived from a member, or its beginning. */
export interface Arrived {
  readonly source: DownloadSource;
  readonly asked: Asked;
  /** A lent buffer. */
  readonly bytes: Uint8Array;
}

interface RangeRequestsOptions {
  readonly picker: Picker;
  readonly memory: DownloadMemory;
  /** Called with payload of a file from a member. */
  readonly onBytes: (member: Member, bytes: number, file: FileHash) => void;
  /**
   * Called with the bytes of a request that has ended. Resolves when they are no longer needed in memory.
   *
   * @param isWhole false if only the beginning of the range has arrived
   */
  readonly onArrived: (arrived: Arrived, isWhole: boolean) => Promise<void>;
  /** Called when a member may be asked for more. */
  readonly onIdle: (source: DownloadSource) => void;
  /** Called when the memory was full, and a range has left it. */
  readonly onRoom: () => void;
}

interface Request {
  readonly source: DownloadSource;
  readonly stop: AbortController;
  /** Undefined until the first byte arrives. */
  bytes: Uint8Array | undefined;
}

/** The open requests to all members, with the bytes that have arrived so far. */
export class RangeRequests {
  readonly #options: RangeRequestsOptions;
  readonly #requests = new Map<Asked, Request>();

  constructor(options: RangeRequestsOptions) {
    this.#options = options;
  }

  /** Requests a range from a member. Resolves when its bytes are no longer needed in memory. */
  async get(source: DownloadSource, unit: Unit): Promise<void> {
    const stop = new AbortController();
    const asked = this.#begin(source, unit, stop);
    const range = { file: unit.file.file, from: unit.from, length: unit.length };
    const outcome = source.member.get(range, (bytes) => this.#onBytes(asked, bytes), stop.signal);
    await this.#onEnd(asked, await outcome.catch(() => cannotAsk(source)));
  }

  /**
   * Requests one of several ranges, which the member chooses. Resolves when its bytes are no longer needed in memory.
   *
   * @param bytes expected size
   */
  async any(source: DownloadSource, units: readonly Unit[], bytes: number): Promise<void> {
    const { picker, onIdle } = this.#options;
    const ranges = units.map(({ file, from, length }) => ({ file: file.file, from, length }));
    const stop = new AbortController();
    let asked: Asked | undefined;
    picker.offer(source, bytes);
    const picked = (index: number): void => {
      picker.unoffer(source, bytes);
      const unit = units[index]!;
      const isNeeded = picker.isMissing(unit) && unit.from === ranges[index]!.from;
      if (!isNeeded) stop.abort(NOT_NEEDED);
      else asked = this.#begin(source, unit, stop);
    };
    const onBytes = (part: Uint8Array): void => void (asked !== undefined && this.#onBytes(asked, part));
    const asking = source.member.any(ranges, { picked, bytes: onBytes }, stop.signal);
    const outcome = await asking.catch(() => cannotAsk(source));
    if (asked !== undefined) {
      await this.#onEnd(asked, outcome);
      return;
    }
    if (!stop.signal.aborted) {
      picker.unoffer(source, bytes);
      source.refuseAny();
    }
    onIdle(source);
  }

  /** Stops a request that is no longer needed. */
  stop(asked: Asked): void {
    this.#requests.get(asked)?.stop.abort(NOT_NEEDED);
  }

  /** Stops the requests to a member for ranges of a file. */
  stopAll(source: DownloadSource, file: PickFile): void {
    for (const [{ unit }, request] of this.#requests)
      if (request.source === source && unit.file === file) request.stop.abort(NOT_NEEDED);
  }

  #begin(source: DownloadSource, unit: Unit, stop: AbortController): Asked {
    const asked = this.#options.picker.begin(source, unit);
    this.#requests.set(asked, { source, stop, bytes: undefined });
    this.#options.memory.take(asked.lengthBytes);
    return asked;
  }

  #onBytes(asked: Asked, part: Uint8Array): void {
    const request = this.#requests.get(asked);
    if (request === undefined) return;
    request.bytes ??= takeBuffer(asked.lengthBytes).subarray(0, asked.lengthBytes);
    copyInto(request.bytes, part, asked.receivedBytes);
    asked.receivedBytes += part.length;
    this.#options.onBytes(request.source.member, part.length, asked.unit.file.file);
  }

  async #onEnd(asked: Asked, outcome: Outcome): Promise<void> {
    const { source, bytes } = this.#requests.get(asked)!;
    const { picker, memory, onArrived, onIdle, onRoom } = this.#options;
    this.#requests.delete(asked);
    onIdle(source);
    const isRefused = outcome !== 'complete' && outcome !== 'closed' && outcome !== 'cancelled';
    if (isRefused) source.refuse(asked.unit.file.file, outcome);
    else if (outcome === 'complete') source.onGiven(asked.unit.file.file);
    if (bytes === undefined) picker.end(asked, false);
    else await onArrived({ source, asked, bytes }, outcome === 'complete');
    if (memory.free(asked.lengthBytes)) onRoom();
  }
}

/** One error for all aborts: an abort without a reason makes an error with a stack each time. */
const NOT_NEEDED = new Error('the range is no longer needed');

/**
 * Handles an error of ours without ending the process: disconnects from the member, which is connected to again later.
 */
function cannotAsk({ member }: DownloadSource): Outcome {
  member.drop();
  return 'closed';
}
