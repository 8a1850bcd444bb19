/** A download beside an update over one internet line: `npm run bench:line`, see `--help`; needs root. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { InternetLine, type Congestion } from '../support/internet-line.ts';
import type { Host } from '../support/namespaces.ts';
import { writeBinaryCache, type BinaryCache } from './binary-cache.ts';
import { CLOSURES } from './closures.ts';
import { countOf } from './option-values.ts';
import { Client, scriptPath, Service, type Argv, type ProcessOptions } from './process.ts';
import { narswarm } from './scene.ts';
import { findTools, type Tools } from './tools.ts';
import { makeWorkspace } from './workspace.ts';

const DOWN_KBIT = 20_000;
const UP_KBIT = 5_000;
const QUEUE_MS = 300;
const ROUND_TRIP_MS = 20;
/** What the payload of full packets takes of the line. */
const PAYLOAD_SHARE = 1448 / 1514;
/** Time that the update runs before the download begins. */
const BEFORE_MS = 15_000;
const FOREGROUND_BYTES = 200_000_000;
const WANTED_SHARE = 0.9;
const ALONE_LIMIT_S = 300;

const HELP = `Usage: npm run bench:line -- [options]

A download with curl over a line of ${DOWN_KBIT / 1000} Mbit/s with a queue of ${QUEUE_MS} ms, alone and beside a fetch from a cache over the same
line, by senders with cubic, reno and BBR. Needs root, iproute2 and nftables. Load on this machine counts as load on the line.

  --seconds N   of each download (default 30)
  --help
`;

type Rival = 'nothing' | 'curl' | 'narswarm' | 'narswarm --yield';

interface Stage {
  readonly cache: BinaryCache;
  readonly tools: Tools;
  readonly dir: string;
  readonly process: ProcessOptions;
}

/** Fetches the closure. `curl` does so with as many connections as Nix. */
async function fetchCommand(rival: Exclude<Rival, 'nothing'>, { cache, dir }: Stage, cacheUrl: string): Promise<Argv> {
  if (rival === 'curl') {
    const config = join(dir, 'curl');
    const entries = cache.nars.map(({ name }) => `url = "${cacheUrl}/nar/${name}"\noutput = "/dev/null"\n`);
    await writeFile(config, entries.join(''));
    return ['curl', '--disable', '--silent', '--fail', '--parallel', '--parallel-max', '25', '--config', config];
  }
  const source = ['--from', cacheUrl, '--trusted-public-key', cache.publicKey, '--no-lan', '--no-dht', '--no-copy'];
  const flags = rival === 'narswarm' ? [] : ['--yield'];
  return narswarm('fetch', cache.rootPath, ...source, '--store', join(dir, 'store'), ...flags);
}

async function serve(host: Host, folder: string, { tools, process }: Stage, stack: AsyncDisposableStack) {
  const server: Argv = [...host.wrapper, tools.python.program, scriptPath('file_server.py'), folder, host.ipv4];
  const service = stack.use(await Service.start(server, process));
  return `http://${host.ipv4}:${String(service.ready['port'])}`;
}

interface Ends {
  readonly desk: Host;
  readonly laptop: Host;
  readonly cacheUrl: string;
  readonly fileUrl: string;
}

/** Opens the line with new hosts, and an empty folder. */
async function openEnds(stage: Stage, foreground: Congestion, stack: AsyncDisposableStack): Promise<Ends> {
  await rm(join(stage.dir, 'store'), { recursive: true, force: true });
  const line = stack.use(
    await InternetLine.open({
      downKbit: DOWN_KBIT,
      upKbit: UP_KBIT,
      queueMs: QUEUE_MS,
      roundTripMs: ROUND_TRIP_MS,
      python: stage.tools.python.program,
      process: stage.process,
    }),
  );
  return {
    desk: line.machine('desk'),
    laptop: line.machine('laptop'),
    cacheUrl: await serve(line.server('cache', 'cubic'), stage.cache.dir, stage, stack),
    fileUrl: await serve(line.server('files', foreground), join(stage.dir, 'files'), stage, stack),
  };
}

/** Downloads beside a rival. @returns the bytes a second of the download, with headers */
async function foregroundRate(stage: Stage, congestion: Congestion, rival: Rival, seconds: number): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const { desk, laptop, cacheUrl, fileUrl } = await openEnds(stage, congestion, stack);
  const run = (host: Host, argv: Argv): Client =>
    stack.use(Client.start([...host.wrapper, ...argv] as Argv, true, stage.process));
  if (rival !== 'nothing') {
    run(laptop, await fetchCommand(rival, stage, cacheUrl));
    await sleep(BEFORE_MS);
  }
  const before = desk.receivedBytes();
  run(desk, ['curl', '--disable', '--silent', '--output', '/dev/null', `${fileUrl}/large`]);
  await sleep(seconds * 1000);
  return (desk.receivedBytes() - before) / seconds;
}

/** @returns the share of the line that the payload of a whole fetch takes */
async function shareAlone(stage: Stage, rival: Exclude<Rival, 'nothing'>): Promise<number> {
  await using stack = new AsyncDisposableStack();
  const { laptop, cacheUrl } = await openEnds(stage, 'cubic', stack);
  const argv = [...laptop.wrapper, ...(await fetchCommand(rival, stage, cacheUrl))] as Argv;
  const { seconds, failure } = await stack.use(Client.start(argv, true, stage.process)).end(ALONE_LIMIT_S);
  if (failure !== undefined) throw new Error(`${rival}: ${failure}`);
  return stage.cache.totalBytes / seconds / ((DOWN_KBIT * 1000) / 8) / PAYLOAD_SHARE;
}

const percent = (share: number): string => `${(share * 100).toFixed(0).padStart(4)} %`;
const verdict = (share: number): string => (share >= WANTED_SHARE ? 'met' : 'MISSED');

async function main(signal: AbortSignal): Promise<void> {
  const { values } = parseArgs({
    options: { seconds: { type: 'string', default: '30' }, help: { type: 'boolean', default: false } },
  });
  if (values.help) {
    console.log(HELP);
    return;
  }
  const seconds = countOf('seconds', values.seconds);
  const shape = CLOSURES.medium();
  const closureBytes = shape.sizesBytes.reduce((sum, size) => sum + size, 0);
  await using workspace = await makeWorkspace(closureBytes * 3 + FOREGROUND_BYTES, { keep: false });
  const { dir } = workspace;
  const home = { HOME: dir, NARSWARM_CONFIG: '/dev/null', STATE_DIRECTORY: join(dir, 'state') };
  const stage: Stage = {
    cache: await writeBinaryCache(shape, join(dir, 'cache'), join(dir, 'torrents')),
    tools: await findTools(),
    dir,
    process: { env: { ...process.env, ...home }, signal },
  };
  await mkdir(join(dir, 'files'));
  await writeFile(join(dir, 'files', 'large'), Buffer.alloc(FOREGROUND_BYTES));
  console.log(`alone, share of the line over a whole fetch of ${(closureBytes / 1e6).toFixed(0)} MB:`);
  for (const rival of ['curl', 'narswarm', 'narswarm --yield'] as const) {
    const share = await shareAlone(stage, rival);
    console.log(`  ${rival.padEnd(18)}${percent(share)}  ${rival === 'narswarm --yield' ? verdict(share) : ''}`);
  }
  for (const congestion of ['cubic', 'reno', 'bbr'] as const) {
    const alone = await foregroundRate(stage, congestion, 'nothing', seconds);
    console.log(`a download by ${congestion}, alone ${(alone / 1e6).toFixed(2)} MB/s, keeps beside:`);
    for (const rival of ['curl', 'narswarm', 'narswarm --yield'] as const) {
      const share = (await foregroundRate(stage, congestion, rival, seconds)) / alone;
      console.log(`  ${rival.padEnd(18)}${percent(share)}  ${rival === 'narswarm --yield' ? verdict(share) : ''}`);
    }
  }
}

const interrupt = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const)
  process.on(name, () => interrupt.abort(new Error(`stopped by ${name}`)));
await main(interrupt.signal);
