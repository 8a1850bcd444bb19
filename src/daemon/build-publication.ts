import { NarswarmError } from '../errors.ts';
import { walkClosure } from '../fetch/closure.ts';
import { firstTrusted, storeSource } from '../fetch/find-narinfo.ts';
import { assertPublished, collectRecords, type Collected } from '../index/collect-records.ts';
import { lastPeers, publishIndex, type Publication } from '../index/publication.ts';
import type { PublisherKey } from '../index/publisher-key.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import type { PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { Catalogue } from '../store/catalogue.ts';
import type { FileStore } from '../store/file-store.ts';
import { Turn } from '../store/turn.ts';

export interface BuildOptions {
  readonly store: FileStore;
  readonly key: PublisherKey;
  readonly salt: string;
  /** What the map is of, asked for with each generation; `everything`: all that the store holds. */
  readonly contents: () => Promise<Contents | 'everything'>;
  readonly keys: readonly PublicKey[];
  readonly validForMs: number;
  /** `host:port` of peers to name in the manifest. */
  readonly hints: readonly string[];
  /** Whether those stay that the last generation names: a daemon that publishes the same map names itself. Default: no. */
  readonly keepsHints?: boolean;
  /** What to do where no subscription and nothing that was added can be published. */
  readonly wayOut?: string;
  readonly signal: AbortSignal;
}

/** The closures that a map is of. */
export interface Contents {
  /** Roots that followers may ask for by name. */
  readonly named: ReadonlyMap<string, StorePath>;
  readonly unnamed: readonly StorePath[];
}

/** A generation that was built, and what it took. */
export interface Built extends Collected {
  readonly publication: Publication;
}

/**
 * Makes the hash map of the roots' closures, or of all that the store holds, on disk.
 *
 * @throws ROOT_UNKNOWN, NARINFO_MISSING, NARINFO_UNTRUSTED where a root or its closure is not there in full
 */
export async function buildPublication(options: BuildOptions): Promise<Built> {
  const { store, keys, signal } = options;
  await using _ = await Turn.wait(store, 'publishing', { signal }); // of two at once, one would sign what the other overwrites
  const contents = await options.contents();
  const roots = contents === 'everything' ? new Map<string, StorePath>() : contents.named;
  const infos =
    contents === 'everything'
      ? await everything(store)
      : await closureOf([...contents.named.values(), ...contents.unnamed], options);
  const collected = await collectRecords(infos, { store, catalogue: await Catalogue.open(store), keys, signal });
  assertPublished(roots, collected);
  if (collected.records.length === 0) {
    const [first] = collected.leftOut;
    const nothing =
      contents === 'everything'
        ? 'it holds no narinfos'
        : `no subscription that says publish has been complete so far, and nothing was added: ${options.wayOut ?? 'run narswarm update or narswarm add'}`;
    const reason = first === undefined ? nothing : `${first.storePath}: ${first.reason}`;
    const isUntrusted = first?.reason === 'not signed by a trusted key';
    const wayOut = isUntrusted ? ': name the key that signed it with --trusted-public-key' : '';
    throw new NarswarmError(
      isUntrusted ? 'NARINFO_UNTRUSTED' : 'NOT_FOUND',
      `nothing in ${store.dir} can be published (${reason})${wayOut}`,
      {
        facts: { store: store.dir },
      },
    );
  }
  const last = options.keepsHints === true ? await lastPeers(store, options.key, options.salt, new Date()) : [];
  const publication = await publishIndex({
    store,
    key: options.key,
    salt: options.salt,
    records: collected.records,
    roots: Array.from(roots, ([name, path]) => ({ name, path })),
    peers: [...new Set([...options.hints, ...last])],
    now: new Date(),
    validForMs: options.validForMs,
  });
  return { ...collected, publication };
}

async function closureOf(paths: readonly StorePath[], { store, keys, signal }: BuildOptions): Promise<NarInfo[]> {
  const find = firstTrusted([await storeSource(store)], keys);
  return [...(await walkClosure(paths.map(storeHashOf), find, { signal })).values()];
}

/** Every narinfo of a store that can be read. */
async function everything(store: FileStore): Promise<NarInfo[]> {
  const infos: NarInfo[] = [];
  for (const hash of await store.listStoreHashes()) {
    const info = await store.readNarInfo(hash).catch(() => undefined); // a damaged one is not published
    if (info !== undefined) infos.push(info);
  }
  return infos;
}
