/**
 * Measures the nightly update: `node test/bench/update.ts [--json]`. Two generations of a closure of 813 NARs, of which 5 %
 * differ: a publisher that takes them from a cache over HTTP and publishes them, and a follower without any cache.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startHttpCache } from '../support/http-cache.ts';
import { writeBinaryCache } from './binary-cache.ts';
import { CLOSURES } from './closures.ts';
import { writeNextGeneration } from './next-generation.ts';
import { Service } from './process.ts';
import { makeWorkspace } from './workspace.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const CHANGED_SHARE = 0.05;
const NEEDED_BYTES = 4e9;

type Event = Readonly<Record<string, unknown>>;

/** The result of one run of `narswarm update`. */
interface Figures {
  /** Seconds from the start of the process to its end. */
  readonly wallS: number;
  readonly fetchedNars: number;
  readonly fetchedMB: number;
  /** NARs to be published; undefined if nothing is. */
  readonly hashedMB: number | undefined;
  /** Changed files of the hash map, manifest and shards, which its followers fetch. */
  readonly newMapFiles: number;
  readonly newMapKB: number;
}

await using workspace = await makeWorkspace(NEEDED_BYTES, { keep: false });
const { dir } = workspace;
const cache = await writeBinaryCache(CLOSURES.desktop(), join(dir, 'cache'), join(dir, 'torrents'));
await using http = await startHttpCache(cache.dir);
const list = join(dir, 'list');
const env = { ...process.env, HOME: dir, STATE_DIRECTORY: join(dir, 'state') };
const network = 'listen = "127.0.0.1"\nlan = false\ndht = false\n';
const common = `trusted-public-key = "${cache.publicKey}"\n${network}`;

async function machine(name: string, toml: string): Promise<{ readonly config: string; readonly store: string }> {
  const [config, store] = [join(dir, `${name}.toml`), join(dir, name)];
  await mkdir(store);
  await writeFile(config, `store = "${store}"\n${common}${toml}`);
  return { config, store };
}

async function narswarm(args: readonly string[]): Promise<{ events: Event[]; wallS: number }> {
  const startedMs = performance.now();
  const child = spawn(process.execPath, [MAIN, ...args, '--json'], { env, stdio: ['ignore', 'pipe', 'inherit'] });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const [status] = await once(child, 'close');
  if (status !== 0) throw new Error(`narswarm ${args.join(' ')} ended with ${String(status)}: ${text}`);
  const lines = text.split('\n').filter((line) => line !== '');
  const events = lines.map((line) => JSON.parse(line) as Event);
  return { events, wallS: (performance.now() - startedMs) / 1000 };
}

const maps = new Map<string, ReadonlyMap<string, number>>();

async function update({ config, store }: { readonly config: string; readonly store: string }): Promise<Figures> {
  const { events, wallS } = await narswarm(['--config', config, 'update']);
  const find = (name: string): Event | undefined => events.find(({ event }) => event === name);
  const [run, built] = [find('subscription'), find('built')];
  const { peers = 0, upstream = 0 } = (run?.['bytes'] ?? {}) as { peers?: number; upstream?: number };
  const before = maps.get(store);
  const map = await filesOf(join(store, 'narswarm/published'));
  maps.set(store, map);
  const fresh = [...map].filter(([file]) => before?.has(file) !== true);
  return {
    wallS: rounded(wallS),
    fetchedNars: Number(run?.['nars']),
    fetchedMB: rounded((peers + upstream) / 1e6),
    hashedMB: built === undefined ? undefined : rounded(Number(built['hashedBytes']) / 1e6),
    newMapFiles: fresh.length,
    newMapKB: rounded(fresh.reduce((sum, [, bytes]) => sum + bytes, 0) / 1e3),
  };
}

/** Returns the size of each file below a folder, by its contents. */
async function filesOf(folder: string): Promise<Map<string, number>> {
  const files = new Map<string, number>();
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true }).catch(() => [])) {
    if (!entry.isFile()) continue;
    const bytes = await readFile(join(entry.parentPath, entry.name));
    files.set(createHash('sha256').update(bytes).digest('hex'), bytes.length);
  }
  return files;
}

function rounded(value: number): number {
  return Math.round(value * 100) / 100;
}

await writeFile(list, cache.rootPath);
const publisher = await machine(
  'publisher',
  `from = "${http.url}"\nkey = "${join(dir, 'key')}"\npublish = true\n[subscriptions.desktop]\nsource = "${list}"\npublish = true\n`,
);
const rows: Record<string, Figures> = {};
rows['publisher, first night'] = await update(publisher);
rows['publisher, nothing new'] = await update(publisher);
let httpPort: string;
let follower: Awaited<ReturnType<typeof machine>>;
{
  await using daemon = await startDaemon([]);
  const { address, port } = daemon.ready;
  httpPort = String(daemon.ready['httpPort']);
  const mirror = String(address).replace(/^magnet:/, `http://127.0.0.1:${httpPort}/`);
  const peer = `peer = "127.0.0.1:${String(port)}"\nfrom = []\n`;
  follower = await machine('follower', `${peer}[subscriptions.desktop]\nsource = "${mirror}#desktop"\n`);
  rows['follower, first night'] = await update(follower);
  rows['follower, nothing new'] = await update(follower);
}
const next = await writeNextGeneration(cache, CHANGED_SHARE);
await writeFile(list, next.rootPath);
rows['publisher, second night'] = await update(publisher);
rows['publisher, nothing new again'] = await update(publisher);
{
  await using _daemon = await startDaemon(['--http-port', httpPort]);
  rows['follower, second night'] = await update(follower);
}
const difference = {
  nars: next.nars,
  MB: rounded(next.bytes / 1e6),
  ofNars: cache.nars.length,
  ofMB: rounded(cache.totalBytes / 1e6),
};
if (process.argv.includes('--json')) console.log(JSON.stringify({ difference, rows }));
else {
  const { nars, MB, ofNars, ofMB } = difference;
  console.log(`of ${ofNars} NARs (${ofMB} MB), ${nars} differ (${MB} MB)`);
  console.table(rows);
}

function startDaemon(args: readonly string[]): Promise<Service> {
  return Service.start([process.execPath, MAIN, '--config', publisher.config, 'daemon', '--json', ...args], {
    env,
    signal: new AbortController().signal,
  });
}
