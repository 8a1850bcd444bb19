/** Finds units that another member would send much sooner than the one that should send them, or was asked for them. */
import { expectedMs, helpsOut, knownMs, soFarMs, takesOver } from './pace.ts';
import { isLeft } from './rarest.ts';
import { has, type Asked, type Source, type Unit } from './unit.ts';

/** Limit on members that are asked for the same unit at a time. */
const MAX_OWNERS = 2;

/** The open requests, by member. */
export interface OpenRequests {
  /** Requests in the order in which the member answers them. */
  readonly bySource: ReadonlyMap<Source, ReadonlySet<Asked>>;
  /** Requested bytes that a member has not sent yet. */
  inFlightBytes(source: Source): number;
}

/** Returns the units of better members that those members would take too long to send. */
export function helpedOut(source: Source, units: readonly Unit[], open: OpenRequests): Unit[] {
  const inFlight = open.inFlightBytes(source);
  return units.filter((unit) => {
    let theirsMs = Infinity;
    for (const other of open.bySource.keys()) {
      if (other === source || isLeft(other) || !has(other, unit)) continue;
      theirsMs = Math.min(theirsMs, knownMs(other, open.inFlightBytes(other) + unit.length));
    }
    return helpsOut(expectedMs(source, inFlight + unit.length), theirsMs);
  });
}

/**
 * Returns the unit, among those that others were asked for, that would arrive last, if this member would have sent it
 * much sooner.
 *
 * @param isSpared true if the member is asked only if the others would take too long
 */
export function takenOver(
  source: Source,
  units: Iterable<Unit>,
  isSpared: boolean,
  open: OpenRequests,
): Unit | undefined {
  const inFlight = open.inFlightBytes(source);
  let last: { unit: Unit; ms: number } | undefined;
  for (const unit of units) {
    const { requests, file } = unit;
    if (file.only !== undefined || !has(source, unit) || requests.some((one) => one.source === source)) continue;
    const atWork = requests.filter((one) => !isLeft(one.source));
    if (atWork.length >= MAX_OWNERS) continue;
    const isLast = atWork.some((one) => one.source.isNeighbour && !source.isNeighbour) || isSpared;
    // The beginning of a member's first range is too little to ask another one that should be spared.
    const ms = Math.min(Infinity, ...atWork.map((one) => restMs(one, open, isLast ? knownMs : soFarMs)));
    const mayTake = isLast ? helpsOut : takesOver;
    if (mayTake(expectedMs(source, inFlight + unit.length), ms) && ms > (last?.ms ?? 0)) last = { unit, ms };
  }
  return last?.unit;
}

/**
 * Returns the milliseconds until a request is answered in full.
 *
 * @param msOf how long a member takes to send a number of bytes
 */
function restMs(asked: Asked, { bySource }: OpenRequests, msOf: (source: Source, bytes: number) => number): number {
  let bytes = 0;
  for (const one of bySource.get(asked.source) ?? []) {
    bytes += one.lengthBytes - one.receivedBytes;
    if (one === asked) break;
  }
  return msOf(asked.source, bytes);
}
