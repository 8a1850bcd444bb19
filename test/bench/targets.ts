/** The targets of narswarm, compared with its figures. */
import type { ClosureName } from './closures.ts';
import type { Row } from './figures.ts';

export interface Target {
  readonly text: string;
  readonly wanted: string;
  /** undefined if one side has no figure. */
  readonly got: number | undefined;
  readonly isMet: boolean | undefined;
}

const MAX_RSS_MB = 300;
/** A fetch with silent sources takes so many times as long as one without them, and so many seconds more. */
const NO_SLOWER = 1.05;
const SILENCE_S = 1.5;
/** Time of a run that fetches nothing, and processor time of the seeder for all of the large closure. */
const NOTHING_FETCHED_S = 0.25;
const SEEDER_S = 0.5;
/** Parts of the times of libtorrent and of aria2. */
const OF_RIVALS = { small: { peers: 0.4, http: 1.6 }, large: { peers: 0.5, http: 0.9 } } as const;

/** Returns the targets that the rows of this closure can decide. */
export function targetsOf(closure: ClosureName, rows: readonly Row[]): Target[] {
  const rowOf = (name: string): Row | undefined => rows.find((row) => row.name === name);
  const wallS = (name: string): number => rowOf(name)?.wallS?.median ?? NaN;
  const has = (name: string): boolean => rowOf(name) !== undefined;
  const targets: Target[] = [];
  const parts = OF_RIVALS[closure === 'small' ? 'small' : 'large'];
  for (const rival of ['libtorrent-narswarm', 'libtorrent-libtorrent'])
    if (has('narswarm-dht') && has(rival))
      targets.push(atMost(`time of narswarm-dht / ${rival}`, parts.peers, wallS('narswarm-dht') / wallS(rival)));
  if (has('narswarm-upstream') && has('aria2-http')) {
    const got = wallS('narswarm-upstream') / wallS('aria2-http');
    targets.push(atMost('time of narswarm-upstream / aria2-http', parts.http, got));
  }
  for (const name of ['narswarm-rerun', 'narswarm-walk'])
    if (has(name)) targets.push(atMost(`s of ${name}`, NOTHING_FETCHED_S, wallS(name)));
  if (closure === 'desktop' && has('narswarm-dht')) {
    const got = rowOf('narswarm-dht')?.seederCpuS?.median ?? NaN;
    targets.push(atMost('processor s of the seeder for narswarm-dht', SEEDER_S, got));
  }
  if (has('narswarm-delayed') && has('aria2-delayed')) {
    const got = wallS('narswarm-delayed') / wallS('aria2-delayed');
    targets.push(atMost('time of narswarm-delayed / aria2-delayed', 0.6, got));
  }
  for (const { name, group } of rows) {
    if (group !== 'silence' || !has('narswarm-upstream')) continue;
    const got = wallS(name) - wallS('narswarm-upstream') * NO_SLOWER;
    targets.push(atMost(`s of ${name} beyond ${NO_SLOWER} narswarm-upstream`, SILENCE_S, got));
  }
  for (const { name, isNarswarm, peakRssBytes } of rows) {
    if (isNarswarm) targets.push(atMost(`MB of memory of ${name}`, MAX_RSS_MB, (peakRssBytes?.max ?? NaN) / 1e6));
  }
  return targets;
}

export function atMost(text: string, limit: number, got: number): Target {
  return target(text, `<= ${limit}`, got, got <= limit);
}

export function atLeast(text: string, limit: number, got: number): Target {
  return target(text, `>= ${limit}`, got, got >= limit);
}

function target(text: string, wanted: string, got: number, isMet: boolean): Target {
  return Number.isNaN(got) ? { text, wanted, got: undefined, isMet: undefined } : { text, wanted, got, isMet };
}
