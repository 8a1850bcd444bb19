/** A daemon that gets its HTTP port from the service manager: systemd-socket-activate stands for systemd. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { get } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { execa } from 'execa';
import { freePort } from '../support/free-port.ts';
import { ALONE, fixtureKey, Lab, type CliProcess } from '../support/lab.ts';
import { Lan } from '../support/namespaces.ts';
import { requireTool } from '../support/require-tool.ts';

const LIMIT = { timeout: 200_000 };

/**
 * Starts a command twice, the second time when the first has ended, as `systemctl restart` does: with the same sockets.
 * Writes the number of each process to the file that it has as its name.
 */
const TWICE = `
for run in 1 2; do
  sh -c 'LISTEN_PID=$$ exec "$@"' sh "$@" &
  echo $! > "$0"
  wait $!
done`;

suite('the daemon’s HTTP port, opened by systemd', () => {
  let lab: Lab;
  before(requireTool('systemd', 'systemd-socket-activate', '--version'));
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  /**
   * @param options.wrapper what systemd-socket-activate starts, before the daemon
   * @param options.around what starts systemd-socket-activate
   */
  async function activated(
    port: number,
    {
      wrapper = [],
      around = [],
      host = '127.0.0.1',
      hosts = [host],
      socket = `${host}:${port}`,
    }: {
      readonly socket?: string;
      readonly wrapper?: readonly string[];
      readonly around?: readonly string[];
      readonly host?: string;
      /** What the daemon is to listen on. */
      readonly hosts?: readonly string[];
    } = {},
  ): Promise<CliProcess> {
    const variables = Object.keys(lab.env).flatMap((name) => ['-E', name]);
    const daemon = ['daemon', '--store', lab.path('store'), '--substituter-port', String(port)];
    const listen = hosts.flatMap((address) => ['--substituter-listen', address]);
    return lab.start([...daemon, ...listen, '--trusted-public-key', await fixtureKey(), ...ALONE], {
      wrapper: [...around, 'systemd-socket-activate', '-l', socket, ...variables, ...wrapper],
    });
  }

  /** Asks over a connection of its own. */
  async function ask(port: number, host = '127.0.0.1'): Promise<string> {
    const { promise, resolve, reject } = Promise.withResolvers<string>();
    get({ port, host, path: '/nix-cache-info', agent: false }, (answer) => resolve(text(answer))).on('error', reject);
    return promise;
  }

  /** Asks until somebody listens. */
  async function untilAnswered(port: number): Promise<string> {
    for (;;) {
      const answer = await ask(port).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ECONNREFUSED') return undefined;
        throw error;
      });
      if (answer !== undefined) return answer;
      await sleep(20);
    }
  }

  test('the first question starts the daemon, and is answered', LIMIT, async () => {
    const port = await freePort();
    const daemon = await activated(port);
    assert.match(await untilAnswered(port), /^StoreDir: \/nix\/store$/m);
    const { substituters } = await daemon.event('ready');
    assert.deepEqual(substituters, [`http://127.0.0.1:${port}`]);
    const { status, stderr } = await daemon.stop();
    assert.equal(status, 0, stderr);
  });

  test('no question is lost while the daemon is restarted', LIMIT, async () => {
    const port = await freePort();
    const file = lab.path('pid');
    const manager = await activated(port, { wrapper: ['sh', '-c', TWICE, file] });
    await untilAnswered(port);
    const pid = async (): Promise<number> => Number(await readFile(file, 'utf8'));
    const first = await pid();
    process.kill(first, 'SIGTERM');
    do assert.match(await ask(port), /^StoreDir/);
    while ((await pid()) === first);
    assert.match(await ask(port), /^StoreDir/);
    process.kill(await pid(), 'SIGTERM');
    const { stderr } = await manager.end();
    assert.doesNotMatch(stderr, /error/);
  });

  test('a socket that is no TCP socket is refused', LIMIT, async () => {
    const socket = lab.path('socket');
    const daemon = await activated(await freePort(), { socket });
    while (!existsSync(socket)) await sleep(20);
    connect(socket).on('error', () => undefined);
    const { status, stdout } = await daemon.end();
    assert.equal(status, 9, stdout);
    assert.match(stdout, /descriptor 3 \(it is no TCP socket\)/);
  });

  test('the daemon opens ::1 beside a socket for all addresses of IPv4', LIMIT, async () => {
    const port = await freePort();
    const daemon = await activated(port, { host: '0.0.0.0', hosts: ['0.0.0.0', '::1'] });
    await untilAnswered(port);
    await daemon.event('ready');
    assert.match(await ask(port, '::1'), /^StoreDir/);
  });

  test('what others reach over a passed socket is decided by their address', LIMIT, async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const server = lan.host('server');
    const other = lan.host('other');
    const port = 16_275;
    await activated(port, { host: '0.0.0.0', around: server.wrapper });
    const statusOf = async (from: typeof server, address: string): Promise<string> => {
      const curl = ['-s', '-o', '/dev/null', '-w', '%{http_code}', '--retry', '100', '--retry-connrefused'];
      const [file, ...args] = [
        ...from.wrapper,
        'curl',
        ...curl,
        '--retry-delay',
        '1',
        `http://${address}:${port}/status`,
      ];
      return (await execa(file, args)).stdout;
    };
    assert.equal(await statusOf(server, '127.0.0.1'), '200');
    assert.equal(await statusOf(other, server.ipv4), '404');
  });
});
