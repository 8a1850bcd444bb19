import type { Endpoint } from '../discovery/endpoint.ts';
import { addRoutes } from '../substituter/routes.ts';
import { HttpPort } from './http-port.ts';
import { openSubstituter, type SubstitutingOptions } from './substituting.ts';
import { addWebRoutes, type WebOptions } from './web/routes.ts';
import { Watch, type WatchOptions } from './web/watch.ts';

export interface DaemonPortOptions {
  /** Addresses to listen on. */
  readonly listen: readonly Endpoint[];
  /** Undefined: Nix is not served. */
  readonly substituting: Omit<SubstitutingOptions, 'listen' | 'onEvent'> | undefined;
  readonly watch: WatchOptions;
  readonly web: Omit<WebOptions, 'watch'>;
}

/** Opens the daemon's HTTP port: a binary cache for Nix, and the pages that show the daemon. @throws LISTEN_FAILED */
export async function openDaemonPort({
  listen,
  substituting,
  watch: watched,
  web,
}: DaemonPortOptions): Promise<AsyncDisposable & { readonly addresses: readonly Endpoint[] }> {
  await using stack = new AsyncDisposableStack();
  const watch = stack.use(new Watch(watched));
  const opened =
    substituting &&
    stack.use(openSubstituter({ ...substituting, listen, onEvent: (event) => watch.recorder.take(event) }));
  const port = stack.use(
    await HttpPort.open({
      listen,
      routes: (app) => {
        addWebRoutes(app, { ...web, watch });
        if (opened !== undefined) addRoutes(app, opened.substituter);
      },
    }),
  );
  const { addresses } = port;
  const open = stack.move();
  return { addresses, [Symbol.asyncDispose]: () => open.disposeAsync() };
}
