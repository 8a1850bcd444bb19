import { stat } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { NarswarmError } from '../errors.ts';
import type { FileHash, StoreHash } from '../nix/brands.ts';
import { asFileHash } from '../nix/hash.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PublicKey } from '../nix/signature.ts';
import { parseStoreHash, storeHashOf } from '../nix/store-path.ts';
import { Catalogue } from './catalogue/catalogue.ts';
import { contentsOf, type CatalogueEntry } from './catalogue/catalogue-entry.ts';
import { narNameOf } from './collect/store-graph.ts';
import { NARINFO_NAME, type FileStore } from './file-store.ts';
import { narContentsOf, type NarContents, type NarHashes } from './hashing/hash-nar.ts';
import { hashNars, type Unread } from './hashing/hash-pool.ts';
import type { TellHashing } from './hashing/hashing.ts';
import { narsInStore } from './nars-in-store.ts';
import { namesIn } from '../disk/names-in.ts';
import { narStateOf } from './catalogue/nar-state.ts';
import { isInQuarantine, quarantine } from './quarantine.ts';
import { faultOfContents } from './damage/contents.ts';
import { damageOf, type Damage } from './damage/damage.ts';
import { examineNarInfo } from './damage/examine-narinfo.ts';
import type { Fault } from './damage/fault.ts';
import { ownNarPath } from './damage/mend-narinfo.ts';
import { LostNarInfos, WAS_HERE } from './damage/lost-narinfos.ts';

export interface VerifyOptions {
  readonly store: FileStore;
  /** Paths to verify, without their references. Undefined: all, and NARs that no narinfo names. */
  readonly hashes: readonly StoreHash[] | undefined;
  /** True to decompress NARs, too, and to check NarHash and signatures. */
  readonly deep: boolean;
  /** With `deep`: keys whose wrong signatures count as damage. */
  readonly keys: readonly PublicKey[];
  readonly signal: AbortSignal;
  readonly onDamage: (damage: Damage) => void;
  /** Called with the NARs to read, and with each that was read. Default: they are not counted before. */
  readonly tellHashing?: TellHashing;
}

/** The result of verifying. */
export interface VerifyResult {
  readonly narInfos: number;
  readonly nars: number;
  readonly bytes: number;
  /** Paths whose NAR was never in the store. They are not damaged: the target held them at the time of the fetch. */
  readonly absent: number;
  /** With `deep`: narinfos that no trusted key has signed, such as those of own builds. */
  readonly untrusted: number;
  readonly damaged: number;
}

/**
 * Reads NARs again and checks them against their narinfos, several at a time. Quarantines damaged files at once. Keeps
 * the narinfo of a damaged NAR, since it says what to fetch again. Reports a file that an earlier run quarantined until
 * it is back, and a missing narinfo that another one refers to. Remembers the name of each sound NAR and of each path
 * referred to.
 *
 * It is safe to kill this at any moment: a file is moved by one rename.
 *
 * @throws NIX_MISSING if the program that decompresses a NAR is missing; NOT_FOUND for a path without a narinfo;
 *   STORE_UNWRITABLE; the signal's reason
 */
export async function verifyStore(options: VerifyOptions): Promise<VerifyResult> {
  return new Verification(options).run();
}

/** Size and time of last change of a file when it was read. */
interface Seen {
  readonly sizeBytes: number;
  readonly mtimeMs: number;
}

/** A file to hash, with its expected hashes. */
interface Item extends Seen {
  readonly path: string;
  /** Undefined if neither its name nor a narinfo gives one. */
  readonly fileHash: FileHash | undefined;
  /** A narinfo that names it, and the file of that narinfo. Undefined if there is none. */
  readonly info: (NarInfo & { readonly seen: Seen }) | undefined;
  readonly contents: NarContents | undefined;
}

const NAR_NAME = /^([0-9a-df-np-sv-z]{52})\.nar(?:\.[a-z0-9]+)?$/;

class Verification {
  readonly #options: VerifyOptions;
  readonly #result = { narInfos: 0, nars: 0, bytes: 0, absent: 0, untrusted: 0, damaged: 0 };
  /** Names of NARs that are already hashed for another narinfo. */
  readonly #known = new Set<string>();

  readonly #lost: LostNarInfos;
  #catalogue: Catalogue | undefined;
  /** Entries with the results of this run. */
  readonly #found: CatalogueEntry[] = [];

  constructor(options: VerifyOptions) {
    this.#options = options;
    this.#lost = new LostNarInfos(options.store);
  }

  async run(): Promise<VerifyResult> {
    const { signal } = this.#options;
    const unreadable: { item: Item; unread: Unread }[] = [];
    const onUnread = (item: Item, unread: Unread | undefined): void => {
      if (unread !== undefined) unreadable.push({ item, unread }); // without a reason, a collector has removed the file
    };
    const { store } = this.#options;
    const catalogue = await Catalogue.open(store);
    this.#catalogue = catalogue;
    const { tellHashing: tell, hashes: wanted } = this.#options;
    if (tell !== undefined) tell({ type: 'hashing', ...(await narsInStore(store, wanted, signal)) });
    for await (const { item, hashes } of hashNars(this.#items(signal), signal, onUnread)) {
      this.#result.nars++;
      this.#result.bytes += hashes.sizeBytes;
      tell?.({ type: 'nar-hashed', bytes: hashes.sizeBytes });
      await this.#judge(item, hashes);
    }
    for (const { item, unread } of unreadable) await this.#takeUnread(item, unread);
    await catalogue.add(this.#found).catch(() => undefined); // a read-only store can be verified, too
    if (this.#options.hashes === undefined)
      for await (const lost of this.#lost.quarantined()) this.#report(damageOf(lost));
    return this.#result;
  }

  /** Yields the files to hash, each once: first those of narinfos, then the others. */
  async *#items(signal: AbortSignal): AsyncGenerator<Item> {
    const { hashes, store } = this.#options;
    for await (const storeHash of hashes ?? narInfosOf(store)) {
      signal.throwIfAborted();
      const item = await this.#itemOf(storeHash);
      if (item !== undefined) yield item;
    }
    if (hashes !== undefined) return;
    const folder = join(store.dir, 'nar');
    for await (const name of namesIn(folder)) {
      const fileHash = NAR_NAME.exec(name)?.[1];
      if (fileHash === undefined || this.#known.has(name)) continue;
      const seen = await seenAt(join(folder, name));
      if (seen !== undefined)
        yield {
          ...seen,
          path: join(folder, name),
          fileHash: asFileHash(fileHash),
          info: undefined,
          contents: undefined,
        };
    }
  }

  /** Returns the file to hash for a narinfo. Undefined if there is none. */
  async #itemOf(storeHash: StoreHash): Promise<Item | undefined> {
    const { store, hashes } = this.#options;
    const narInfoPath = store.narInfoPath(storeHash);
    const seen = await seenAt(narInfoPath);
    const read = await examineNarInfo(storeHash, this.#options);
    if (seen === undefined || read === undefined) {
      if (hashes === undefined) return undefined; // a collector has removed it
      if (await isInQuarantine(store, narInfoPath)) {
        this.#report(damageOf({ storeHash, storePath: undefined, fault: WAS_HERE }));
        return undefined;
      }
      throw new NarswarmError(
        'NOT_FOUND',
        `${store.dir} holds no narinfo of ${storeHash}: fetch it first, or name another --store`,
        { facts: { path: storeHash } },
      );
    }
    this.#result.narInfos++;
    if ('fault' in read) {
      await this.#isolate(narInfoPath, seen, { storeHash, storePath: read.info?.storePath, fault: read.fault });
      return undefined;
    }
    const { info } = read;
    if (read.isUntrusted) this.#result.untrusted++;
    if (hashes === undefined) for await (const lost of this.#lost.referredToBy(info)) this.#report(damageOf(lost));
    const name = narNameOf(info.url);
    // Paths of one NAR have the same NarHash, unless one of the narinfos lies.
    const pair = this.#options.deep ? `${name} ${info.narHash}` : name;
    if (this.#known.has(pair)) return undefined;
    const path = store.narPath(info);
    const file = await seenAt(path);
    if (file === undefined) {
      const own = ownNarPath(info, store);
      if (own !== undefined && own !== path && (await seenAt(own)) !== undefined) {
        const wrongUrl: Fault = { kind: 'wrong-url', url: info.url };
        await this.#isolate(narInfoPath, seen, { storeHash, storePath: info.storePath, fault: wrongUrl });
        return undefined;
      }
      await this.#onAbsent(info, name);
      return undefined;
    }
    this.#known.add(name);
    this.#known.add(pair);
    const named = NAR_NAME.exec(name)?.[1];
    const fileHash = info.fileHash ?? (named === undefined ? undefined : asFileHash(named));
    const contents = this.#options.deep || fileHash === undefined ? info : undefined;
    return {
      ...file,
      path,
      fileHash,
      info: { ...info, seen },
      contents: contents && narContentsOf(contents),
    };
  }

  async #onAbsent(info: NarInfo, name: string): Promise<void> {
    const { store } = this.#options;
    const { storePath } = info;
    const state = this.#catalogue && (await narStateOf(store, this.#catalogue, info));
    if (state === 'never') this.#result.absent++;
    if (state !== 'gone') return; // or it is back
    const storeHash = storeHashOf(storePath);
    // A collector removes the narinfo before the NAR, and the line in the catalogue last. That is not a loss.
    if ((await seenAt(store.narInfoPath(storeHash))) === undefined) return;
    const file = join('nar', name);
    this.#report({ file, storeHash, storePath, fault: WAS_HERE, quarantined: undefined, isGone: true });
  }

  async #judge({ path, fileHash, info }: Item, hashes: NarHashes): Promise<void> {
    const storePath = info?.storePath;
    const storeHash = storePath === undefined ? undefined : storeHashOf(storePath);
    const isolate = (file: string, seen: Seen, fault: Fault): Promise<void> =>
      this.#isolate(file, seen, { storeHash, storePath, fault });
    const narInfoPath = storeHash && this.#options.store.narInfoPath(storeHash);
    if (fileHash !== undefined && hashes.fileHash !== fileHash) {
      const file = { kind: 'other-file', found: hashes.fileHash, named: fileHash } as const;
      const hasContents = info !== undefined && hashes.narHash === info.narHash;
      if (!hasContents || narInfoPath === undefined) await isolate(path, hashes, file);
      else await isolate(narInfoPath, info.seen, { kind: 'wrong-file-hash', file });
      return;
    }
    if (info === undefined || narInfoPath === undefined) return;
    if (info.fileSize !== undefined && info.fileSize !== hashes.sizeBytes) {
      await isolate(narInfoPath, info.seen, { kind: 'wrong-file-size', said: info.fileSize, found: hashes.sizeBytes });
      return;
    }
    const known = this.#catalogue?.knows({ storePath: info.storePath, fileHash: hashes.fileHash }, hashes);
    if (known !== undefined && hashes.narHash !== undefined) this.#found.push({ ...known, narHash: hashes.narHash });
    const wasWrong = known !== undefined && hashes.narHash === undefined && contentsOf(known, info) === 'wrong';
    const contents = faultOfContents(wasWrong ? known.narHash : hashes.narHash, info);
    if (contents === undefined) return;
    // A file with the FileHash of its narinfo may be the right NAR of another path. So the narinfo is quarantined, not
    // the file.
    if (fileHash === undefined) await isolate(path, hashes, contents);
    else await isolate(narInfoPath, info.seen, { kind: 'wrong-nar-named', contents });
  }

  /** Quarantines a file that the disk cannot return. Leaves a file that we may not read. */
  async #takeUnread({ path, info, sizeBytes, mtimeMs }: Item, { reason, code }: Unread): Promise<void> {
    const storePath = info?.storePath;
    const storeHash = storePath === undefined ? undefined : storeHashOf(storePath);
    const named = { storePath, storeHash, fault: { kind: 'unreadable', reason } as const };
    if (code === 'EIO') await this.#isolate(path, { sizeBytes, mtimeMs }, named);
    else
      this.#report({ ...named, file: relative(this.#options.store.dir, path), quarantined: undefined, isGone: false });
  }

  async #isolate(path: string, seen: Seen, facts: Pick<Damage, 'storeHash' | 'storePath' | 'fault'>): Promise<void> {
    const { store } = this.#options;
    if (facts.storeHash !== undefined && path === store.narInfoPath(facts.storeHash)) this.#lost.note(facts.storeHash);
    const quarantined = await quarantine(store, path, seen);
    if (quarantined !== undefined)
      this.#report({ ...facts, file: relative(store.dir, path), quarantined, isGone: false });
  }

  #report(damage: Damage): void {
    this.#result.damaged++;
    this.#options.onDamage(damage);
  }
}

async function* narInfosOf(store: FileStore): AsyncGenerator<StoreHash> {
  for await (const name of namesIn(store.dir)) {
    const storeHash = NARINFO_NAME.exec(name)?.[1];
    if (storeHash !== undefined) yield parseStoreHash(storeHash);
  }
}

async function seenAt(path: string): Promise<Seen | undefined> {
  const found = await stat(path).catch(() => undefined);
  return found?.isFile() === true ? { sizeBytes: found.size, mtimeMs: Math.floor(found.mtimeMs) } : undefined;
}
