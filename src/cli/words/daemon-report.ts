import type { Daemon } from '../../daemon/daemon.ts';
import type { Scope } from '../../discovery/scope.ts';
import { formatPublisherAddress } from '../../index/address.ts';
import { mirrorOf } from '../options/publish-options.ts';
import { substituterLines } from '../options/substituter-options.ts';
import type { Output } from '../output.ts';

/** How a daemon serves, besides what it knows itself. */
export interface ServedHow {
  readonly scope: Scope;
  /** URLs at which Nix is served. */
  readonly substituters: readonly string[];
  /** URL of the status page. Null if there is none. */
  readonly statusPage: string | null;
  /** The address that it listens on, as the user gave it. */
  readonly listen: string | undefined;
}

/** Says that a daemon is ready, where it is, and what it seeds. */
export function tellReady(
  output: Output,
  { network, publisher, nars }: Pick<Daemon, 'network' | 'publisher' | 'nars'>,
  { scope, substituters, statusPage, listen }: ServedHow,
): void {
  const { swarm, dht } = network;
  const own = publisher && {
    address: formatPublisherAddress(publisher.built.publication.address),
    httpPort: publisher.http.port,
    mirror: mirrorOf(publisher, listen),
  };
  output.result(
    'ready',
    { port: swarm.port, dhtPort: dht?.port ?? null, nars, scope, substituters, statusPage, ...own },
    [
      `seeding ${nars} NARs on port ${swarm.port} (scope ${scope})`,
      ...(own === undefined ? [] : [`address  ${own.address}`, `HTTP     ${own.mirror}`]),
      ...substituterLines(substituters),
      ...(statusPage === null ? [] : [`status   ${statusPage}`]),
      'ready',
    ].join('\n'),
  );
}
