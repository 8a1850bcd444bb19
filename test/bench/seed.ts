/**
 * Measures a seeder: `npm run bench:seed [-- --nars N] [--json]`. Makes a store of 100,000 NARs of 16 KiB and six of 115 MB (on
 * /dev/shm where that is), has `narswarm daemon` seed it to members on loopback, and prints what that takes: memory above a
 * daemon without NARs, time until it is ready, processor time while idle, first byte of a random NAR, small NARs a second to
 * four members at once, and processor time for 690 MB.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, generateKeyPairSync, hash } from 'node:crypto';
import { once } from 'node:events';
import { access, mkdir, mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { neighboursInfoHash } from '../../src/discovery/neighbours.ts';
import type { FileHash } from '../../src/nix/brands.ts';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import { formatPublicKey, parsePublicKey, signNarInfo } from '../../src/nix/signature.ts';
import { storePathFromBaseName } from '../../src/nix/store-path.ts';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { entryOf, type CatalogueEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { narTorrent, pieceLengthOf } from '../../src/torrent/canonical.ts';
import { RandomStream } from './random.ts';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const CLIENT = fileURLToPath(new URL('seed-client.ts', import.meta.url));
const SMALL_BYTES = 16 * 1024;
const LARGE = { count: 6, bytes: 115 * 1024 * 1024 };
const IDLE_MS = 10_000;
/** V8 tidies up once nothing has happened for a while. */
const QUIET_MS = 30_000;
const LATENCIES = 3_000;
const MEMBERS = 4;
const OPEN = 32;
/** `/proc` counts in hundredths of a second. */
const TICKS_PER_SECOND = 100;

const { values } = parseArgs({ options: { nars: { type: 'string', default: '100000' }, json: { type: 'boolean' } } });
const nars = Number(values.nars);
const pair = generateKeyPairSync('ed25519');
const rawKey = pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-32);
const key = parsePublicKey(`bench-1:${rawKey.toString('base64')}`);

interface Made {
  readonly fileHash: FileHash;
  readonly sizeBytes: number;
}

/** Puts a signed path of random contents into the store. */
async function makePath(store: FileStore, name: string, bytes: Buffer): Promise<CatalogueEntry> {
  const digest = createHash('sha256').update(bytes).digest();
  const [fileHash, narHash] = [fileHashOf(digest), narHashOf(digest)];
  const storePath = storePathFromBaseName(`${encodeNix32(hash('sha1', name, 'buffer'))}-${name}`);
  const unsigned: NarInfo = {
    storePath,
    url: FileStore.narUrl(fileHash, ''),
    compression: 'none',
    fileHash,
    fileSize: bytes.length,
    narHash,
    narSize: bytes.length,
    references: [],
    signatures: [],
    extra: [],
  };
  const signed = { ...unsigned, signatures: [signNarInfo(unsigned, { name: 'bench-1', key: pair.privateKey })] };
  await writeFile(store.narPath(signed), bytes);
  await writeFile(store.narInfoPath(storePath.slice(11, 43) as never), formatNarInfo(signed));
  const pieceLength = pieceLengthOf(bytes.length);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += pieceLength)
    pieces.push(hash('sha1', bytes.subarray(at, at + pieceLength), 'buffer'));
  const torrent = narTorrent({ fileHash, extension: '', sizeBytes: bytes.length, pieces: Buffer.concat(pieces) });
  const { mtimeMs } = await stat(store.narPath(signed));
  return entryOf(torrent, storePath, Math.floor(mtimeMs), 'fetch', narHash);
}

async function fill(dir: string): Promise<{ small: Made[]; large: Made[] }> {
  const store = await FileStore.open(dir, { create: true });
  await mkdir(join(dir, 'nar'), { recursive: true });
  const catalogue = await Catalogue.open(store);
  const random = new RandomStream('seed');
  const small: CatalogueEntry[] = [];
  for (let index = 0; index < nars; index++)
    small.push(await makePath(store, `small-${index}`, random.bytes(SMALL_BYTES)));
  const block = random.bytes(1024 * 1024);
  const large: CatalogueEntry[] = [];
  for (let index = 0; index < LARGE.count; index++) {
    block.writeInt32BE(index);
    const bytes = Buffer.concat(Array.from({ length: LARGE.bytes / block.length }, () => block));
    large.push(await makePath(store, `large-${index}`, bytes));
  }
  await catalogue.add([...small, ...large]);
  return { small, large };
}

/** A daemon that seeds a store, ready. */
class Seeder implements AsyncDisposable {
  readonly child: ChildProcess;
  readonly port: string;
  readonly readyS: number;

  private constructor(child: ChildProcess, port: string, readyS: number) {
    this.child = child;
    this.port = port;
    this.readyS = readyS;
  }

  static async start(dir: string): Promise<Seeder> {
    const startedAtMs = performance.now();
    const args = ['--store', dir, '--no-dht', '--port', '0', '--trusted-public-key', formatPublicKey(key)];
    const child = spawn(process.execPath, [MAIN, 'daemon', ...args, '--share-keys', 'bench-1'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    for await (const line of createInterface({ input: child.stdout })) {
      const port = /NARs on port (\d+)/.exec(line)?.[1];
      if (port === undefined) continue;
      child.stdout.resume();
      return new Seeder(child, port, (performance.now() - startedAtMs) / 1000);
    }
    throw new Error('the daemon did not start');
  }

  async rssMb(): Promise<number> {
    const status = await readFile(`/proc/${this.child.pid}/status`, 'utf8');
    return Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024;
  }

  /** Seconds of processor time so far. */
  async cpuS(): Promise<number> {
    const fields = (await readFile(`/proc/${this.child.pid}/stat`, 'utf8')).split(') ')[1]?.split(' ') ?? [];
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.child.kill('SIGTERM');
    await once(this.child, 'close');
  }
}

interface Taken {
  readonly nars: number;
  readonly seconds: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

async function fetchAll(seeder: Seeder, dir: string, files: readonly Made[], open: number): Promise<Taken> {
  const list = join(dir, `list-${files[0]?.fileHash}`);
  await writeFile(list, files.map(({ fileHash, sizeBytes }) => `${fileHash} ${sizeBytes}\n`).join(''));
  const client = spawn(process.execPath, [CLIENT, seeder.port, neighboursInfoHash(key), list, String(open)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let output = '';
  client.stdout.setEncoding('utf8').on('data', (text: string) => (output += text));
  const [status] = (await once(client, 'close')) as [number];
  if (status !== 0) throw new Error('a member failed');
  return JSON.parse(output) as Taken;
}

const base = await access('/dev/shm').then(
  () => '/dev/shm',
  () => tmpdir(),
);
const dir = await mkdtemp(join(base, 'narswarm-seed-'));
const figures: Record<string, number> = {};
try {
  const empty = join(dir, 'empty');
  await FileStore.open(empty, { create: true });
  const store = join(dir, 'store');
  const { small, large } = await fill(store);
  {
    await using bare = await Seeder.start(empty);
    await sleep(2_000);
    figures['bare process, MB'] = await bare.rssMb();
  }
  await using seeder = await Seeder.start(store);
  figures['ready after, s'] = seeder.readyS;
  await sleep(2_000);
  figures['memory, MB'] = await seeder.rssMb();
  const before = await seeder.cpuS();
  await sleep(IDLE_MS);
  figures['processor while idle, %'] = ((await seeder.cpuS()) - before) / (IDLE_MS / 100_000);
  const random = new RandomStream('order');
  const shuffled = small
    .map((made) => ({ made, order: random.bytes(4).readUInt32BE() }))
    .toSorted((a, b) => a.order - b.order)
    .map(({ made }) => made);

  const latency = await fetchAll(seeder, dir, shuffled.slice(0, LATENCIES), 1);
  figures['first byte, ms at 50 %'] = latency.p50Ms;
  figures['first byte, ms at 99 %'] = latency.p99Ms;

  const rest = shuffled.slice(LATENCIES);
  const each = Math.floor(rest.length / MEMBERS);
  for (const round of ['never asked for', 'asked for before']) {
    const [cpuS, startedAtMs] = [await seeder.cpuS(), performance.now()];
    const members = Array.from({ length: MEMBERS }, (_, at) => rest.slice(at * each, (at + 1) * each));
    const taken = await Promise.all(members.map((files) => fetchAll(seeder, dir, files, OPEN)));
    const rate = taken.reduce((sum, one) => sum + one.nars / one.seconds, 0);
    figures[`NARs ${round}, a second`] = rate;
    figures[`NARs ${round}, processor of the seeder, ms each`] =
      (((await seeder.cpuS()) - cpuS) * 1000) / (each * MEMBERS);
    figures[`NARs ${round}, in all, s`] = (performance.now() - startedAtMs) / 1000;
  }
  figures['memory after that, MB'] = await seeder.rssMb();
  await sleep(QUIET_MS);
  figures['memory half a minute later, MB'] = await seeder.rssMb();
  const cpuS = await seeder.cpuS();
  const { seconds } = await fetchAll(seeder, dir, large, 2);
  figures['690 MB, s'] = seconds;
  figures['690 MB, processor of the seeder, s'] = (await seeder.cpuS()) - cpuS;
} finally {
  await rm(dir, { recursive: true, force: true });
}
const rounded = Object.fromEntries(Object.entries(figures).map(([name, value]) => [name, Number(value.toFixed(2))]));
if (values.json === true) console.log(JSON.stringify(rounded));
else console.table(rounded);
