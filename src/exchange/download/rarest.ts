import { has, type Source, type Unit } from './unit.ts';

/** Limit on unrequested units that are looked at for one choice. */
export const LOOKED_AT = 4096;
/** The same limit outside a crowd, for units that the member has: then no unit becomes rarer. */
const LOOKED_AT_ALONE = 256;
/** Limit on units that are remembered because a better member should send them. */
const BETTER = 64;
/** Number of wanted units that decide whether a member has everything, and whether there is a crowd. */
const SAMPLES = 16;

/**
 * Free units that a member has: those that the fewest members have, the others, and those that a better member should
 * send.
 */
export interface Seen {
  readonly best: Unit[];
  readonly rest: readonly Unit[];
  readonly better: readonly Unit[];
}

/** All members, and those that have everything. */
export interface Sources {
  readonly all: Iterable<Source>;
  readonly seeds: ReadonlySet<Source>;
  readonly isCrowd: boolean;
}

/** Returns true for a member that does not answer. Others take over its requests. */
export function isLeft(source: Source): boolean {
  return source.isSilent || source.isLate;
}

/**
 * Looks for units for a member among the unrequested ones. Finds up to `count` of the rarest, and those that a better
 * member should send.
 *
 * @param options.isThorough true to continue past units that the member lacks, to the first that it has
 */
export function lookForUnits(
  source: Source,
  free: Iterable<Unit>,
  { all, seeds, isCrowd }: Sources,
  options: {
    readonly count: number;
    readonly mayAsk: (unit: Unit) => boolean;
    readonly isThorough: boolean;
  },
): Seen {
  const { count, mayAsk, isThorough } = options;
  const others = [...all].filter((other) => other !== source && !isLeft(other));
  const isSourceLeft = isLeft(source);
  const isSpared = isCrowd && seeds.has(source);
  let rarity = Infinity;
  let best: Unit[] = [];
  const rest: Unit[] = [];
  const better: Unit[] = [];
  let looked = 0;
  let mostLooked = LOOKED_AT;
  let askable = 0;
  for (const unit of free) {
    if (++looked > mostLooked && (askable > 0 || !isThorough)) break;
    if (!isCrowd && askable === LOOKED_AT_ALONE) break;
    if (!mayAsk(unit)) continue;
    if (askable++ === 0) mostLooked = Math.max(mostLooked, looked + LOOKED_AT / 4);
    let holders = 1;
    let isBetter = false; // another member should be asked instead
    for (const other of others) {
      if (!has(other, unit)) continue;
      holders++;
      if (isSourceLeft || (other.isNeighbour && !source.isNeighbour)) isBetter = true;
      else if (isSpared && other.isNeighbour === source.isNeighbour && !seeds.has(other)) isBetter = true;
    }
    if (isBetter) {
      if (better.length < BETTER) better.push(unit);
    } else if (holders < rarity) {
      rest.unshift(...best);
      [rarity, best] = [holders, [unit]];
    } else if (holders === rarity) best.push(unit);
    else rest.push(unit);
    if (rarity === 1 && !isCrowd && best.length >= count) break;
  }
  return { best, rest, better };
}

/**
 * Returns up to `count` of the units that were looked at, the rarest first.
 *
 * @param random chooses the order among equally rare units. Undefined: they keep their order
 */
export function rarestOf({ best, rest }: Seen, count: number, random: (() => number) | undefined): Unit[] {
  if (random !== undefined) shuffle(best, random, count);
  return [...best.slice(0, count), ...rest.slice(0, Math.max(0, count - best.length))];
}

/** Returns some of the units, spread over the whole list. */
export function samplesOf(all: ReadonlySet<Unit>): Unit[] {
  const step = Math.max(1, Math.floor(Math.min(all.size, LOOKED_AT) / SAMPLES));
  const samples: Unit[] = [];
  let at = 0;
  for (const unit of all) {
    if (at++ % step === 0) samples.push(unit);
    if (samples.length === SAMPLES) break;
  }
  return samples;
}

/** Moves some randomly chosen elements to the front. */
function shuffle<T>(list: T[], random: () => number, count: number): void {
  for (let at = 0; at < Math.min(count, list.length - 1); at++) {
    const other = at + Math.floor(random() * (list.length - at));
    [list[at], list[other]] = [list[other]!, list[at]!];
  }
}
