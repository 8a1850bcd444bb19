import { isNarswarmError } from '../../errors.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { StoreHash } from '../../nix/brands.ts';
import { extraOf, type NarInfo } from '../../nix/narinfo.ts';
import { fingerprint, type PublicKey } from '../../nix/signature.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import { ask } from './find-narinfo.ts';
import type { NarInfoSource } from '../sources/narinfo-sources.ts';
import { namedFile, withoutName } from '../plan/named-file.ts';

/** State of one path: its present source, the descriptions already tried, and the remaining sources. */
interface State {
  origin: NarInfoSource | undefined;
  /** True if a file had another size than named. */
  isOtherSize: boolean;
  readonly tried: Set<string>;
  readonly left: NarInfoSource[];
}

/**
 * The descriptions of a path in different sources, tried one after another as Nix tries substituters: each source's own
 * file, or its own build of the path. Asks the next source only when the previous description has failed.
 */
export class Candidates {
  readonly #sources: readonly NarInfoSource[];
  readonly #keys: readonly PublicKey[];
  readonly #origins: ReadonlyMap<StoreHash, NarInfoSource>;
  readonly #hasUpstream: boolean;
  readonly #states = new Map<StoreHash, State>();

  /**
   * @param sources in the order in which they are asked
   * @param origins the source of the narinfo that each path is tried with first
   */
  constructor(
    sources: readonly NarInfoSource[],
    keys: readonly PublicKey[],
    origins: ReadonlyMap<StoreHash, NarInfoSource>,
  ) {
    this.#sources = sources.filter(({ isTarget }) => isTarget !== true);
    this.#hasUpstream = sources.some(({ upstream }) => upstream !== undefined);
    this.#keys = keys;
    this.#origins = origins;
  }

  /** Returns the source of the narinfo that a path is being tried with. */
  originOf(hash: StoreHash): NarInfoSource | undefined {
    return this.#states.get(hash)?.origin ?? this.#origins.get(hash);
  }

  /** Returns the upstream whose own narinfo this is. */
  cacheOf({ storePath }: NarInfo): Upstream | undefined {
    return this.originOf(storeHashOf(storePath))?.upstream;
  }

  /**
   * Returns the next narinfo to try for a path. Undefined after the last one.
   *
   * @param info the narinfo that failed
   * @param failure its failure. If the file has another size than named, the same source is tried once more by
   *   contents: a cache or proxy that compresses again is right otherwise
   * @param options.isLiar returns true for upstreams that are asked last. Default: none
   * @param options.isDisputed true if the file may be that of another path: then the same source is also tried once more
   *   by contents
   * @throws the signal's reason
   */
  async next(
    info: NarInfo,
    failure: unknown,
    signal: AbortSignal,
    {
      isLiar = () => false,
      isDisputed = false,
    }: { readonly isLiar?: (upstream: Upstream) => boolean; readonly isDisputed?: boolean } = {},
  ): Promise<NarInfo | undefined> {
    const hash = storeHashOf(info.storePath);
    const state = this.#stateOf(hash);
    take(state, info);
    state.isOtherSize ||= isOtherSize(failure);
    if (this.#hasUpstream && (isDisputed || isOtherSize(failure)) && namedFile(info) !== undefined) {
      const unnamed = take(state, withoutName(info));
      if (unnamed !== undefined) return unnamed;
    }
    for (;;) {
      const source = shiftHonest(state.left, isLiar);
      if (source === undefined) return undefined;
      const { info: own } = await ask(source, { hash, path: info.storePath }, this.#keys, signal);
      signal.throwIfAborted();
      if (own === undefined) continue;
      state.origin = source;
      const mayBeOther = state.isOtherSize && source.upstream !== undefined;
      const candidate = take(state, own) ?? (mayBeOther ? take(state, withoutName(own)) : undefined);
      if (candidate !== undefined) return candidate;
    }
  }

  #stateOf(hash: StoreHash): State {
    const known = this.#states.get(hash);
    if (known !== undefined) return known;
    const origin = this.#origins.get(hash);
    const state = {
      origin,
      isOtherSize: false,
      tried: new Set<string>(),
      left: this.#sources.filter((source) => source !== origin),
    };
    this.#states.set(hash, state);
    return state;
  }
}

/** Takes the first source that has not lied, or else the first one. */
function shiftHonest(left: NarInfoSource[], isLiar: (upstream: Upstream) => boolean): NarInfoSource | undefined {
  const at = left.findIndex(({ upstream }) => upstream === undefined || !isLiar(upstream));
  return left.splice(Math.max(at, 0), 1)[0];
}

/**
 * Returns the narinfo unless it was already tried. Files without a hash count as different if they come from two
 * sources.
 */
function take({ origin, tried }: State, info: NarInfo): NarInfo | undefined {
  const { url, compression, fileHash, fileSize } = info;
  const from = namedFile(info) === undefined ? origin?.name : undefined;
  const key = [fingerprint(info), url, compression, fileHash, fileSize, extraOf(info, 'InfoHash'), from].join(' ');
  if (tried.has(key)) return undefined;
  tried.add(key);
  return info;
}

/**
 * Returns true if a file differs in size from the named one. Then its contents were not checked; those of files of the
 * same size were.
 */
function isOtherSize(failure: unknown): boolean {
  if (isNarswarmError(failure, 'SIZE_MISMATCH')) return true;
  const causes: unknown[] = failure instanceof AggregateError ? [...(failure.errors as unknown[])] : [];
  if (failure instanceof Error && failure.cause !== undefined) causes.push(failure.cause);
  return causes.some(isOtherSize);
}
