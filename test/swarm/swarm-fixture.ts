/** NARs, swarms and downloads for tests with real peers on loopback. */
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import type { InfoHash } from '../../src/nix/brands.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { narTorrent, pieceLengthOf, type NarTorrent } from '../../src/torrent/canonical.ts';
import { MemoryStorage, type PieceStorage } from '../../src/swarm/chunk-store.ts';
import type { PeerRecord } from '../../src/discovery/peer-table.ts';
import { Swarm, type Seed, type SwarmOptions } from '../../src/swarm/swarm.ts';
import type { SwarmDownload } from '../../src/swarm/swarm-download.ts';

export const HOST = '127.0.0.1';
export const MIB = 1024 * 1024;
/** Bytes of each piece of a larger NAR. */
export const PIECE = 256 * 1024;

/** A NAR file of random bytes and its torrent. */
export interface TestNar {
  readonly bytes: Buffer;
  readonly torrent: NarTorrent;
  readonly path: string;
  readonly seed: Seed;
}

/** Makes a folder that is removed after the test. */
export async function tempDir(t: TestContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-swarm-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  return dir;
}

export function torrentOf(bytes: Buffer): NarTorrent {
  const sha1s: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += pieceLengthOf(bytes.length)) {
    const piece = bytes.subarray(at, at + pieceLengthOf(bytes.length));
    sha1s.push(createHash('sha1').update(piece).digest());
  }
  const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
  return narTorrent({ fileHash, extension: 'xz', sizeBytes: bytes.length, pieces: Buffer.concat(sha1s) });
}

export async function makeNar(t: TestContext, sizeBytes: number): Promise<TestNar> {
  const bytes = randomBytes(sizeBytes);
  const torrent = torrentOf(bytes);
  const path = join(await tempDir(t), torrent.name);
  await writeFile(path, bytes);
  return { bytes, torrent, path, seed: { torrent, files: [{ path, sizeBytes }] } };
}

/** Makes a seed whose file differs from its torrent from byte `from` on. */
export async function poisoned(t: TestContext, nar: TestNar, from = 0): Promise<Seed> {
  const path = join(await tempDir(t), 'poison');
  const bytes = Buffer.from(nar.bytes);
  bytes.fill(0, from);
  await writeFile(path, bytes);
  return { torrent: nar.torrent, files: [{ path, sizeBytes: bytes.length }] };
}

/** A swarm on loopback that is closed after the test. */
export async function startSwarm(t: TestContext, options: Partial<SwarmOptions> = {}): Promise<Swarm> {
  const swarm = await Swarm.listen({ host: HOST, ...options });
  t.after(() => swarm.close());
  return swarm;
}

/** A swarm that seeds these. */
export function startSeeder(
  t: TestContext,
  seeds: readonly Seed[],
  options: Partial<SwarmOptions> = {},
): Promise<Swarm> {
  const byInfoHash = new Map(seeds.map((seed) => [(seed.torrent as NarTorrent).infoHash, seed]));
  return startSwarm(t, {
    seeds: (infoHash: InfoHash) => Promise.resolve(byInfoHash.get(infoHash)),
    seedable: () => byInfoHash.keys(),
    ...options,
  });
}

/** Returns the records of the peers of `swarm` that listen on these ports. */
export function peersAt(swarm: Swarm, ...ports: readonly number[]): PeerRecord[] {
  return ports.map((port) => swarm.peers.add({ host: HOST, port }));
}

export interface TestDownload {
  readonly download: SwarmDownload;
  readonly storage: PieceStorage;
  /** Resolves with the bytes of the NAR once they are all there. */
  readonly done: Promise<Buffer>;
  readonly lies: string[];
  /** Payload bytes by the peer that sent them. */
  readonly from: Map<string, number>;
}

/** Begins to download a NAR into memory. */
export async function startDownload(
  t: TestContext,
  swarm: Swarm,
  torrent: NarTorrent,
  options: { storage?: PieceStorage; have?: (index: number) => boolean; gives?: boolean } = {},
): Promise<TestDownload> {
  const storage = options.storage ?? new MemoryStorage(torrent.pieceLength);
  const download = await swarm.download(torrent, storage, options.have ?? (() => false), options);
  t.after(() => download.stop());
  const lies: string[] = [];
  const from = new Map<string, number>();
  download.on('lie', (address) => lies.push(address));
  download.on('bytes', (bytes, address) => from.set(address, (from.get(address) ?? 0) + bytes));
  const done = new Promise<Buffer>((resolve, reject) => {
    download.once('error', (error) => reject(error as Error));
    download.once('done', () => {
      const bytes = Buffer.alloc(torrent.sizeBytes);
      storage.read([bytes], 0).then(() => resolve(bytes), reject);
    });
  });
  done.catch(() => undefined); // those who await it get the error
  return { download, storage, done, lies, from };
}
