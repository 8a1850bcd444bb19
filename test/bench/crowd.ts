/** A flash crowd behind one seeder, narswarm beside libtorrent and HTTP: `npm run bench:crowd`, see `--help`; needs root. */
import { cp, mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { falsify } from '../support/falsify.ts';
import { Lan, type Host } from '../support/namespaces.ts';
import { writeBinaryCache, type BinaryCache } from './binary-cache.ts';
import { assertFetched } from './check.ts';
import { CLOSURES } from './closures.ts';
import { CROWD_HELP, parseCrowdOptions, type CrowdOptions, type Rival } from './crowd-options.ts';
import { formatCrowd, type CrowdResult } from './crowd-report.ts';
import { Client, Service, scriptPath, type Argv, type ProcessOptions } from './process.ts';
import { narswarm } from './scene.ts';
import { findTools, machineFacts, type Tools } from './tools.ts';
import { makeWorkspace } from './workspace.ts';

const PORT = 6881;
const HTTP_PORT = 8081;
/** Copies of the closure that leave the seeder before it goes, with `--seeder-leaves`. */
const COPIES_BEFORE_LEAVING = 1.3;
const SLOW_KBIT = 10_000;
/** Time from the start until the staller falls asleep. */
const STALL_AFTER_MS = 1_000;
/** Copies of the closure on disk at a time: the cache, two odd members, all clients. */
const OTHER_COPIES = 4;
const LOOK_EVERY_MS = 50;

/** The parts of one run of one rival. */
interface Stage {
  readonly cache: BinaryCache;
  readonly tools: Tools;
  readonly options: CrowdOptions;
  readonly dir: string;
  readonly lan: Lan;
  readonly seeder: Host;
  readonly clients: readonly Host[];
  readonly process: ProcessOptions;
}

/** A seeder that is ready, and the command of each client. */
interface Setting {
  readonly seeder: Service;
  command(client: number, out: string): Promise<Argv> | Argv;
  /** Folder of the NARs, below the output directory. */
  readonly narDir: string;
  /** Whether a client has ended when it has everything. */
  readonly exits: boolean;
  /** Events for others once the clients run. */
  readonly onStart?: () => void;
}

async function play(rival: Rival, stage: Stage): Promise<CrowdResult> {
  await using stack = new AsyncDisposableStack();
  const { cache, options, seeder, clients, dir } = stage;
  const setting = await SETTINGS[rival](stage, stack);
  const hosts = [seeder, ...clients];
  for (const [index, host] of hosts.entries()) {
    const kbit = options.slow && index === hosts.length - 1 ? SLOW_KBIT : options.rateKbit;
    host.setRate({ upKbit: kbit, downKbit: kbit });
  }
  const before = sentBy(seeder);
  const outs = clients.map((_, index) => join(dir, `out-${index}`));
  for (const out of outs) await mkdir(out, { recursive: true });
  const commands = await Promise.all(outs.map(async (out, index) => setting.command(index, out)));
  const started = clients.map((host, index) =>
    stack.use(Client.start([...host.wrapper, ...(commands[index] ?? [''])] as Argv, setting.exits, stage.process)),
  );
  using seederMeter = setting.seeder.measure();
  setting.onStart?.();
  const leaving = new AbortController();
  const left = options.seederLeaves
    ? leave(setting.seeder, () => sentBy(seeder) - before, cache.totalBytes, leaving.signal)
    : undefined;
  const ends = await Promise.all(started.map((client) => client.end(options.limitS)));
  const seederCpuS = seederMeter.seconds;
  leaving.abort();
  await left;
  const sentBytes = sentBy(seeder) - before;
  const failures: string[] = [];
  for (const [index, end] of ends.entries()) {
    const lack =
      end.failure ??
      (await assertFetched(join(outs[index] ?? '', setting.narDir), cache.nars).catch(
        ({ message }: Error) => `${message}: ${end.log}`,
      ));
    if (lack !== undefined) failures.push(`client ${index + 1}: ${lack}`);
  }
  if (options.verbose)
    for (const [index, { facts, log, seconds }] of ends.entries())
      console.log(`client ${index + 1} after ${seconds.toFixed(2)} s: ${JSON.stringify(facts)} ${log}`);
  return {
    rival,
    lastS: Math.max(...ends.map(({ seconds }) => seconds)),
    firstS: Math.min(...ends.map(({ seconds }) => seconds)),
    lastOwnS: Math.max(...ends.map(({ facts, seconds }) => Number(facts?.['durationMs'] ?? seconds * 1000) / 1000)),
    copies: sentBytes / cache.totalBytes,
    clientCpuS: ends.reduce((sum, { cpuS }) => sum + cpuS, 0) / ends.length,
    seederCpuS,
    failures,
  };
}

const SETTINGS: Readonly<Record<Rival, (stage: Stage, stack: AsyncDisposableStack) => Promise<Setting>>> = {
  async narswarm(stage, stack) {
    const { cache, dir, seeder, lan, options, process } = stage;
    const key = join(dir, 'publisher.key');
    const flags = ['--port', `${PORT}`, '--no-dht', '--json', '--trusted-public-key', cache.publicKey];
    const publish = ['publish', '--store', cache.dir, '--root', `closure=${cache.rootPath}`, '--key', key];
    const http = ['--http-port', `${HTTP_PORT}`];
    const start = async (host: Host, argv: Argv): Promise<Service> =>
      stack.use(await Service.start([...host.wrapper, ...argv], process));
    const publisher = await start(seeder, narswarm(...publish, ...flags, ...http));
    const magnet = String(publisher.ready['address']);
    const address = `http://${seeder.ipv4}:${HTTP_PORT}/${magnet.slice(magnet.indexOf('?'))}`;
    const common = ['--publisher', address, '--no-upstream', '--no-copy', ...flags];
    const fetch = (out: string): Argv =>
      narswarm('fetch', cache.rootPath, '--store', out, '--seed-for', '1h', ...common);
    const odd: Service[] = [];
    for (const name of options.hostile ? ['liar', 'staller'] : []) {
      const host = lan.host(name);
      const out = join(dir, name);
      await cp(cache.dir, out, { recursive: true, preserveTimestamps: true });
      const argv = narswarm(
        'publish',
        '--store',
        out,
        '--root',
        `closure=${cache.rootPath}`,
        '--key',
        `${out}.key`,
        ...flags,
      );
      const first = await Service.start([...host.wrapper, ...argv], process); // checks the contents and lists them
      await first[Symbol.asyncDispose]();
      if (name === 'liar') await falsify(join(out, 'nar'));
      odd.push(await start(host, narswarm('daemon', '--store', out, '--publisher', address, ...flags)));
      host.setRate({ upKbit: options.rateKbit, downKbit: options.rateKbit });
    }
    const staller = odd[1];
    return {
      seeder: publisher,
      command: (_, out) => fetch(out),
      narDir: 'nar',
      exits: false,
      ...(staller !== undefined && {
        onStart: () => setTimeout(() => staller.signal('SIGSTOP'), STALL_AFTER_MS).unref(),
      }),
    };
  },
  async libtorrent({ cache, seeder, clients, tools, process }, stack) {
    const python = tools.libtorrent?.program;
    if (python === undefined) throw new Error('python3-libtorrent is not installed');
    const client = (...args: readonly string[]): Argv => [python, scriptPath('libtorrent_client.py'), ...args];
    const addresses = [seeder, ...clients].map(({ ipv4 }) => `${ipv4}:${PORT}`);
    const [seedAddress = ''] = addresses;
    const seed = client('seed', cache.torrentDir, join(cache.dir, 'nar'), seedAddress);
    return {
      seeder: stack.use(await Service.start([...seeder.wrapper, ...seed], process)),
      command(index, out) {
        const own = addresses[index + 1] ?? '';
        return client('crowd', cache.torrentDir, out, own, ...addresses.filter((address) => address !== own));
      },
      narDir: '.',
      exits: false,
    };
  },
  async http({ cache, dir, seeder, tools, process }, stack) {
    const server: Argv = [tools.python.program, scriptPath('file_server.py'), cache.dir, seeder.ipv4];
    const service = stack.use(await Service.start([...seeder.wrapper, ...server], process));
    const url = `http://${seeder.ipv4}:${String(service.ready['port'])}`;
    return {
      seeder: service,
      async command(index, out) {
        const entry = (name: string): string => `url = "${url}/nar/${name}"\noutput = "${join(out, name)}"\n`;
        const config = join(dir, `curl-${index}`);
        await writeFile(config, cache.nars.map(({ name }) => entry(name)).join(''));
        return ['curl', '--disable', '--silent', '--fail', '--parallel', '--parallel-max', '16', '--config', config];
      },
      narDir: '.',
      exits: true,
    };
  },
};

/** Kills the seeder as soon as it has sent this much. */
async function leave(
  seeder: Service,
  sentBytes: () => number,
  closureBytes: number,
  signal: AbortSignal,
): Promise<void> {
  while (!signal.aborted) {
    if (sentBytes() > COPIES_BEFORE_LEAVING * closureBytes) {
      seeder.signal('SIGKILL');
      return;
    }
    await sleep(LOOK_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
}

/** Returns the bytes that a host has sent, with all headers. */
function sentBy(host: Host): number {
  return Number(host.run('cat', '/sys/class/net/eth0/statistics/tx_bytes'));
}

async function main(signal: AbortSignal): Promise<void> {
  const options = parseCrowdOptions(process.argv.slice(2));
  if (options.help) {
    console.log(CROWD_HELP);
    return;
  }
  const tools = await findTools();
  const shape = CLOSURES[options.closure]();
  const wantedBytes = shape.sizesBytes.reduce((sum, size) => sum + size, 0);
  await using workspace = await makeWorkspace(wantedBytes * (options.clients + OTHER_COPIES), options);
  const cache = await writeBinaryCache(shape, join(workspace.dir, 'cache'), join(workspace.dir, 'torrents'));
  const results: CrowdResult[] = [];
  for (let round = 0; round < options.rounds; round++) {
    for (const rival of options.rivals) {
      process.stderr.write(`round ${round + 1} of ${options.rounds}: ${rival}\n`);
      const dir = join(workspace.dir, rival);
      await mkdir(dir);
      await using lan = Lan.open();
      const seeder = lan.host('seeder');
      const clients = Array.from({ length: options.clients }, (_, index) => lan.host(`client-${index + 1}`));
      const home = { HOME: dir, NARSWARM_CONFIG: '/dev/null', STATE_DIRECTORY: join(dir, 'state') };
      const env = { ...process.env, ...home };
      results.push(await play(rival, { cache, tools, options, dir, lan, seeder, clients, process: { env, signal } }));
      await rm(dir, { recursive: true, force: true });
    }
  }
  if (options.json) console.log(JSON.stringify({ machine: machineFacts(tools), options, results }));
  else console.log(formatCrowd(results, options, cache.totalBytes));
  if (results.some(({ rival, failures }) => rival === 'narswarm' && failures.length > 0)) process.exitCode = 1;
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
await main(interrupt.signal);
