/** A machine whose name server does not answer, in namespaces of its own. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { before, test } from 'node:test';
import { inNamespace } from '../support/namespace.ts';
import { requireNamespaces } from '../support/namespaces.ts';

before(requireNamespaces);

/** A network with one other host, which never answers and has the name server's address. */
const SETUP = `
set -e
ip link set lo up
ip link add dead0 type veth peer name dead1
ip addr add 10.9.9.1/24 dev dead0
ip link set dead1 up
ip link set dead0 up
ip neigh add 10.9.9.9 lladdr 02:00:00:00:00:09 dev dead0 nud permanent
mount --bind "$1/resolv.conf" /etc/resolv.conf
mount --bind "$1/hosts" /etc/hosts
exec "$2" "$3"
`;

/** Asks a cache on the internet for many files, then one in the hosts file for one. */
const PROGRAM = `
import { once } from 'node:events';
import { createServer } from 'node:http';
import { HttpClient } from ${JSON.stringify(new URL('../../src/http/client.ts', import.meta.url).href)};
const server = createServer((_, response) => response.end('ok')).listen(0, '127.0.0.1');
await once(server, 'listening');
const client = new HttpClient({ retries: 0, hastyConnectTimeoutMs: 2_000 });
const ask = (url) => client.getBytes(url, { maxBytes: 9, givesWay: true });
const dead = Promise.allSettled(Array.from({ length: 25 }, (_, at) => ask('http://cache.dead.example/' + at)));
await new Promise((resolve) => setTimeout(resolve, 100));
await ask('http://nas.test:' + server.address().port + '/x');
const [{ reason }] = await dead;
console.log(reason.message);
await client.close();
server.close();
`;

test('a dead name server takes nothing from a cache whose address is known', { timeout: 180_000 }, async () => {
  const folder = await mkdtemp(join(tmpdir(), 'narswarm-names-'));
  try {
    await writeFile(join(folder, 'resolv.conf'), 'nameserver 10.9.9.9\n');
    await writeFile(join(folder, 'hosts'), '127.0.0.1 localhost nas.test\n');
    await writeFile(join(folder, 'ask.mjs'), PROGRAM);
    const [program, ...options] = inNamespace('-m');
    const words = [...options, '-n', 'sh', '-c', SETUP, 'sh', folder, process.execPath, join(folder, 'ask.mjs')];
    const child = spawn(program, words, { stdio: ['ignore', 'pipe', 'pipe'] });
    let out = '';
    let errors = '';
    child.stdout.on('data', (chunk: Buffer) => (out += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (errors += chunk.toString()));
    const [status] = (await once(child, 'close')) as [number];
    assert.equal(status, 0, errors);
    assert.match(
      out,
      /^http:\/\/cache\.dead\.example\/0 failed after 1 attempt: no name server tells its address within 2 s: /,
    );
  } finally {
    await rm(folder, { recursive: true });
  }
});
