/** Six situations of a local network, narswarm by itself beside narswarm told by hand: `npm run bench:lan`; needs root. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { execa } from 'execa';
import { Lan, type Host, type HostOptions } from '../support/namespaces.ts';
import { writeBinaryCache, type BinaryCache } from './binary-cache.ts';
import { assertFetched, untilChecked } from './check.ts';
import { CLOSURES } from './closures.ts';
import { LAN_HELP, parseLanOptions, type LanOptions } from './lan-options.ts';
import { formatLan, formatRun, isMet, type LanResult, type LanRun } from './lan-report.ts';
import { scriptPath, Service, type Argv, type ProcessOptions } from './process.ts';
import { narswarm } from './scene.ts';
import { findTools, machineFacts, type Tools } from './tools.ts';
import { makeWorkspace } from './workspace.ts';

/** The default ports (README). */
const PORT = 16_277;
const HTTP_PORT = 16_276;
/** The ports that README opens in a firewall. */
const OPEN = { tcp: [PORT, HTTP_PORT], udp: [6771] };

/** A machine: a host, a folder for its user, and processes that it runs. */
class Machine {
  readonly host: Host;
  readonly dir: string;
  readonly #stage: Stage;

  private constructor(host: Host, dir: string, stage: Stage) {
    this.host = host;
    this.dir = dir;
    this.#stage = stage;
  }

  static async make(name: string, stage: Stage): Promise<Machine> {
    const dir = join(stage.dir, name);
    await mkdir(dir, { recursive: true });
    await writeFile(join(dir, 'config.toml'), '');
    return new Machine(stage.lan.host(name, stage.hosts), dir, stage);
  }

  get store(): string {
    return join(this.dir, 'store');
  }

  get #process(): ProcessOptions {
    const { env, signal } = this.#stage.process;
    const home = { HOME: this.dir, NARSWARM_CONFIG: join(this.dir, 'config.toml') };
    const nix = [`trusted-public-keys = ${this.#stage.cache.publicKey}`, `substituters = ${this.#stage.cacheUrl}`];
    return { env: { ...env, ...home, NIX_CONFIG: nix.join('\n') }, signal };
  }

  #command(args: readonly string[]): Argv {
    return [...this.host.wrapper, ...narswarm(...args, '--json')];
  }

  /** Runs a command to its end. @throws Error if it fails */
  async run(...args: readonly string[]): Promise<void> {
    const { failure } = await this.#end(args);
    if (failure !== undefined) throw new Error(`${args.join(' ')}: ${failure}`);
  }

  /** Starts a command that stays. */
  async service(...args: readonly string[]): Promise<Service> {
    return this.#stage.stack.use(await Service.start(this.#command(args), this.#process));
  }

  /** Runs a command that fetches. Returns its bytes by source. */
  async fetch(...args: readonly string[]): Promise<LanRun> {
    const { seconds, bytes, failure } = await this.#end([...args, '--store', this.store]);
    const lack =
      failure ??
      (await assertFetched(join(this.store, 'nar'), this.#stage.cache.nars).then(
        () => undefined,
        ({ message }: Error) => message,
      ));
    return { seconds, peerBytes: bytes.peers, upstreamBytes: bytes.upstream, failure: lack };
  }

  async #end(args: readonly string[]): Promise<{ seconds: number; bytes: Bytes; failure: string | undefined }> {
    const { limitS, verbose } = this.#stage.options;
    const startedAtMs = performance.now();
    const [file, ...rest] = this.#command(args);
    const run = await execa(file, rest, {
      env: this.#process.env,
      cancelSignal: this.#process.signal,
      reject: false,
      timeout: limitS * 1000,
    });
    const seconds = (performance.now() - startedAtMs) / 1000;
    if (verbose) console.log(`${args.join(' ')}: ${seconds.toFixed(2)} s\n${run.stdout}\n${run.stderr}`);
    const events = run.stdout
      .split('\n')
      .flatMap((line) => (line === '' ? [] : [JSON.parse(line) as { bytes?: Bytes }]));
    const bytes = events.findLast((event) => event.bytes?.peers !== undefined)?.bytes ?? { peers: 0, upstream: 0 };
    return { seconds, bytes, failure: run.exitCode === 0 ? undefined : `status ${run.exitCode}: ${run.stderr}` };
  }
}

/** Bytes of a fetch by source, from its report. */
interface Bytes {
  readonly peers: number;
  readonly upstream: number;
}

/** The parts of one play of one situation. */
interface Stage {
  readonly cache: BinaryCache;
  readonly cacheUrl: string;
  readonly options: LanOptions;
  readonly dir: string;
  readonly lan: Lan;
  readonly hosts: HostOptions;
  readonly stack: AsyncDisposableStack;
  readonly process: ProcessOptions;
}

/** A situation: the network that it is played on, and how a neighbour comes to hold everything. */
interface Situation {
  readonly name: string;
  readonly subnet?: string;
  readonly hosts?: HostOptions;
  /** @returns the arguments of the client's fetch, and the neighbour that holds everything */
  readonly set: (stage: Stage) => Promise<{ readonly fetch: readonly string[]; readonly holder: Machine }>;
  /** Steps of the client before its fetch. */
  readonly prepare?: (client: Machine, stage: Stage) => Promise<void>;
}

/** A neighbour that publishes. @returns it, and the address of its mirror */
async function publisher(stage: Stage): Promise<{ machine: Machine; address: string }> {
  const { cache } = stage;
  const machine = await Machine.make('holder', stage);
  const what = ['publish', '--store', cache.dir, '--root', `closure=${cache.rootPath}`, '--no-dht'];
  const { ready } = await machine.service(...what, '--key', join(machine.dir, 'key'));
  const magnet = String(ready['address']);
  const address = `http://${machine.host.ipv4}:${HTTP_PORT}/${magnet.slice(magnet.indexOf('?'))}`;
  return { machine, address };
}

async function besideAPublisher(stage: Stage, ...more: readonly string[]): ReturnType<Situation['set']> {
  const { machine, address } = await publisher(stage);
  const fetch = ['fetch', stage.cache.rootPath, '--publisher', address, '--no-copy', '--no-dht', ...more];
  return { fetch, holder: machine };
}

const SITUATIONS: readonly Situation[] = [
  {
    name: 'a mirror of a publisher, a cache, a neighbour found by multicast',
    set: (stage) => besideAPublisher(stage),
  },
  {
    name: 'the same with public addresses',
    subnet: '130.92.1',
    set: (stage) => besideAPublisher(stage),
  },
  {
    name: 'the same behind firewalls, at the default ports',
    hosts: { firewall: OPEN },
    set: (stage) => besideAPublisher(stage),
  },
  {
    name: 'no publisher: subscribe and update on two machines',
    async set(stage) {
      const holder = await Machine.make('holder', stage);
      await holder.run('subscribe', 'sys', stage.cache.rootPath);
      await holder.run('update', '--store', holder.store, '--from', `file://${stage.cache.dir}`, '--no-lan');
      await holder.service('daemon', '--store', holder.store);
      await untilChecked(holder.store, stage.cache.nars, limitOf(stage));
      return { fetch: ['update'], holder };
    },
    prepare: (client, { cache }) => client.run('subscribe', 'sys', cache.rootPath),
  },
  {
    name: 'a limit of its own, a neighbour, a cache',
    set: (stage) => besideAPublisher(stage, '--max-download-rate', `${stage.options.rateMb}MB/s`),
  },
  {
    name: 'a server that mirrors a publisher behind a slow line',
    async set(stage) {
      const { machine, address } = await publisher(stage);
      const holder = await Machine.make('server', stage);
      await holder.run('subscribe', 'mirror', address);
      await holder.service('daemon', '--store', holder.store, '--no-dht');
      await untilChecked(holder.store, stage.cache.nars, limitOf(stage));
      machine.host.setRate({ upKbit: stage.options.lineKbit });
      const fetch = ['fetch', stage.cache.rootPath, '--publisher', address, '--no-copy', '--no-dht'];
      return { fetch, holder };
    },
  },
];

/** The end of the time for one step. */
function limitOf({ options, process }: Stage): AbortSignal {
  return AbortSignal.any([process.signal, AbortSignal.timeout(options.limitS * 1000)]);
}

/** Plays a situation: sets it up once, then lets new machines fetch, each after the other, with --peer and without. */
async function play(
  situation: Situation,
  cache: BinaryCache,
  common: {
    readonly options: LanOptions;
    readonly dir: string;
    readonly tools: Tools;
    readonly process: ProcessOptions;
  },
): Promise<LanResult> {
  const { options, dir, tools, process } = common;
  await rm(dir, { recursive: true, force: true });
  await using stack = new AsyncDisposableStack();
  const { name, subnet, hosts = {} } = situation;
  const lan = stack.use(Lan.open(subnet === undefined ? {} : { subnet }));
  const upstream = lan.host('cache', { upKbit: options.lineKbit });
  const server: Argv = [tools.python.program, scriptPath('file_server.py'), cache.dir, upstream.ipv4];
  const service = stack.use(await Service.start([...upstream.wrapper, ...server], process));
  const cacheUrl = `http://${upstream.ipv4}:${String(service.ready['port'])}`;
  const stage: Stage = { cache, cacheUrl, options, dir, lan, hosts, stack, process };
  const { fetch, holder } = await situation.set(stage);
  const runs = { alone: [] as LanRun[], byHand: [] as LanRun[] };
  const peer = ['--peer', `${holder.host.ipv4}:${PORT}`];
  for (let round = 0; round < options.rounds; round++) {
    // The second of a round finds the files of the neighbour read and checked: each is the first in turn.
    for (const kind of round % 2 === 0 ? (['byHand', 'alone'] as const) : (['alone', 'byHand'] as const)) {
      // oxlint-disable-next-line no-await-in-loop -- one at a time is the point
      runs[kind].push(await fetchOnce(`client-${round}${kind[0]}`, [...fetch, ...(kind === 'byHand' ? peer : [])]));
    }
    process.signal.throwIfAborted();
  }
  return { name, ...runs };

  async function fetchOnce(host: string, args: readonly string[]): Promise<LanRun> {
    const client = await Machine.make(host, stage);
    await situation.prepare?.(client, stage);
    const run = await client.fetch(...args);
    await rm(client.store, { recursive: true, force: true });
    return run;
  }
}

async function main(signal: AbortSignal): Promise<void> {
  const options = parseLanOptions(process.argv.slice(2));
  if (options.help) {
    console.log(LAN_HELP);
    return;
  }
  const tools = await findTools();
  const shape = CLOSURES[options.closure]();
  const wantedBytes = shape.sizesBytes.reduce((sum, size) => sum + size, 0);
  await using workspace = await makeWorkspace(wantedBytes * 4, options);
  const keyName = 'cache.nixos.org-1'; // which every machine shares
  const cache = await writeBinaryCache(shape, join(workspace.dir, 'cache'), join(workspace.dir, 'torrents'), {
    keyName,
  });
  const common = { options, tools, dir: join(workspace.dir, 'run'), process: { env: process.env, signal } };
  const results: (LanResult & { number: number })[] = [];
  for (const [index, situation] of SITUATIONS.entries()) {
    if (options.only.length > 0 && !options.only.includes(index + 1)) continue;
    process.stderr.write(`${index + 1}: ${situation.name}\n`);
    const result = await play(situation, cache, common);
    results.push({ number: index + 1, ...result });
    for (const [round, alone] of result.alone.entries())
      process.stderr.write(`  ${formatRun(alone)}; with --peer ${formatRun(result.byHand[round])}\n`);
  }
  if (options.json) console.log(JSON.stringify({ machine: machineFacts(tools), options, results }));
  else console.log(formatLan(results, cache.totalBytes, options.lineKbit));
  if (!results.every(isMet)) process.exitCode = 1;
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
await main(interrupt.signal);
