/**
 * A rival substituter: for each file that Nix asks for, it fetches that one file from another cache, and gives it to Nix
 * once it is whole. It knows nothing of closures.
 *
 * Usage: pull-through.ts URL. Prints `{"event":"ready","port":N}`, then listens on loopback until it is killed.
 */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

const [origin = ''] = process.argv.slice(2);
const server = createServer((request, response) => {
  void fetch(`${origin}${request.url}`)
    .then(async (answer) => {
      const bytes = Buffer.from(await answer.arrayBuffer());
      response.writeHead(answer.status, { 'content-length': bytes.length }).end(bytes);
    })
    .catch(() => response.writeHead(404).end());
});
server.listen(0, '127.0.0.1', () => {
  console.log(JSON.stringify({ event: 'ready', port: (server.address() as AddressInfo).port }));
});
