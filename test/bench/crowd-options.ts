/** The command line of the benchmark of a flash crowd. */
import { parseArgs } from 'node:util';
import { CLOSURE_NAMES, type ClosureName } from './closures.ts';
import { countOf, oneOf } from './option-values.ts';

export type Rival = 'narswarm' | 'libtorrent' | 'http';

const RIVALS: readonly Rival[] = ['narswarm', 'libtorrent', 'http'];

export interface CrowdOptions {
  readonly rounds: number;
  readonly clients: number;
  readonly closure: ClosureName;
  readonly rivals: readonly Rival[];
  /** Rate of every line, both ways. */
  readonly rateKbit: number;
  /** One client has 10 Mbit/s. */
  readonly slow: boolean;
  /** The seeder is killed once 1.3 copies have left it. */
  readonly seederLeaves: boolean;
  /** Two more members have everything: one lies, one falls asleep. */
  readonly hostile: boolean;
  /** Seconds after which a client is given up on. */
  readonly limitS: number;
  readonly verbose: boolean;
  readonly json: boolean;
  readonly keep: boolean;
  readonly help: boolean;
}

export const CROWD_HELP = `Usage: npm run bench:crowd -- [options]

One seeder and clients that fetch the same closure at the same moment, each a host in a network namespace, with lines
of the same rate both ways. Needs root, iproute2 and nftables.

  --rounds N          runs of each rival (default 1)
  --clients N         clients (default 8)
  --closure NAME      crowd (50 NARs, 47 MB; the default), small (500, 64 MB), medium (120, 130 MB) or
                      desktop (813, 690 MB)
  --only NAME,NAME    rivals to run (default all): ${RIVALS.join(', ')}
  --rate MBIT         Mbit/s of every line (default 100)
  --slow              one client has 10 Mbit/s
  --seeder-leaves     the seeder is killed once 1.3 copies have left it
  --hostile           two more members have everything: one lies, one falls asleep (narswarm alone)
  --limit SECONDS     after which a client is given up on (default 300)
  --verbose           tell what each client says at the end
  --json              print one JSON object instead of a table
  --keep              leave the generated files where they are
`;

/** @throws Error saying which option is wrong */
export function parseCrowdOptions(args: readonly string[]): CrowdOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '1' },
      clients: { type: 'string', default: '8' },
      closure: { type: 'string', default: 'crowd' },
      only: { type: 'string' },
      rate: { type: 'string', default: '100' },
      slow: { type: 'boolean', default: false },
      'seeder-leaves': { type: 'boolean', default: false },
      hostile: { type: 'boolean', default: false },
      limit: { type: 'string', default: '300' },
      verbose: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false, short: 'h' },
    },
  });
  const { slow, hostile, verbose, json, keep, help } = values;
  const wanted = values.only?.split(',');
  return {
    rounds: countOf('rounds', values.rounds),
    clients: countOf('clients', values.clients),
    closure: oneOf('closure', values.closure, CLOSURE_NAMES),
    rivals: wanted?.map((name) => oneOf('only', name, RIVALS)) ?? RIVALS,
    rateKbit: countOf('rate', values.rate) * 1000,
    slow,
    seederLeaves: values['seeder-leaves'],
    hostile,
    limitS: countOf('limit', values.limit),
    verbose,
    json,
    keep,
    help,
  };
}
