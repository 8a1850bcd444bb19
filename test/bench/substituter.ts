/** Nix through the daemon's substituter, beside narswarm fetch and beside nginx: `npm run bench:substituter`, see --help. */
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { execa } from 'execa';
import { Lan, type Host } from '../support/namespaces.ts';
import { writeBinaryCache, type BinaryCache } from './binary-cache.ts';
import { untilChecked } from './check.ts';
import { CLOSURE_NAMES, CLOSURES } from './closures.ts';
import { startNginx } from './nginx.ts';
import { oneOf, positive } from './option-values.ts';
import { Service, scriptPath, type Argv, type ProcessOptions } from './process.ts';
import { narswarm } from './scene.ts';
import { systemNars } from './system-nar.ts';
import { findTools, type Tools } from './tools.ts';
import { makeWorkspace } from './workspace.ts';

const HELP = `Usage: npm run bench:substituter -- [options]

A neighbour that holds a closure, over a line with a delay, and a machine that lacks it: the time until all of it is in an
empty Nix store, by narswarm fetch, by Nix through the daemon's substituter, by Nix from nginx on the neighbour, and by Nix
through a substituter that fetches each NAR from that nginx when Nix asks for it. Then Nix copies the same from a daemon that
holds everything, and from nginx, both on its own machine. Needs root, iproute2, nftables, nginx and Nix.

  --closure NAME   ${CLOSURE_NAMES.join(', ')} (default crowd: 50 NARs, 47 MB)
  --rounds N       runs of each (default 3)
  --rate MBIT      Mbit/s of the neighbour's line (default 100)
  --delay MS       round trip (default 20)
  --nix DIR        folder of another Nix
  --verbose        what each program says
  --keep           leave the generated files where they are
`;

/** Targets of each ratio. */
const WANTED = { ofFetch: 1.15, ofPullThrough: 1 / 3, held: 1.2 };
const PORT = 16277;
const NGINX_PORT = 8080;
const SUBSTITUTER = 'http://127.0.0.1:16275';

interface Stage {
  readonly cache: BinaryCache;
  readonly dir: string;
  readonly tools: Tools;
  readonly process: ProcessOptions;
  readonly verbose: boolean;
}

/** Seconds of one run of a command, which must succeed. */
async function time(host: Host, [file, ...args]: Argv, { process, verbose }: Stage): Promise<number> {
  const [ip, ...rest] = host.wrapper;
  const startedAtMs = performance.now();
  const { all, exitCode } = await execa(ip, [...rest, file, ...args], {
    env: process.env,
    cancelSignal: process.signal,
    all: true,
    reject: false,
  });
  const seconds = (performance.now() - startedAtMs) / 1000;
  if (verbose) console.log(all);
  if (exitCode !== 0) throw new Error(`${file} ${args[0]}: status ${exitCode}: ${all.slice(-2000)}`);
  return seconds;
}

/** Imports the closure into an empty Nix store, by Nix alone. */
async function byNix(host: Host, url: string, way: 'build' | 'copy', stage: Stage): Promise<number> {
  const root = await emptyRoot(stage);
  const { rootPath, publicKey } = stage.cache;
  const trust = ['--option', 'trusted-public-keys', publicKey, '--option', 'build-users-group', ''];
  if (way === 'copy') {
    const copy = ['nix', '--extra-experimental-features', 'nix-command', 'copy', '--from', url, '--to', root, rootPath];
    return time(host, [...copy, ...trust] as unknown as Argv, stage);
  }
  return time(host, ['nix-store', '--store', root, '-r', rootPath, '--option', 'substituters', url, ...trust], stage);
}

async function emptyRoot({ dir, process }: Stage): Promise<string> {
  const root = join(dir, 'root');
  await execa('chmod', ['-R', 'u+w', root], { reject: false });
  await rm(root, { recursive: true, force: true });
  await rm(String(process.env['HOME']), { recursive: true, force: true, maxRetries: 5 }); // Nix remembers narinfos
  await mkdir(String(process.env['HOME']), { recursive: true });
  return root;
}

async function proxy(host: Host, target: Host, port: number, delayMs: number, stage: Stage): Promise<Service> {
  const script = [
    stage.tools.python.program,
    scriptPath('delaying_proxy.py'),
    target.ipv4,
    String(port),
    String(delayMs),
  ];
  return Service.start([...host.wrapper, ...script], stage.process);
}

async function main(signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    options: {
      closure: { type: 'string', default: 'crowd' },
      rounds: { type: 'string', default: '3' },
      rate: { type: 'string', default: '100' },
      delay: { type: 'string', default: '20' },
      nix: { type: 'string' },
      verbose: { type: 'boolean', default: false },
      keep: { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const rounds = positive('rounds', values.rounds);
  const shape = CLOSURES[oneOf('closure', values.closure, CLOSURE_NAMES)]();
  const tools = await findTools();
  const bytes = shape.sizesBytes.reduce((sum, size) => sum + size, 0);
  await using workspace = await makeWorkspace(bytes * 10, values);
  const { dir } = workspace;
  const cache = await writeBinaryCache(shape, join(dir, 'cache'), join(dir, 'torrents'), { make: await systemNars() });
  const home = { HOME: join(dir, 'home'), NARSWARM_CONFIG: '/dev/null', STATE_DIRECTORY: join(dir, 'state') };
  const path = values.nix === undefined ? {} : { PATH: `${values.nix}:${process.env['PATH']}` };
  const stage: Stage = {
    cache,
    dir,
    tools,
    verbose: values.verbose,
    process: { env: { ...process.env, ...home, ...path }, signal },
  };
  const seconds: Record<string, number[]> = {};
  const note = (name: string, took: number): void => {
    (seconds[name] ??= []).push(took);
    process.stderr.write(`${name}: ${took.toFixed(2)} s\n`);
  };

  await using stack = new AsyncDisposableStack();
  const lan = stack.use(Lan.open());
  // No multicast: the neighbour is reached over the line with the delay alone.
  const holder = lan.host('holder', { firewall: { tcp: [PORT, NGINX_PORT] } });
  const client = lan.host('client', { firewall: {} });
  const held = join(dir, 'held');
  await mkdir(home.HOME, { recursive: true });
  const trust = ['--trusted-public-key', cache.publicKey, '--share-keys', cache.publicKey, '--no-dht', '--json'];
  const start = async (host: Host, ...args: string[]): Promise<Service> =>
    Service.start([...host.wrapper, ...narswarm(...args, ...trust)], stage.process);
  const take = ['fetch', cache.rootPath, '--store', held, '--from', `file://${cache.dir}`, '--no-copy', '--no-lan'];
  await time(holder, narswarm(...take, ...trust), stage);
  stack.use(await start(holder, 'daemon', '--store', held, '--no-upstream'));
  stack.use(
    await startNginx(cache.dir, {
      listen: String(NGINX_PORT),
      url: `http://127.0.0.1:${NGINX_PORT}/nix-cache-info`,
      dir,
      wrapper: holder.wrapper,
      env: stage.process.env,
    }),
  );
  const delayMs = positive('delay', values.delay);
  const [peerPort, cachePort] = await Promise.all(
    [PORT, NGINX_PORT].map(async (port) => stack.use(await proxy(client, holder, port, delayMs, stage)).ready['port']),
  );
  const kbit = positive('rate', values.rate) * 1000;
  holder.setRate({ upKbit: kbit, downKbit: kbit });
  const store = join(dir, 'store');
  const near = ['--peer', `127.0.0.1:${String(peerPort)}`, '--no-upstream', '--store', store];
  const { rootPath } = cache;

  // The neighbour checks the contents of its NARs when somebody first wants them.
  await time(client, narswarm('fetch', rootPath, '--no-copy', ...near, ...trust), stage);
  await untilChecked(held, cache.nars, signal);
  for (let round = 0; round < rounds; round++) {
    await rm(store, { recursive: true, force: true });
    const to = await emptyRoot(stage);
    note('narswarm fetch', await time(client, narswarm('fetch', rootPath, '--to', to, ...near, ...trust), stage));
    await rm(store, { recursive: true, force: true });
    {
      await using _daemon = await start(client, 'daemon', ...near);
      note('Nix, through narswarm', await byNix(client, SUBSTITUTER, 'build', stage));
    }
    const far = `http://127.0.0.1:${String(cachePort)}`;
    note('Nix, from nginx', await byNix(client, far, 'build', stage));
    {
      await using rival = await Service.start(
        [...client.wrapper, process.execPath, scriptPath('pull-through.ts'), far],
        stage.process,
      );
      const url = `http://127.0.0.1:${String(rival.ready['port'])}`;
      note('Nix, NAR by NAR', await byNix(client, url, 'build', stage));
    }
  }
  for (let round = 0; round < rounds; round++) {
    note('held: nix copy from narswarm', await byNix(holder, SUBSTITUTER, 'copy', stage));
    note('held: nix copy from nginx', await byNix(holder, `http://127.0.0.1:${NGINX_PORT}`, 'copy', stage));
  }

  const median = (name: string): number => seconds[name]?.toSorted((a, b) => a - b)[Math.floor(rounds / 2)] ?? NaN;
  for (const name of Object.keys(seconds)) console.log(`${name.padEnd(32)}${median(name).toFixed(2).padStart(8)} s`);
  const ratio = (one: string, other: string, wanted: number): void => {
    const got = median(one) / median(other);
    console.log(
      `${got <= wanted ? 'met' : 'MISSED'}: ${one} at most ${wanted.toFixed(2)} times ${other}, got ${got.toFixed(2)}`,
    );
  };
  ratio('Nix, through narswarm', 'narswarm fetch', WANTED.ofFetch);
  ratio('Nix, through narswarm', 'Nix, NAR by NAR', WANTED.ofPullThrough);
  ratio('held: nix copy from narswarm', 'held: nix copy from nginx', WANTED.held);
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
await main(interrupt.signal);
