import { isNarswarmError } from '../errors.ts';
import type { StoreHash } from '../nix/brands.ts';
import { extraOf, type NarInfo } from '../nix/narinfo.ts';
import { fingerprint, type PublicKey } from '../nix/signature.ts';
import { storeHashOf } from '../nix/store-path.ts';
import { ask, type NarInfoSource } from './find-narinfo.ts';
import { namedFile, withoutName } from './named-file.ts';

/** State of one path: its source, the descriptions that were tried, and the sources that are left. */
interface State {
  origin: NarInfoSource | undefined;
  /** Whether a file was of another size than was named. */
  isOtherSize: boolean;
  readonly tried: Set<string>;
  readonly left: NarInfoSource[];
}

/**
 * The descriptions that sources have of a path, tried one after another as Nix tries substituters: each source's own file,
 * or its own build of the path. No further source is asked before the first description has failed.
 */
export class Candidates {
  readonly #sources: readonly NarInfoSource[];
  readonly #keys: readonly PublicKey[];
  readonly #origins: ReadonlyMap<StoreHash, NarInfoSource>;
  readonly #hasUpstream: boolean;
  readonly #states = new Map<StoreHash, State>();

  /**
   * @param sources in the order in which they are asked
   * @param origins which of them the narinfo came from that each path is tried with first
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

  /** The source of the narinfo that a path is tried with now. */
  originOf(hash: StoreHash): NarInfoSource | undefined {
    return this.#states.get(hash)?.origin ?? this.#origins.get(hash);
  }

  /**
   * The next narinfo to try for a path, or undefined after the last one.
   *
   * @param info what was tried
   * @param failure what it failed of. A file of another size than was named is tried once more from the source that named
   *   it, by its contents: a cache that compresses again, or a proxy that does, is right in all else
   * @throws the signal's reason
   */
  async next(info: NarInfo, failure: unknown, signal: AbortSignal): Promise<NarInfo | undefined> {
    const hash = storeHashOf(info.storePath);
    const state = this.#stateOf(hash);
    take(state, info);
    state.isOtherSize ||= isOtherSize(failure);
    if (this.#hasUpstream && isOtherSize(failure) && namedFile(info) !== undefined) {
      const unnamed = take(state, withoutName(info));
      if (unnamed !== undefined) return unnamed;
    }
    for (let source = state.left.shift(); source !== undefined; source = state.left.shift()) {
      const { info: own } = await ask(source, { hash, path: info.storePath }, this.#keys, signal);
      signal.throwIfAborted();
      if (own === undefined) continue;
      state.origin = source;
      const mayBeOther = state.isOtherSize && source.upstream !== undefined;
      const candidate = take(state, own) ?? (mayBeOther ? take(state, withoutName(own)) : undefined);
      if (candidate !== undefined) return candidate;
    }
    return undefined;
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

/** The narinfo, unless it was tried; of files without a name those of two sources are two. */
function take({ origin, tried }: State, info: NarInfo): NarInfo | undefined {
  const { url, compression, fileHash, fileSize } = info;
  const from = namedFile(info) === undefined ? origin?.name : undefined;
  const key = [fingerprint(info), url, compression, fileHash, fileSize, extraOf(info, 'InfoHash'), from].join(' ');
  if (tried.has(key)) return undefined;
  tried.add(key);
  return info;
}

/** Whether a file is another than was named, so that nobody has looked into it (of the same size it was looked into). */
function isOtherSize(failure: unknown): boolean {
  if (isNarswarmError(failure, 'SIZE_MISMATCH')) return true;
  const causes: unknown[] = failure instanceof AggregateError ? [...(failure.errors as unknown[])] : [];
  if (failure instanceof Error && failure.cause !== undefined) causes.push(failure.cause);
  return causes.some(isOtherSize);
}
