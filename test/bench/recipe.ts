/** A machine that keeps imported NARs in its Nix store alone: `npm run bench:recipe`, see --help. */
import { lstatSync } from 'node:fs';
import { mkdir, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { storeHashOf } from '../../src/nix/store-path.ts';
import { freePort } from '../support/free-port.ts';
import { writeBinaryCache, type BinaryCache } from './binary-cache.ts';
import { CLOSURE_NAMES, CLOSURES } from './closures.ts';
import { startNginx } from './nginx.ts';
import { countOf, oneOf } from './option-values.ts';
import { Client, Service, type Argv, type ProcessOptions } from './process.ts';
import { formatTargets } from './report.ts';
import { narswarm } from './scene.ts';
import { systemNars } from './system-nar.ts';
import { atLeast, atMost, type Target } from './targets.ts';
import { makeWorkspace } from './workspace.ts';

const HELP = `Usage: npm run bench:recipe -- [options]

A machine imports a closure with keep-imported = "recipe". The share of its bytes that stays in the file store; the rate at which
neighbours on loopback get it: several fetches at once by the exchange of members and over HTTP, and curl. Beside nginx with
the xz files of the same NARs, and nix-store --dump of each path, as nix-serve reads them. Then Nix collects a path: the
time until it is offered no longer. Needs root, Nix, nginx and curl. Runs in a network namespace of its own.

  --closure NAME   ${CLOSURE_NAMES.join(', ')} (default desktop: 813 NARs, 2.6 GB unpacked)
  --clients N      neighbours at once (default 2)
  --rounds N       runs of each (default 3)
  --keep           leave the generated files where they are
`;

/**
 * The part of the closure that may stay in the file store, what one processor of the daemon gives to neighbours, who have
 * processors of their own, and the time after a collection.
 */
const WANTED = { keptPart: 0.03, mbPerCpuS: 300, goneMs: 1000 };
/** The contents decide nothing here but how many files there are, so xz need not take minutes. */
const FAST_XZ = ['-0', '--threads=1'];
/** Sizes of the xz files that are on the disk at most: cache, Nix store, and what the clients fetch. */
const COPIES = 20;
const LIMIT_S = 300;
/** Interval of questions about a path that is being collected. */
const ASK_EVERY_MS = 2;

interface Stage {
  readonly cache: BinaryCache;
  readonly infos: readonly NarInfo[];
  readonly narBytes: number;
  readonly dir: string;
  /** The folder of the Nix store: it has `nix/store`. */
  readonly nixRoot: string;
  readonly clients: number;
  readonly process: ProcessOptions;
}

/** Bytes that clients got each second, and those that the server's processor time was enough for. */
interface Rate {
  readonly mbPerS: number;
  readonly mbPerCpuS: number | undefined;
}

/** Imports the closure by an update that keeps the recipes alone. @returns the file store */
async function importAll({ cache, dir, process }: Stage): Promise<string> {
  const store = join(dir, 'held');
  const run = (...args: string[]): Promise<unknown> => {
    const [program, ...rest] = narswarm(...args, '--json');
    return execa(program, rest, { env: process.env, cancelSignal: process.signal });
  };
  await run('subscribe', 'desktop', cache.rootPath, '--import');
  const from = ['--from', `file://${cache.dir}`, '--trusted-public-key', cache.publicKey];
  await run('update', '--store', store, '--keep-imported', 'recipe', '--no-lan', '--no-dht', ...from);
  return store;
}

/** Bytes of all files below a folder. */
async function bytesIn(dir: string): Promise<number> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const sizes = entries.map(async (one) => (one.isFile() ? (await stat(join(one.parentPath, one.name))).size : 0));
  return (await Promise.all(sizes)).reduce((sum, size) => sum + size, 0);
}

/** Runs a command once for each client at the same time. @throws Error if one of them does not get everything */
async function together(
  command: (client: number) => Argv,
  bytes: number,
  { clients, process }: Stage,
  server?: Service,
): Promise<Rate> {
  using meter = server?.measure();
  await using stack = new AsyncDisposableStack();
  const startedAtMs = performance.now();
  const all = Array.from({ length: clients }, (_, index) =>
    stack.use(Client.start(command(index), true, process)).end(LIMIT_S),
  );
  const failure = (await Promise.all(all)).find((one) => one.failure !== undefined)?.failure;
  if (failure !== undefined) throw new Error(failure);
  const mb = (bytes * clients) / 1e6;
  const cpuS = meter?.seconds;
  return { mbPerS: mb / ((performance.now() - startedAtMs) / 1000), mbPerCpuS: cpuS && mb / cpuS };
}

/** Fetches by narswarm, into empty file stores. */
async function fetchAll(source: readonly string[], stage: Stage, server: Service): Promise<Rate> {
  const { cache, dir, narBytes } = stage;
  const store = (client: number): string => join(dir, `client-${client}`);
  const keys = ['--trusted-public-key', cache.publicKey, '--share-keys', cache.publicKey];
  const common = [...keys, '--no-copy', '--no-dht', '--listen', '127.0.0.1'];
  const rate = await together(
    (client) => narswarm('fetch', cache.rootPath, '--store', store(client), ...source, ...common),
    narBytes,
    stage,
    server,
  );
  for (let client = 0; client < stage.clients; client++) {
    const held = await bytesIn(join(store(client), 'nar'));
    if (held !== narBytes) throw new Error(`a client got ${held} bytes of ${narBytes}`);
    await rm(store(client), { recursive: true });
  }
  return rate;
}

/** Downloads by curl, eight at a time, and drops what comes. */
async function curlAll(urls: readonly string[], bytes: number, stage: Stage, server?: Service): Promise<Rate> {
  const list = join(stage.dir, 'urls');
  await writeFile(list, urls.map((url) => `url = "${url}"\noutput = "/dev/null"\n`).join(''));
  const curl = [
    'curl',
    '--silent',
    '--show-error',
    '--fail',
    '--parallel',
    '--parallel-max',
    '8',
    '--config',
    list,
  ] as const;
  return together(() => [...curl], bytes, stage, server);
}

/** Has Nix write each NAR, in a process of its own. */
async function dumpAll(stage: Stage): Promise<Rate> {
  const list = join(stage.dir, 'paths');
  await writeFile(list, stage.infos.map(({ storePath }) => join(stage.nixRoot, storePath)).join('\n'));
  const script = `xargs -n 1 nix-store --dump <'${list}' >/dev/null`;
  return together(() => ['sh', '-c', script], stage.narBytes, stage);
}

/** Has Nix delete the root of the closure. @returns milliseconds for which its NAR was still given when it was gone */
async function untilGone(nar: string, { cache, nixRoot, process: { env, signal } }: Stage): Promise<number> {
  const path = join(nixRoot, cache.rootPath);
  let goneAtMs = Infinity;
  let givenAtMs = 0;
  const removal = execa('nix-store', ['--delete', '--ignore-liveness', cache.rootPath], { env, cancelSignal: signal });
  for (let isGiven = true; isGiven;) {
    await sleep(ASK_EVERY_MS);
    const askedAtMs = performance.now();
    if (lstatSync(path, { throwIfNoEntry: false }) === undefined) goneAtMs = Math.min(goneAtMs, askedAtMs);
    const answer = await fetch(nar, { headers: { range: 'bytes=0-0' }, signal });
    await answer.arrayBuffer();
    isGiven = answer.ok;
    if (isGiven) givenAtMs = askedAtMs;
  }
  await removal;
  return Math.max(0, givenAtMs - goneAtMs);
}

async function main(signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    options: {
      closure: { type: 'string', default: 'desktop' },
      clients: { type: 'string', default: '2' },
      rounds: { type: 'string', default: '3' },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const [clients, rounds] = [countOf('clients', values.clients), countOf('rounds', values.rounds)];
  const shape = CLOSURES[oneOf('closure', values.closure, CLOSURE_NAMES)]();
  const wantedBytes = shape.sizesBytes.reduce((sum, size) => sum + size, 0);
  await using workspace = await makeWorkspace(wantedBytes * COPIES, values);
  const { dir } = workspace;
  note('making the NARs, unless an earlier run has made them');
  const system = await systemNars(FAST_XZ);
  const make: typeof system = (seed, fileBytes) => system(`fast ${seed}`, fileBytes);
  const cache = await writeBinaryCache(shape, join(dir, 'cache'), join(dir, 'torrents'), { make });
  const infos = await Promise.all(
    cache.baseNames.map(async (name) =>
      parseNarInfo(await readFile(join(cache.dir, `${name.slice(0, 32)}.narinfo`), 'utf8')),
    ),
  );
  const nixRoot = join(dir, 'nix');
  const env = {
    PATH: process.env['PATH'],
    HOME: join(dir, 'home'),
    NARSWARM_CONFIG: join(dir, 'config.toml'),
    STATE_DIRECTORY: join(dir, 'state'),
    NIX_REMOTE: `local?root=${nixRoot}`,
    NIX_CONFIG: ['substituters =', 'build-users-group =', `trusted-public-keys = ${cache.publicKey}`].join('\n'),
  };
  await mkdir(env.HOME);
  await writeFile(env.NARSWARM_CONFIG, '');
  const narBytes = infos.reduce((sum, { narSize }) => sum + narSize, 0);
  const stage: Stage = { cache, infos, narBytes, dir, nixRoot, clients, process: { env, signal } };

  await using stack = new AsyncDisposableStack();
  stack.defer(async () => {
    await execa('chmod', ['-R', 'u+w', dir]); // the folders of a Nix store are read-only
  });
  note('importing');
  const held = await importAll(stage);
  const keptPart = (await bytesIn(held)) / narBytes;
  const nginxPort = await freePort();
  const nginx = `http://127.0.0.1:${nginxPort}`;
  const listen = `127.0.0.1:${nginxPort}`;
  stack.use(await startNginx(cache.dir, { listen, url: `${nginx}/nix-cache-info`, dir }));
  const share = ['--trusted-public-key', cache.publicKey, '--share-keys', cache.publicKey];
  const where = ['--listen', '127.0.0.1', '--no-dht', '--no-upstream', '--substituter-port', '0'];
  const daemon = stack.use(
    await Service.start(narswarm('daemon', '--store', held, ...share, ...where, '--json'), stage.process),
  );
  const { substituters, port } = daemon.ready;
  const url = (substituters as readonly string[])[0] ?? '';
  const nars = infos.map((info) => `${url}/nar/${info.narHash}.nar?path=${storeHashOf(info.storePath)}`);

  const rates: Record<string, Rate[]> = {};
  const members = 'narswarm fetch, from members';
  const http = 'narswarm fetch, over HTTP';
  for (let round = 0; round < rounds; round++) {
    const play = async (name: string, rate: Promise<Rate>): Promise<void> => {
      (rates[name] ??= []).push(await rate);
      note(`round ${round + 1} of ${rounds}, ${name}: ${rates[name].at(-1)?.mbPerS.toFixed(0)} MB/s`);
    };
    await play(members, fetchAll(['--peer', `127.0.0.1:${String(port)}`, '--no-upstream'], stage, daemon));
    await play(http, fetchAll(['--from', url, '--no-lan'], stage, daemon));
    await play('curl, over HTTP', curlAll(nars, narBytes, stage, daemon));
    await play(
      'curl, xz files from nginx (MB of xz)',
      curlAll(
        infos.map((info) => `${nginx}/${info.url}`),
        cache.totalBytes,
        stage,
      ),
    );
    await play('nix-store --dump', dumpAll(stage));
  }
  const goneMs = await untilGone(nars[0] ?? '', stage);

  console.log(
    `${infos.length} paths, ${(narBytes / 1e6).toFixed(0)} MB unpacked, ${(cache.totalBytes / 1e6).toFixed(0)} MB of xz; ${clients} clients, files ${workspace.isInMemory ? 'in memory (tmpfs)' : 'on disk'}\n`,
  );
  console.log(`${''.padEnd(40)}${'MB/s'.padStart(8)}${'MB for a CPU second'.padStart(24)}`);
  for (const [name, all] of Object.entries(rates)) {
    const { mbPerS, mbPerCpuS } = medianOf(all);
    console.log(`${name.padEnd(40)}${mbPerS.toFixed(0).padStart(8)}${(mbPerCpuS?.toFixed(0) ?? '-').padStart(24)}`);
  }
  const targets: Target[] = [
    atMost('% of the closure in the file store', 100 * WANTED.keptPart, 100 * keptPart),
    ...[members, http].map((name) =>
      atLeast(
        `MB for a CPU second of the daemon, ${name}`,
        WANTED.mbPerCpuS,
        medianOf(rates[name] ?? []).mbPerCpuS ?? NaN,
      ),
    ),
    atMost('ms for which a collected path is offered', WANTED.goneMs, goneMs),
  ];
  console.log(`\n${formatTargets(targets)}`);
}

/** The run with the median rate. */
function medianOf(rates: readonly Rate[]): Rate {
  const sorted = rates.toSorted((a, b) => a.mbPerS - b.mbPerS);
  return sorted[sorted.length >> 1] ?? { mbPerS: NaN, mbPerCpuS: undefined };
}

/** Progress, for people only. */
function note(text: string): void {
  process.stderr.write(`${text}\n`);
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
await main(interrupt.signal);
