/** The command line of the benchmark. */
import { parseArgs } from 'node:util';
import type { ClosureName } from './closures.ts';
import { CONTESTANTS } from './contestants.ts';
import type { Contestant } from './contestants.ts';
import { countOf } from './option-values.ts';

export interface BenchOptions {
  readonly rounds: number;
  readonly closures: readonly ClosureName[];
  readonly contestants: readonly Contestant[];
  readonly json: boolean;
  readonly keep: boolean;
  readonly help: boolean;
}

export const HELP = `Usage: npm run bench -- [options]

Compares the fetch of a closure from one seeder or server over loopback, without the import into a store.

  --rounds N         runs of each client (default 5)
  --closure NAME     desktop, small or both (default both)
  --only NAME,NAME   clients to run (default all): ${CONTESTANTS.map(({ name }) => name).join(', ')}
  --json             print one JSON object instead of tables
  --keep             leave the generated files where they are
`;

/** @throws Error saying which option is wrong */
export function parseOptions(args: readonly string[]): BenchOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '5' },
      closure: { type: 'string', default: 'both' },
      only: { type: 'string' },
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false, short: 'h' },
    },
  });
  const rounds = countOf('rounds', values.rounds);
  const { json, keep, help } = values;
  return { rounds, closures: closuresOf(values.closure), contestants: contestantsOf(values.only), json, keep, help };
}

function closuresOf(text: string): ClosureName[] {
  const all: readonly ClosureName[] = ['desktop', 'small'];
  const names = all.filter((name) => name === text || text === 'both');
  if (names.length === 0) throw new Error(`--closure takes ${all.join(', ')} or both, not ${text}`);
  return names;
}

function contestantsOf(text: string | undefined): readonly Contestant[] {
  if (text === undefined) return CONTESTANTS;
  const names = new Set(text.split(','));
  const unknown = [...names].filter((name) => !CONTESTANTS.some((contestant) => contestant.name === name));
  if (unknown.length > 0) throw new Error(`--only knows no ${unknown.join(', ')}: see --help`);
  return CONTESTANTS.filter(({ name }) => names.has(name));
}
