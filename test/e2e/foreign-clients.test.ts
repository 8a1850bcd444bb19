/**
 * The BitTorrent clients that Debian has, on a LAN with a private DHT: they download a NAR from a daemon with
 * `--scope public` by .torrent and by magnet link, and `narswarm fetch` downloads it from them.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import bencode from 'bencode';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startCacheOn } from '../support/cache-process.ts';
import { FOREIGN_CLIENTS, ROUTERS, type ForeignClient } from '../support/foreign-clients.ts';
import { Lab, mirrorOf, readNarInfos, torrentIn } from '../support/lab.ts';
import { Lan, requireNamespaces, type Host } from '../support/namespaces.ts';
import { requireTool } from '../support/require-tool.ts';
import { infoOf, torrentFile, type NarTorrent } from '../../src/torrent/canonical.ts';

const PORT = 6881;
/** Transmission announces itself only once it knows nine nodes. */
const NODES = 10;
/** Transmission takes more than a minute to join a DHT. */
const LIMIT = { timeout: 180_000 };

suite('foreign clients', () => {
  let lab: Lab;
  let lan: Lan;
  let made: MadeClosure;
  let nar: NarTorrent;
  let bytes: Buffer;
  let root: string;
  let mirror: string;
  let seeder: Host;
  let neighbour: Host;
  let nodes: { host: string; port: number }[];
  let hostsFile: string;
  let trackerUrl: string;

  before(async () => {
    requireNamespaces();
    for (const { debianPackage, check } of FOREIGN_CLIENTS) requireTool(debianPackage, ...check)();
    lab = await Lab.open();
    lan = lab.use(Lan.open());
    made = await lab.closure([3_000_000]);
    const info = [...(await readNarInfos(made.cacheDir)).values()].find(({ fileSize = 0 }) => fileSize > 1_000_000);
    assert.ok(info !== undefined);
    root = info.storePath;
    nar = await torrentIn(made.cacheDir, info);
    bytes = await readFile(join(made.cacheDir, info.url));

    const trust = ['--trusted-public-key', made.publicKey];
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--key', lab.path('key'), ...trust];
    const published = (await lab.run(['publish', '--once', '--no-dht', ...what])).event('published');

    const router = lan.host('router');
    const first = { host: router.ipv4, port: PORT };
    const ports = [...ROUTERS.map(({ port }) => port), ...Array.from({ length: NODES }, (_, index) => 7000 + index)];
    nodes = ports.map((port) => ({ host: router.ipv4, port }));
    await dhtNode(router, ['--dht-port', String(PORT)]);
    const others = nodes.filter(({ port }) => port !== PORT);
    const bootstrap = ['--bootstrap', `${first.host}:${first.port}`];
    await Promise.all(others.map(({ port }) => dhtNode(router, ['--dht-port', String(port), ...bootstrap])));
    hostsFile = lab.path('hosts');
    await writeFile(
      hostsFile,
      `127.0.0.1 localhost\n${ROUTERS.map(({ name }) => `${router.ipv4} ${name}\n`).join('')}`,
    );

    seeder = lan.host('seeder');
    neighbour = lan.host('neighbour');
    const map = lab.use(await startCacheOn(seeder, String(published['dir'])));
    mirror = mirrorOf(String(published['address']), map.url);
    const where = ['--scope', 'public', '--port', String(PORT), '--dht-bootstrap', `${first.host}:${first.port}`];
    const daemon = ['daemon', '--store', made.cacheDir, ...trust, ...where];
    await lab.service(daemon, { wrapper: seeder.wrapper });
    trackerUrl = await startStaticTracker();
  });
  after(() => lab[Symbol.asyncDispose]());

  const dhtNode = (host: Host, args: readonly string[]): ReturnType<Lab['service']> =>
    lab.service(['dht', ...args], { wrapper: host.wrapper });

  /** A tracker (BEP 3, BEP 23) that gives the seeder to everybody: one answer, as a file. */
  async function startStaticTracker(): Promise<string> {
    const dir = await lab.folder('tracker');
    const peer = Buffer.from([...seeder.ipv4.split('.').map(Number), PORT >> 8, PORT & 0xff]);
    await writeFile(join(dir, 'announce'), bencode.encode({ complete: 1, incomplete: 0, interval: 3600, peers: peer }));
    const tracker = lab.use(await startCacheOn(seeder, dir));
    return `${tracker.url}/announce`;
  }

  /** Starts a client, which ends with its host. @returns where the file goes */
  async function start(client: ForeignClient, host: Host, torrent: string): Promise<string> {
    const dir = await lab.folder('client');
    const files = join(dir, 'files');
    await mkdir(files);
    const command = await client.command({ dir, files, torrent, port: PORT, nodes });
    // Names are looked up in a file of its own, so that nothing asks for the routers of the real DHT.
    const inside = 'mount --bind "$1" /etc/hosts; shift; exec "$@"';
    const [file, ...args] = [...host.wrapper, 'unshare', '-m', 'sh', '-c', inside, 'sh', hostsFile, ...command];
    // Some end, or turn in circles, if their standard input is closed.
    spawn(file, args, { env: { ...lab.env, HOME: dir, TERM: 'dumb' }, stdio: ['pipe', 'ignore', 'ignore'] });
    return join(files, nar.name);
  }

  /** Waits until a client has written the whole file. @param signal ends a wait in vain: the test's limit of time */
  async function untilDownloaded(file: string, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const size = await stat(file).then(
        (stats) => stats.size,
        () => 0,
      );
      if (size === bytes.length && bytes.equals(await readFile(file))) return;
      await sleep(200);
    }
  }

  /** The bytes of the NAR that `fetch` gets from a client. */
  async function fetchedFrom(host: Host): Promise<unknown> {
    const peer = `${host.ipv4}:${PORT}`;
    const from = ['--publisher', mirror, '--no-upstream', '--peer', peer, '--no-dht', '--no-lan'];
    const into = ['--store', await lab.folder('store'), '--no-copy', '--trusted-public-key', made.publicKey];
    const run = await lab.run(['fetch', root, ...from, ...into], { wrapper: neighbour.wrapper });
    assert.equal(run.status, 0, run.stderr);
    return run.event('done')['sources'];
  }

  describe('each', { concurrency: true }, () => {
    for (const [index, client] of FOREIGN_CLIENTS.entries()) {
      test(`${client.name} downloads by .torrent, and then seeds`, LIMIT, async ({ signal }) => {
        const host = lan.host(`file-${index}`);
        const path = lab.path('torrent');
        const announced = client.hasDht
          ? torrentFile(nar)
          : bencode.encode({ announce: trackerUrl, info: infoOf(nar) });
        await writeFile(path, announced);
        await untilDownloaded(await start(client, host, path), signal);
        assert.deepEqual(await fetchedFrom(host), [
          { source: `${host.ipv4}:${PORT}`, kind: 'peers', bytes: bytes.length },
        ]);
      });

      if (!client.hasDht) continue;
      test(`${client.name} downloads by magnet link`, LIMIT, async ({ signal }) => {
        const magnet = `magnet:?xt=urn:btih:${nar.infoHash}`;
        await untilDownloaded(await start(client, lan.host(`magnet-${index}`), magnet), signal);
      });
    }
  });
});
