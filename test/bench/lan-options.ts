/** The command line of the benchmark of local networks. */
import { parseArgs } from 'node:util';
import { CLOSURE_NAMES, type ClosureName } from './closures.ts';
import { oneOf, positive } from './option-values.ts';

export interface LanOptions {
  readonly closure: ClosureName;
  /** Numbers of the situations to play. */
  readonly only: readonly number[];
  /** Times that each situation is played, with --peer and without. */
  readonly rounds: number;
  /** Rate of the cache's line, outwards. */
  readonly lineKbit: number;
  /** Rate of the situation with a limit of the client's own, in MB/s. */
  readonly rateMb: number;
  /** Seconds after which a client is given up on. */
  readonly limitS: number;
  readonly verbose: boolean;
  readonly json: boolean;
  readonly keep: boolean;
  readonly help: boolean;
}

export const LAN_HELP = `Usage: npm run bench:lan -- [options]

A cache behind a slow line, a neighbour that holds everything, and a machine that needs it: who has sent what, and how long
it took beside the same with --peer given by hand. Each machine is a host in a network namespace. Needs root, iproute2 and
nftables.

  --closure NAME      crowd (50 NARs, 47 MB; the default), small (500, 64 MB), medium (120, 130 MB) or
                      desktop (813, 690 MB)
  --only N,N          situations to play (default all)
  --rounds N          fetches of each kind in each situation (default 3)
  --line MBIT         Mbit/s of the cache's line (default 20)
  --rate MB           MB/s that the client of situation 5 allows itself (default 5)
  --limit SECONDS     after which a client is given up on (default 300)
  --verbose           tell what each client says at the end
  --json              print one JSON object instead of a table
  --keep              leave the generated files where they are
`;

/** @throws Error saying which option is wrong */
export function parseLanOptions(args: readonly string[]): LanOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      closure: { type: 'string', default: 'crowd' },
      only: { type: 'string', default: '' },
      rounds: { type: 'string', default: '3' },
      line: { type: 'string', default: '20' },
      rate: { type: 'string', default: '5' },
      limit: { type: 'string', default: '300' },
      verbose: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  return {
    ...values,
    closure: oneOf('closure', values.closure, CLOSURE_NAMES),
    only: values.only === '' ? [] : values.only.split(',').map((text) => positive('only', text)),
    rounds: positive('rounds', values.rounds),
    lineKbit: positive('line', values.line) * 1000,
    rateMb: positive('rate', values.rate),
    limitS: positive('limit', values.limit),
  };
}
