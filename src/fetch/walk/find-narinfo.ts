import { NarswarmError, isNarswarmError } from '../../errors.ts';
import type { StoreHash, StorePath } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { admitNarInfo } from '../../nix/sound-remarks.ts';
import { withinMs } from '../../within.ts';
import type { FindNarInfo } from './closure.ts';
import type { NarInfoSource } from '../sources/narinfo-sources.ts';

/** Silence of a source in milliseconds after which the next one is asked, too. */
const PATIENCE_MS = 2_000;

/**
 * One error for all aborts: an abort without a reason makes a DOMException with a stack, which takes a tenth of a
 * narinfo's time.
 */
const OVERTAKEN = new Error('another source has answered');

/** Errors of a source that would occur for the next path, too. */
const DOWN = ['HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED', 'INDEX_UNREACHABLE'] as const;

/**
 * Asks sources in order until one has a narinfo with a trusted signature. An unsigned, wrongly signed or misplaced
 * narinfo counts as a lie of its source: then the next source is asked. Drops wrong remarks ({@link admitNarInfo}). A
 * source that fails, or is silent while another one answers, is asked last from then on. Otherwise a closure would wait
 * for it at every path.
 *
 * @param sources returns the present sources, since some come and go
 * @param origins receives the source of each narinfo
 * @throws the first lie or failure if no source had a good narinfo
 */
export function firstTrusted(
  sources: () => readonly NarInfoSource[],
  keys: readonly PublicKey[],
  origins?: Map<StoreHash, NarInfoSource>,
): FindNarInfo {
  const down = new Set<NarInfoSource>();
  return async (hash, signal, path) => {
    let failure: unknown;
    const all = sources();
    const queue = [...all.filter((one) => !down.has(one)), ...all.filter((one) => down.has(one))];
    const atHand = firstAtHand(queue, keys, hash);
    if (atHand !== undefined) {
      origins?.set(hash, atHand.source);
      return atHand.info;
    }
    const mayOvertake = queue.slice(0, -1).some(({ mayStall }) => mayStall === true);
    const overtaken = mayOvertake ? new AbortController() : undefined;
    const linked = overtaken === undefined ? signal : AbortSignal.any([signal, overtaken.signal]);
    const asked = new Map<NarInfoSource, Promise<Answer>>();
    while (queue.length + asked.size > 0) {
      const next = queue.shift();
      if (next !== undefined) asked.set(next, ask(next, { hash, path }, keys, linked));
      const hurries = next?.mayStall === true && queue.length > 0;
      const answer = await firstOf([...asked.values()], hurries ? (next.patienceMs ?? PATIENCE_MS) : undefined);
      if (answer === undefined) continue;
      const { source, info, error } = answer;
      asked.delete(source);
      if (info !== undefined) {
        for (const silent of asked.keys()) if (silent.mayStall === true && silent.patienceMs !== 0) down.add(silent);
        if (asked.size > 0) overtaken?.abort(OVERTAKEN);
        origins?.set(hash, source);
        return info;
      }
      if (error === undefined) continue;
      signal.throwIfAborted();
      if (isNarswarmError(error, ...DOWN)) down.add(source);
      failure ??= ofSource(error, hash, source);
    }
    if (failure !== undefined) throw failure;
    return undefined;
  };
}

/**
 * Returns the first trusted narinfo if all sources before it are known not to have one. Sends no question. Undefined
 * otherwise, also if the narinfo is wrong: then the sources are asked, and report failures.
 */
function firstAtHand(
  sources: readonly NarInfoSource[],
  keys: readonly PublicKey[],
  hash: StoreHash,
): { readonly source: NarInfoSource; readonly info: NarInfo } | undefined {
  try {
    for (const source of sources) {
      const found = source.isTarget === true ? undefined : source.peek?.(hash);
      if (found === undefined) return undefined;
      if (found !== 'absent') return { source, info: admitNarInfo(found, keys, hash, source.isTrusted !== true) };
    }
  } catch {
    // The same failure occurs when the sources are asked.
  }
  return undefined;
}

/** The answer of a source about a path: a trusted narinfo, nothing, or a failure. */
export interface Answer {
  readonly source: NarInfoSource;
  readonly info?: NarInfo | undefined;
  readonly error?: unknown;
}

/** Asks one source about a path. Never throws. */
export async function ask(
  source: NarInfoSource,
  { hash, path }: { readonly hash: StoreHash; readonly path: StorePath | undefined },
  keys: readonly PublicKey[],
  signal: AbortSignal,
): Promise<Answer> {
  try {
    const info = await source.find(hash, signal, path);
    if (info === undefined || source.isTarget === true) return { source, info };
    return { source, info: admitNarInfo(info, keys, hash, source.isTrusted !== true) };
  } catch (error) {
    return { source, error };
  }
}

/** Returns the first promise that settles. Undefined if none does within that time. */
function firstOf<T>(promises: readonly Promise<T>[], patienceMs: number | undefined): Promise<T | undefined> {
  const first = Promise.race(promises);
  return patienceMs === undefined ? first : withinMs(patienceMs, first);
}

/** Names the source of a wrong narinfo. */
function ofSource(error: unknown, hash: StoreHash, source: NarInfoSource): unknown {
  if (!isNarswarmError(error, 'NARINFO_INVALID', 'NARINFO_UNTRUSTED', 'NARINFO_MISMATCH')) return error;
  // An unreadable narinfo does not name its path.
  const what = error.code === 'NARINFO_INVALID' ? `${hash}.narinfo: ` : '';
  const { why } = error.facts;
  return new NarswarmError(error.code, `${what}${error.message} (from ${source.name})`, {
    cause: error,
    facts: {
      ...error.facts,
      source: source.name,
      ...(typeof why === 'string' && { why: `${why} (from ${source.name})` }),
    },
  });
}
