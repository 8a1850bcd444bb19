import { join } from 'node:path';
import { inState } from '../store/state-folder.ts';
import type { StoreHash } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { FileStore } from '../store/file-store.ts';
import type { DhtNode } from '../discovery/dht.ts';
import { saltBytes, type PublisherAddress } from '../index/address.ts';
import { buildShards, signIndex } from '../index/build.ts';
import { newestSeeded, seedEdition, type SeededEdition } from '../index/files/editions.ts';
import { historyAfter } from '../index/format/history.ts';
import { IndexDir } from '../index/files/index-dir.ts';
import { parseManifest, type Manifest, type Root } from '../index/manifest.ts';
import { readKept } from '../index/format/verified-manifest.ts';
import type { PublisherIdentity, PublisherKey } from '../index/publisher-key.ts';

/** One edition of a hash map on disk, ready to be seeded and put into the DHT. */
export interface Publication extends SeededEdition {
  readonly address: PublisherAddress;
  readonly manifest: Manifest;
  readonly manifestBytes: Uint8Array;
  /** The newest edition, ready for a static HTTP server. */
  readonly dir: IndexDir;
  /** False if nothing has changed, so that this is the last edition. */
  readonly isNew: boolean;
}

export interface PublishOptions {
  readonly store: FileStore;
  readonly key: PublisherKey;
  readonly salt: string;
  readonly records: readonly NarInfo[];
  /** Store hashes of the records that are gone, if `records` has only new and changed ones. Default: it has all. */
  readonly removed?: ReadonlySet<StoreHash> | undefined;
  readonly roots: readonly Root[];
  /** `host:port` of peers to ask first. */
  readonly peers: readonly string[];
  /** The port for peers of this machine. */
  readonly peerPort?: number | undefined;
  readonly now: Date;
  /** Milliseconds until the hash map expires, unless it is published again. */
  readonly validForMs: number;
}

/** Part of an edition's lifetime after which it is signed again, even if nothing else changed. */
const RENEW_AFTER = 0.5;

/**
 * Builds and signs the next edition of a hash map in `narswarm/published/<salt>/`. If nothing changed, uses the last
 * one again: same bytes, same infohash.
 *
 * @throws INDEX_INVALID, ADDRESS_INVALID; STORE_FULL, STORE_UNWRITABLE
 */
export async function publishIndex(options: PublishOptions): Promise<Publication> {
  const { store, key, salt, now } = options;
  const publicKeyHex = Buffer.from(key.publicKey).toString('hex');
  const address: PublisherAddress = { publicKey: key.publicKey, publicKeyHex, salt };
  const dir = publishedDir(store, salt);
  // Without its last edition, the next one would begin another history, which followers take for a second publisher.
  const kept = await readKept(address, dir, now);
  const last = kept ?? (await newestSeeded(store, address, now));
  const { records, removed, roots, peers, peerPort } = options;
  const parts = { records, roots, storeDir: store.storeDir, ...(removed && { removed }) };
  const built = await buildShards(parts, last?.manifest, dir);
  const sign = (seq: number, created: Date, previous: Manifest['previous']): Uint8Array =>
    signIndex(
      {
        salt,
        seq,
        created,
        expires: new Date(created.getTime() + options.validForMs),
        storeDir: store.storeDir,
        peers,
        peerPort,
        trackers: [],
        previous,
        key,
      },
      built,
    );
  const again =
    last === undefined || isStale(last.manifest, now)
      ? undefined
      : sign(last.manifest.seq, last.manifest.created, last.manifest.previous);
  const isSame = again !== undefined && last !== undefined && Buffer.compare(again, last.bytes) === 0;
  // Starts at the seconds since 1970. So a publisher that lost its state continues above its last signed `seq`.
  const seq = Math.max((last?.manifest.seq ?? 0) + 1, Math.floor(now.getTime() / 1000));
  const bytes = isSame ? again : sign(seq, now, last && historyAfter(last));
  if (!isSame || kept === undefined) await dir.writeManifest(bytes);
  await dir.removeOthers(built.files);
  const manifest = parseManifest(bytes, { publicKey: key.publicKey, salt, now });
  return { ...(await seed(store, { address, manifest, bytes, dir })), isNew: !isSame };
}

/**
 * Prepares the edition on the disk for seeding, which another process may have signed. Undefined if there is none of
 * this publisher.
 *
 * @throws INDEX_INVALID if its files are being written; STORE_FULL, STORE_UNWRITABLE
 */
export async function readPublication(
  store: FileStore,
  address: PublisherAddress,
  now: Date,
): Promise<Publication | undefined> {
  const dir = publishedDir(store, address.salt);
  const last = await readKept(address, dir, now);
  if (last === undefined) return undefined;
  return { ...(await seed(store, { address, ...last, dir })), isNew: false };
}

async function seed(
  store: FileStore,
  { address, manifest, bytes, dir }: Pick<Publication, 'address' | 'manifest' | 'dir'> & { readonly bytes: Uint8Array },
): Promise<Omit<Publication, 'isNew'>> {
  return {
    ...(await seedEdition(store, { address, manifest, bytes, dir })),
    address,
    manifest,
    manifestBytes: bytes,
    dir,
  };
}

/**
 * Puts the pointer to a publication into the DHT (BEP 44, BEP 46). Returns the number of nodes that stored it. Repeat
 * this every hour: nodes may drop it after two hours.
 */
export async function announcePublication(publication: Publication, key: PublisherKey, dht: DhtNode): Promise<number> {
  const { nodes } = await dht.putMutable({
    publicKey: key.publicKey,
    salt: saltBytes(publication.address.salt),
    seq: publication.manifest.seq,
    infoHash: publication.torrent.infoHash,
    sign: (message) => key.sign(message),
  });
  return nodes;
}

/** Reads the manifest of the last edition. Undefined if there is none. */
export async function lastManifest(
  store: FileStore,
  key: Pick<PublisherIdentity, 'publicKey'>,
  salt: string,
  now: Date,
): Promise<Manifest | undefined> {
  const publicKeyHex = Buffer.from(key.publicKey).toString('hex');
  const last = await readKept({ publicKey: key.publicKey, publicKeyHex, salt }, publishedDir(store, salt), now);
  return last?.manifest;
}

/** Returns the folder of the newest edition of this machine's own hash map. */
export function publishedDir(store: Pick<FileStore, 'stateDir'>, salt: string): IndexDir {
  return new IndexDir(join(inState(store, 'published'), saltBytes(salt).toString('hex') || '0'));
}

function isStale(manifest: Manifest, now: Date): boolean {
  const life = manifest.expires.getTime() - manifest.created.getTime();
  return now.getTime() - manifest.created.getTime() > life * RENEW_AFTER;
}
