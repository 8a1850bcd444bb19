/** The line between the binary cache and the machine that imports. */
import { Lan } from '../support/namespaces.ts';
import { scriptPath, Service, type Argv, type ProcessOptions } from './process.ts';

export interface Line extends AsyncDisposable {
  readonly cacheUrl: string;
  /** Words before a command that run it at the other end. */
  readonly wrapper: readonly string[];
}

/**
 * Serves a folder over a line.
 *
 * @param rateKbit of the line, between two network namespaces; undefined: loopback, without a limit
 */
export async function openLine(
  dir: string,
  rateKbit: number | undefined,
  python: string,
  options: ProcessOptions,
): Promise<Line> {
  await using stack = new AsyncDisposableStack();
  const lan = rateKbit === undefined ? undefined : stack.use(Lan.open());
  const host = lan?.host('cache', { ...(rateKbit !== undefined && { upKbit: rateKbit }) });
  const client = lan?.host('client');
  const address = host?.ipv4 ?? '127.0.0.1';
  const server = [...(host?.wrapper ?? []), python, scriptPath('file_server.py'), dir, address] as readonly string[];
  const service = stack.use(await Service.start(server as Argv, options));
  const open = stack.move();
  return {
    cacheUrl: `http://${address}:${Number(service.ready['port'])}`,
    wrapper: client?.wrapper ?? [],
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  };
}
