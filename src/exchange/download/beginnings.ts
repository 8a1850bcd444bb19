import type { Picker } from './picker.ts';
import type { Arrived } from './range-requests.ts';
import type { Sink } from './sink.ts';
import type { Asked, Unit } from './unit.ts';

/** Size from which the beginning of a range is kept. */
const KEPT_BYTES = 16 * 1024;

/**
 * Returns true if the beginning of a range is worth writing: it is large, and no other member sends or has sent the
 * range.
 */
export function isWorthKeeping(asked: Asked): boolean {
  const { isDone, requests } = asked.unit;
  return asked.receivedBytes >= KEPT_BYTES && !isDone && requests.every((one) => one === asked);
}

/** Keeps the beginnings of ranges that their members do not complete. Other members continue after them. */
export class Beginnings {
  readonly #picker: Picker;
  /** Running writes. A range has one at a time. */
  readonly #writes = new Map<Unit, Promise<void>>();

  constructor(picker: Picker) {
    this.#picker = picker;
  }

  /** Returns the running write of the beginning of a range. Never rejects. */
  writeOf(unit: Unit): Promise<void> | undefined {
    return this.#writes.get(unit);
  }

  /** Writes the beginning of a range, if it continues the bytes in the sink. @returns true if it was written */
  async keep({ source, asked, bytes }: Arrived, sink: Sink): Promise<boolean> {
    const { unit } = asked;
    // Two members with the same request may disconnect at once: the first beginning is kept.
    if (!this.#picker.isMissing(unit) || this.#writes.has(unit)) return false;
    const { from } = unit;
    const to = Math.min(asked.from + asked.receivedBytes, unit.to - 1); // otherwise there would be nothing to request
    if (asked.from > from || from >= to || sink.missing().every((range) => range.from !== from)) return false;
    const part = bytes.subarray(from - asked.from, to - asked.from);
    const writing = sink.write(from, [part], source.member.peer.address);
    this.#writes.set(
      unit,
      writing.catch(() => undefined),
    );
    await writing.finally(() => this.#writes.delete(unit));
    if (unit.from === from) unit.from = to;
    return true;
  }
}
