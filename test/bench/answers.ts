/** Answers of the daemon's substituter to single questions, beside nginx: `npm run bench:answers`, see --help. */
import { mkdir } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { freePort } from '../support/free-port.ts';
import { writeBinaryCache } from './binary-cache.ts';
import { startNginx } from './nginx.ts';
import { positive } from './option-values.ts';
import { Service } from './process.ts';
import { RandomStream } from './random.ts';
import { narswarm } from './scene.ts';
import { makeWorkspace } from './workspace.ts';

const HELP = `Usage: npm run bench:answers -- [options]

The time from a question to the last byte of its answer, over one connection that stays open: nix-cache-info, narinfos of NARs that
the file store holds, and narinfos that a walk has found while their NARs are fetched. Beside nginx, which serves the same
cache. Needs nginx.

  --paths N    narinfos (default 813)
  --rounds N   questions about each (default 5)
  --rate RATE  of the download during the walk, which must last as long as the questions (default 2MB/s)
  --keep       leave the generated files where they are
`;

/** Targets in milliseconds. */
const WANTED = { median: 0.5, p99: 3 };

/** A client with one connection, which asks one question after another, as Nix does over each of its connections. */
class Asker implements Disposable {
  readonly #socket: Socket;
  readonly #host: string;
  #received = Buffer.alloc(0);
  #onAnswer: (answer: Buffer) => void = () => undefined;

  constructor(port: number) {
    this.#host = `127.0.0.1:${port}`;
    this.#socket = connect({ port, host: '127.0.0.1', noDelay: true });
    this.#socket.on('data', (bytes) => {
      this.#received = Buffer.concat([this.#received, bytes]);
      const headEnd = this.#received.indexOf('\r\n\r\n');
      if (headEnd < 0) return;
      const head = this.#received.toString('latin1', 0, headEnd);
      const length = Number(/^content-length: (\d+)/im.exec(head)?.[1]);
      if (this.#received.length < headEnd + 4 + length) return;
      const answer = this.#received;
      this.#received = Buffer.alloc(0);
      this.#onAnswer(answer);
    });
  }

  /** Milliseconds until the last byte of an answer with status 200. */
  async ask(path: string): Promise<number> {
    const { promise, resolve, reject } = Promise.withResolvers<Buffer>();
    this.#onAnswer = resolve;
    this.#socket.once('close', reject);
    const startedAtMs = performance.now();
    this.#socket.write(`GET ${path} HTTP/1.1\r\nHost: ${this.#host}\r\nUser-Agent: curl/8 Nix/2.24\r\n\r\n`);
    const answer = await promise;
    const tookMs = performance.now() - startedAtMs;
    this.#socket.off('close', reject);
    const status = answer.toString('latin1', 9, 12);
    if (status !== '200') throw new Error(`${path}: status ${status}`);
    return tookMs;
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** Asks for all paths that often, and prints the median and the 99th percentile. Returns whether both are as wanted. */
async function row(name: string, port: number, paths: readonly string[], rounds: number): Promise<boolean> {
  using asker = new Asker(port);
  for (const path of paths) await asker.ask(path); // compiles, and connects
  const took: number[] = [];
  for (let round = 0; round < rounds; round++) for (const path of paths) took.push(await asker.ask(path));
  took.sort((a, b) => a - b);
  const at = (part: number): number => took[Math.min(took.length - 1, Math.floor(took.length * part))] ?? NaN;
  const [median, p99] = [at(0.5), at(0.99)];
  console.log(
    `${name.padEnd(44)}median ${median.toFixed(2).padStart(6)} ms   p99 ${p99.toFixed(2).padStart(6)} ms   most ${at(1).toFixed(1).padStart(6)} ms`,
  );
  return median <= WANTED.median && p99 <= WANTED.p99;
}

/** The port at which a daemon serves Nix. */
function portOf({ ready }: Service): number {
  return Number(new URL((ready['substituters'] as readonly string[])[0] ?? '').port);
}

async function main(signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    options: {
      paths: { type: 'string', default: '813' },
      rounds: { type: 'string', default: '5' },
      rate: { type: 'string', default: '2MB/s' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const count = positive('paths', values.paths);
  const rounds = positive('rounds', values.rounds);
  const random = new RandomStream('answers');
  const sizesBytes = Array.from({ length: count }, () => Math.round(random.logNormal(95_000, 0.5)));
  await using workspace = await makeWorkspace(sizesBytes.reduce((sum, size) => sum + size, 0) * 4, values);
  const { dir } = workspace;
  const cache = await writeBinaryCache({ name: 'small', sizesBytes }, join(dir, 'cache'), join(dir, 'torrents'));
  const env = {
    ...process.env,
    HOME: join(dir, 'home'),
    NARSWARM_CONFIG: '/dev/null',
    STATE_DIRECTORY: join(dir, 'state'),
  };
  await mkdir(env.HOME);
  const nginxPort = await freePort();
  await using stack = new AsyncDisposableStack();
  const at = `127.0.0.1:${nginxPort}`;
  const from = `http://${at}`;
  stack.use(await startNginx(cache.dir, { listen: at, url: `${from}/nix-cache-info`, dir }));
  const common = ['--trusted-public-key', cache.publicKey, '--no-dht', '--no-lan', '--json', '--from', from];
  const held = join(dir, 'held');
  const [program, ...args] = narswarm('fetch', cache.rootPath, '--store', held, '--no-copy', ...common);
  await execa(program, args, { env, cancelSignal: signal });
  const narinfos = cache.baseNames.map((name) => `/${name.slice(0, 32)}.narinfo`);
  const start = (store: string, ...more: string[]): Promise<Service> =>
    Service.start(
      narswarm('daemon', '--store', store, '--substituter-port', '0', '--listen', '127.0.0.1', ...more, ...common),
      { env, signal },
    );

  const isMet: boolean[] = [];
  await row('nginx: a narinfo', nginxPort, narinfos, rounds);
  {
    await using daemon = await start(held);
    const port = portOf(daemon);
    const info = narinfos.map(() => '/nix-cache-info');
    isMet.push(await row('narswarm: nix-cache-info', port, info, rounds));
    isMet.push(await row('narswarm: a narinfo that is held', port, narinfos, rounds));
  }
  {
    await using daemon = await start(join(dir, 'empty'), '--max-download-rate', values.rate);
    const port = portOf(daemon);
    using asker = new Asker(port);
    await asker.ask(`/${cache.baseNames[0]?.slice(0, 32)}.narinfo`);
    isMet.push(await row('narswarm: a narinfo, during a look-ahead', port, narinfos, rounds));
  }
  await row('nginx again: a narinfo', nginxPort, narinfos, rounds);
  console.log(
    `${isMet.every(Boolean) ? 'met' : 'MISSED'}: median at most ${WANTED.median} ms, p99 at most ${WANTED.p99} ms`,
  );
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
await main(interrupt.signal);
