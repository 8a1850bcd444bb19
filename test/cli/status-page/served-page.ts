/** The status page on a port of its own, with figures that a test chooses. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { STATUS_PAGE } from '../../../src/cli/status-page/page.ts';
import type { DaemonView } from '../../../src/daemon/web/watch.ts';

export interface ServedPage extends AsyncDisposable {
  readonly url: string;
  /** Undefined: it answers with an error. */
  view: DaemonView | undefined;
}

export async function servePage(first: DaemonView): Promise<ServedPage> {
  const served: { view: DaemonView | undefined } = { view: first };
  const server = createServer((_, response) => {
    if (served.view === undefined) response.writeHead(500).end();
    else
      response
        .writeHead(200, { 'content-type': 'text/html', 'content-security-policy': STATUS_PAGE.policy })
        .end(STATUS_PAGE.html(served.view));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  return Object.assign(served, {
    url: `http://127.0.0.1:${port}/status`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  });
}
