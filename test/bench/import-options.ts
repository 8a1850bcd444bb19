/** The command line of the benchmark of imports. */
import { parseArgs } from 'node:util';
import { CLOSURE_NAMES, type ClosureName } from './closures.ts';
import { IMPORT_CONTESTANTS, type ImportContestant } from './import-contestants.ts';
import { NIX_NAMES, type NixName } from './import-nixes.ts';
import { countOf, oneOf, positive } from './option-values.ts';

export interface ImportOptions {
  readonly rounds: number;
  readonly closure: ClosureName;
  readonly contestants: readonly ImportContestant[];
  readonly nixes: readonly NixName[];
  /** Rates of the line; undefined: no limit. */
  readonly ratesKbit: readonly (number | undefined)[];
  /** Seconds after which a run is given up on. */
  readonly limitS: number;
  readonly json: boolean;
  readonly keep: boolean;
  readonly help: boolean;
}

export const IMPORT_HELP = `Usage: npm run bench:import -- [options]

Time until a closure of a binary cache is in an empty Nix store, whole process: narswarm fetch --to beside nix copy, with
each Nix that is there, with and without a limit of the line. The NARs hold files of this machine's /usr. Everything is in
memory. A limit needs root, iproute2 and nftables. The first run makes the NARs, which takes about two minutes for medium.

  --rounds N          runs of each contestant (default 3)
  --closure NAME      crowd (50 NARs, 47 MB), small (500, 64 MB), medium (120, 130 MB; the default) or
                      desktop (813, 690 MB)
  --only NAME,NAME    contestants to run (default all): ${IMPORT_CONTESTANTS.map(({ name }) => name).join(', ')}
  --nix NAME,NAME     Nix to run with (default all): installed, or that of a release of Debian: trixie, sid
  --rates MBIT,MBIT   Mbit/s of the line, or none (default none,200)
  --limit SECONDS     after which a run is given up on (default 300)
  --json              print one JSON object instead of a table
  --keep              leave the generated files where they are
`;

/** @throws Error saying which option is wrong */
export function parseImportOptions(args: readonly string[]): ImportOptions {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '3' },
      closure: { type: 'string', default: 'medium' },
      only: { type: 'string' },
      nix: { type: 'string', default: NIX_NAMES.join(',') },
      rates: { type: 'string', default: 'none,200' },
      limit: { type: 'string', default: '300' },
      json: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false, short: 'h' },
    },
  });
  const { json, keep, help } = values;
  const names = IMPORT_CONTESTANTS.map(({ name }) => name);
  const wanted = values.only?.split(',').map((name) => oneOf('only', name, names)) ?? names;
  return {
    rounds: countOf('rounds', values.rounds),
    closure: oneOf('closure', values.closure, CLOSURE_NAMES),
    contestants: IMPORT_CONTESTANTS.filter(({ name }) => wanted.includes(name)),
    nixes: values.nix.split(',').map((name) => oneOf('nix', name, NIX_NAMES)),
    ratesKbit: values.rates.split(',').map((rate) => (rate === 'none' ? undefined : positive('rates', rate) * 1000)),
    limitS: countOf('limit', values.limit),
    json,
    keep,
    help,
  };
}
