/**
 * Processor time over a line of 1 Mbit/s, with and without losses: of the fetch and of the process that seeds. While a
 * process waits, it should cost nothing. All scenes run at the same time, each on hosts of its own.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { cp, writeFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { join } from 'node:path';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { torrentFile } from '../../src/torrent/canonical.ts';
import { writeBinaryCache } from '../bench/binary-cache.ts';
import { CLOSURES } from '../bench/closures.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { Lab, mirrorOf, readNarInfos, torrentIn } from '../support/lab.ts';
import { Lan, type Host } from '../support/namespaces.ts';
import { ProcessorMeter } from '../support/processor-meter.ts';
import { mb } from './figures.ts';
import { formatTable } from './table.ts';

/** The Python of Debian's python3-libtorrent. */
const PYTHON = '/usr/bin/python3';
const LIBTORRENT_CLIENT = fileURLToPath(new URL('../bench/libtorrent_client.py', import.meta.url));
const LINE_KBIT = 1_000;
const SLOWER_KBIT = 256;
const LOSS_PERCENT = 5;
const PORT = 6881;
const HTTP_PORT = 8081;
const ONE: readonly number[] = [4_000_000];
const MANY: readonly number[] = Array.from({ length: 200 }, (_, at) => 10_000 + at * 100);
/** Time after which a scene ends in any case, and that of a fetch that waits in vain. */
const LIMIT_MS = 150_000;
const STALL_MS = 40_000;
/** Time in which every program has started, on all processors at once. */
const STARTED_MS = 10_000;
const IDLE_MEMBERS = 20;

type Closure = Pick<MadeClosure, 'cacheDir' | 'publicKey' | 'root'>;

interface Row {
  readonly name: string;
  readonly status: number | null | 'stopped';
  readonly seconds: number;
  readonly bytes: number;
  readonly fetchS: number;
  readonly seedS: number | undefined;
}

/** @param say called with each line for people */
export async function playSlowLine(say: (line: string) => void): Promise<void> {
  await using lab = await Lab.open();
  const one = await lab.closure(ONE);
  const many = await lab.closure(MANY);
  await using lan = Lan.open();
  const stage = new Stage(lab, lan);
  const cache = await writeBinaryCache(CLOSURES.small(), lab.path('small'), lab.path('small-torrents'));
  const small = { cacheDir: cache.dir, publicKey: cache.publicKey, root: parseStorePath(cache.rootPath) };
  const scenes: Promise<Row>[] = [];
  for (const [closure, made] of [
    ['one NAR', one],
    ['200 NARs', many],
  ] as const) {
    for (const isLossy of [false, true]) {
      const name = `${closure}${isLossy ? `, ${LOSS_PERCENT} % lost` : ''}`;
      scenes.push(stage.fromMember(`member, ${name}`, made, { isLossy }));
      scenes.push(stage.fromCache(`HTTP cache, ${name}`, made, { isLossy }));
      scenes.push(stage.fromClient(`BitTorrent client, ${name}`, made, { isLossy }));
    }
  }
  for (const isLossy of [false, true]) {
    const name = `500 NARs, the first minute${isLossy ? `, ${LOSS_PERCENT} % lost` : ''}`;
    const options = { isLossy, limitMs: 60_000 };
    scenes.push(stage.fromMember(`member, ${name}`, small, options));
    scenes.push(stage.fromCache(`HTTP cache, ${name}`, small, options));
    scenes.push(stage.fromClient(`BitTorrent client, ${name}`, small, options));
  }
  const slower = { lineKbit: SLOWER_KBIT, limitMs: 60_000 };
  scenes.push(stage.fromMember(`member, 500 NARs over ${SLOWER_KBIT} kbit/s, the first minute`, small, slower));
  scenes.push(
    stage.fromClient(`BitTorrent client, 500 NARs over ${SLOWER_KBIT} kbit/s, the first minute`, small, slower),
  );
  scenes.push(
    stage.fromMember('member, limit of 20 kB/s', await lab.closure([800_000]), {
      flags: ['--max-download-rate', '20kB/s'],
    }),
  );
  scenes.push(stage.fromMember(`member, ${IDLE_MEMBERS} idle ones beside it`, one, { idleMembers: IDLE_MEMBERS }));
  scenes.push(stage.fromMember('member falls silent', one, { isStalled: true }));
  scenes.push(stage.fromCache('HTTP cache falls silent', one, { isStalled: true }));
  scenes.push(stage.fromClient('BitTorrent client falls silent', one, { isStalled: true }));
  scenes.push(stage.fromMember('member, silent DHT', one, { hasSilentDht: true }));
  const rows = await Promise.all(scenes);
  const cells = ({ name, status, seconds, bytes, fetchS, seedS }: Row): string[] => [
    name,
    String(status),
    seconds.toFixed(0),
    mb(bytes),
    ...[fetchS, seedS].flatMap((cpuS) =>
      cpuS === undefined
        ? ['', '', '']
        : [
            cpuS.toFixed(2),
            `${((100 * cpuS) / seconds).toFixed(1)} %`,
            bytes === 0 ? '' : (cpuS / (bytes / 1e6)).toFixed(2),
          ],
    ),
  ];
  say(`${LINE_KBIT} kbit/s where none is named; processor time without the start of the program`);
  say(formatTable(['', 'exit', 's', 'MB', 'fetch s', 'of it', 's/MB', 'seed s', 'of it', 's/MB'], rows.map(cells)));
}

interface SceneOptions {
  readonly isLossy?: boolean;
  /** Rate of the sender's line. Default: {@link LINE_KBIT} */
  readonly lineKbit?: number;
  /** The sender is stopped once the fetch has begun. */
  readonly isStalled?: boolean;
  /** The fetch is stopped after so long. Default: it runs to its end. */
  readonly limitMs?: number;
  readonly idleMembers?: number;
  readonly hasSilentDht?: boolean;
  /** More flags of the fetching process. */
  readonly flags?: readonly string[];
}

class Stage {
  readonly #lab: Lab;
  readonly #lan: Lan;
  #hosts = 0;

  constructor(lab: Lab, lan: Lan) {
    this.#lab = lab;
    this.#lan = lan;
  }

  /** A fetch from a member of the publisher's group. */
  async fromMember(name: string, made: Closure, options: SceneOptions): Promise<Row> {
    const seeder = this.#slowHost(options);
    const { publisher, process } = await this.#publisher(made, seeder);
    const { idleMembers = 0 } = options;
    for (let index = 0; index < idleMembers; index++) {
      const follow = ['--publisher', publisher, '--trusted-public-key', made.publicKey, '--no-lan', '--no-dht'];
      const where = [
        'daemon',
        '--store',
        await this.#lab.folder('idle'),
        '--peer',
        `${seeder.ipv4}:${PORT}`,
        ...follow,
      ];
      await this.#lab.service(where, { wrapper: this.#host().wrapper, limitMs: SCENE_MS });
    }
    return this.#measure(name, made, ['--publisher', publisher, '--no-upstream'], options, process.pid);
  }

  /** A fetch from a binary cache. */
  async fromCache(name: string, made: Closure, options: SceneOptions): Promise<Row> {
    const cache = this.#lab.use(await startCacheOn(this.#slowHost(options), made.cacheDir));
    return this.#measure(name, made, ['--from', cache.url], options, cache.pid);
  }

  /** A fetch from an ordinary BitTorrent client, with a hash map from elsewhere. */
  async fromClient(name: string, made: Closure, options: SceneOptions): Promise<Row> {
    const store = await this.#lab.folder('mapped');
    await cp(made.cacheDir, store, { recursive: true });
    const what = ['--store', store, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey];
    const key = ['--key', this.#lab.path('key')];
    const published = (await this.#lab.run(['publish', '--once', '--no-dht', ...what, ...key])).event('published');
    const map = this.#lab.use(await startCacheOn(this.#host(), String(published['dir'])));
    const seeder = this.#slowHost(options);
    const pid = await this.#seedByClient(made, seeder);
    const publisher = mirrorOf(String(published['address']), map.url);
    const flags = ['--publisher', publisher, '--no-upstream', '--peer', `${seeder.ipv4}:${PORT}`];
    return this.#measure(name, made, flags, options, pid);
  }

  /** @param upKbit of its line. Default: no limit */
  #host(isLossy = false, upKbit?: number): Host {
    const host = this.#lan.host(`h${this.#hosts++}`, upKbit === undefined ? {} : { upKbit });
    if (isLossy) host.lose(LOSS_PERCENT);
    return host;
  }

  #slowHost({ isLossy, flags, lineKbit = LINE_KBIT }: SceneOptions): Host {
    return this.#host(isLossy, flags === undefined ? lineKbit : undefined);
  }

  async #publisher(made: Closure, host: Host): Promise<{ publisher: string; process: { readonly pid: number } }> {
    const store = await this.#lab.folder('seeded');
    await cp(made.cacheDir, store, { recursive: true });
    const what = ['--store', store, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey];
    const ports = ['--port', `${PORT}`, '--http-port', `${HTTP_PORT}`, '--no-lan', '--no-dht'];
    const { process, ready } = await this.#lab.service(['publish', ...what, '--key', this.#lab.path('key'), ...ports], {
      wrapper: host.wrapper,
      limitMs: SCENE_MS,
    });
    return { publisher: mirrorOf(String(ready['address']), `http://${host.ipv4}:${HTTP_PORT}`), process };
  }

  /** libtorrent seeds all NARs. */
  async #seedByClient(made: Closure, host: Host): Promise<number | undefined> {
    const torrents = await this.#lab.folder('torrents');
    for (const info of (await readNarInfos(made.cacheDir)).values()) {
      const torrent = await torrentIn(made.cacheDir, info);
      await writeFile(join(torrents, `${torrent.infoHash}.torrent`), torrentFile(torrent));
    }
    const seed = [PYTHON, LIBTORRENT_CLIENT, 'seed', torrents, join(made.cacheDir, 'nar'), `0.0.0.0:${PORT}`];
    const [file, ...args] = [...host.wrapper, ...seed];
    const child = spawn(file, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    await once(child.stdout, 'data'); // it is ready
    return child.pid;
  }

  async #measure(
    name: string,
    made: Closure,
    flags: readonly string[],
    options: SceneOptions,
    seedPid: number | undefined,
  ): Promise<Row> {
    const { isStalled = false, hasSilentDht = false, isLossy = false, limitMs } = options;
    const host = this.#host(isLossy);
    const dht = hasSilentDht ? ['--dht-bootstrap', `${this.#host().ipv4}:${PORT}`, '--scope', 'cohort'] : ['--no-dht'];
    const what = ['fetch', made.root, '--store', await this.#lab.folder('store'), '--no-copy', '--no-lan', ...dht];
    const trust = ['--trusted-public-key', made.publicKey];
    const fetch = this.#lab.start([...what, ...trust, ...flags, ...(options.flags ?? [])], {
      wrapper: host.wrapper,
      limitMs: SCENE_MS,
    });
    await sleep(STARTED_MS);
    const measuredAtMs = performance.now();
    using fetched = new ProcessorMeter(fetch.pid);
    using seeded = seedPid === undefined ? undefined : new ProcessorMeter(seedPid);
    const receivedBefore = host.receivedBytes();
    if (isStalled && seedPid !== undefined) process.kill(seedPid, 'SIGSTOP');
    const run = await Promise.race([fetch.end(), sleep(isStalled ? STALL_MS : (limitMs ?? LIMIT_MS))]);
    const row: Row = {
      name,
      status: run === undefined ? 'stopped' : run.status,
      seconds: (performance.now() - measuredAtMs) / 1000,
      bytes: host.receivedBytes() - receivedBefore,
      fetchS: fetched.seconds,
      seedS: seeded?.seconds,
    };
    if (run === undefined) process.kill(fetch.pid, 'SIGKILL');
    else if (run.status !== 0) process.stderr.write(`${name}: ${run.stderr}\n`);
    if (seedPid !== undefined) process.kill(seedPid, 'SIGKILL');
    return row;
  }
}

/** Longer than any scene takes. */
const SCENE_MS = 400_000;
