import type { Endpoint } from '../discovery/endpoint.ts';
import type { Arrival } from '../substituter/arrival.ts';
import type { GivenBytes } from '../substituter/given.ts';
import { addRoutes } from '../substituter/routes.ts';
import { HttpPort, type HttpPortOptions } from './http-port.ts';
import { openSubstituter, type Substituting, type SubstitutingOptions } from './substituting.ts';
import type { ArrivingNar } from './web/in-flight.ts';
import { addWebRoutes, type WebOptions } from './web/routes.ts';
import { Watch, type WatchOptions } from './web/watch.ts';

export interface DaemonPortOptions extends Pick<HttpPortOptions, 'passed' | 'listen' | 'isNeedless' | 'names'> {
  /** Undefined: Nix is not served. */
  readonly substituting: Omit<SubstitutingOptions, 'addresses' | 'onEvent'> | undefined;
  readonly watch: Omit<WatchOptions, 'arriving'>;
  readonly web: Omit<WebOptions, 'watch'>;
}

/** The daemon's HTTP port. */
export interface DaemonPort extends AsyncDisposable {
  readonly addresses: readonly Endpoint[];
  /** NARs and bytes given to Nix so far. Undefined if Nix is not served. */
  readonly given: () => GivenBytes | undefined;
}

/** Opens the daemon's HTTP port: a binary cache for Nix, and the pages that show the daemon. @throws LISTEN_FAILED */
export async function openDaemonPort({
  substituting,
  watch: watched,
  web,
  ...where
}: DaemonPortOptions): Promise<DaemonPort> {
  await using stack = new AsyncDisposableStack();
  let opened: Substituting | undefined;
  const arriving = (): ArrivingNar[] => Array.from(opened?.substituter.arriving ?? [], arrivingNar);
  const watch = stack.use(new Watch({ ...watched, arriving }));
  opened =
    substituting &&
    stack.use(await openSubstituter({ ...substituting, addresses: () => port.addresses, onEvent: watch.take }));
  const port: HttpPort = stack.use(
    await HttpPort.open({
      ...where,
      routes: (app) => {
        addWebRoutes(app, { ...web, watch });
        if (opened !== undefined) addRoutes(app, opened.substituter);
      },
    }),
  );
  const { addresses } = port;
  const open = stack.move();
  const given = (): GivenBytes | undefined => opened?.substituter.given.bytes;
  return { addresses, given, [Symbol.asyncDispose]: () => open.disposeAsync() };
}

function arrivingNar({ info, fileHash, sizeBytes, partial }: Arrival): ArrivingNar {
  return { path: info.storePath, fileHash, sizeBytes, heldBytes: partial?.heldBytes ?? 0 };
}
