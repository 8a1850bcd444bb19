/** Reads which subscriptions and roots to pack, and which paths the other site has. */
import { NarswarmError } from '../errors.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { StorePath } from '../nix/brands.ts';
import { quote } from '../nix/quote.ts';
import { findNamedPath, isPath } from '../nix/named-path.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { withoutPasswords } from '../redact.ts';
import type { FileStore } from '../store/file-store.ts';
import { readFetchRoots } from '../subscription/fetch-roots.ts';
import { resolveByNix } from '../subscription/source/resolve-source.ts';
import { publishersOf } from '../subscription/source/source.ts';
import { readState, type Generation, type SubscriptionState } from '../subscription/state/state.ts';
import type { Subscription } from '../subscription/subscription.ts';

export interface WhatToPack {
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  /** Roots in words, for people. */
  readonly what: readonly string[];
  /** Sources of builds, which are packed if somebody has them. */
  readonly sources: ReadonlySet<StorePath>;
  /** Roots that the other site has. */
  readonly since: readonly StorePath[];
  /** The same in words. Undefined if nothing is left out. */
  readonly sinceInWords: string | undefined;
  /** Publishers that the roots name, or that the subscriptions follow. */
  readonly publishers: readonly PublisherAddress[];
  /** The packed subscriptions. */
  readonly subscriptions: readonly Subscription[];
  /** Subscriptions whose newest generation is not complete: an older one is packed. */
  readonly behind: readonly string[];
}

export interface WhatOptions {
  /** Nix file in which the texts are attribute paths. */
  readonly file?: string | undefined;
  /** The generation that the other site has: its number, or a store path. */
  readonly since?: string | undefined;
  /** True to pack the fixed-output sources of the builds, too. */
  readonly withSources: boolean;
  readonly store: Pick<FileStore, 'stateDir'>;
  readonly configured: readonly Subscription[];
  readonly signal: AbortSignal;
}

/**
 * Reads the words of a command line. A subscription comes before a root of the same name. A subscription stands for its
 * newest complete generation.
 *
 * @throws USAGE; NOT_FOUND for a subscription or generation that is not complete here, or for unknown sources; as
 *   {@link readFetchRoots}
 */
export async function readWhatToPack(texts: readonly string[], options: WhatOptions): Promise<WhatToPack> {
  const { file, withSources, configured, store, signal } = options;
  const isName = (text: string): boolean =>
    file === undefined && configured.some((subscription) => subscription.name === text);
  const subscriptions = configured.filter(({ name }) => file === undefined && texts.includes(name));
  const packed = await Promise.all(subscriptions.map((subscription) => newestComplete(subscription, store)));
  const others = texts.filter((text) => !isName(text));
  const named = await readFetchRoots(others, { file, withSources });
  const evaluated = [...(await named.evaluate(signal)).values()];
  const ofGenerations = packed.flatMap(({ subscription, generation }) =>
    subscription.sources ? [] : (generation.main ?? generation.roots),
  );
  const sources = withSources ? await sourcesOf([...ofGenerations, ...named.roots], signal) : [];
  for (const { notes } of evaluated)
    for (const note of notes) if (note.kind === 'unknown-sources') throw withoutSources(note.path);
  return {
    roots: [
      ...new Set([
        ...packed.flatMap(({ generation }) => generation.roots),
        ...named.roots,
        ...evaluated.flatMap(({ roots }) => roots),
        ...sources,
        ...evaluated.flatMap((resolution) => resolution.sources),
      ]),
    ],
    what: [
      ...packed.map(({ subscription: { name }, generation: { number } }) => `${name}, generation ${number}`),
      ...others.map(withoutPasswords),
    ],
    sources: new Set([...sources, ...evaluated.flatMap((resolution) => resolution.sources)]),
    since: await readSince(options, packed),
    sinceInWords: sinceInWords(options.since, packed),
    publishers: [...named.publishers, ...publishersOf([], subscriptions)],
    subscriptions,
    behind: packed.flatMap(({ subscription: { name }, isNewest }) => (isNewest ? [] : [name])),
  };
}

interface PackedSubscription {
  readonly subscription: Subscription;
  readonly state: SubscriptionState;
  readonly generation: Generation;
  readonly isNewest: boolean;
}

async function newestComplete(
  subscription: Subscription,
  store: Pick<FileStore, 'stateDir'>,
): Promise<PackedSubscription> {
  const { name } = subscription;
  const state = await readState(store, name);
  const generation = state?.generations.find(({ complete }) => complete);
  if (state === undefined || generation === undefined) {
    throw new NarswarmError(
      'NOT_FOUND',
      `the subscription ${name} has never been complete here: run narswarm update ${name}, then the same command again`,
      { facts: { name } },
    );
  }
  return { subscription, state, generation, isNewest: generation === state.generations[0] };
}

/** Returns the roots that the other site has. */
async function readSince({ since }: WhatOptions, packed: readonly PackedSubscription[]): Promise<readonly StorePath[]> {
  if (since === undefined) return [];
  const named = /^\d{1,9}$/.test(since) ? undefined : await findNamedPath(since);
  if (named !== undefined && isPath(named)) return [named];
  if (!/^\d{1,9}$/.test(since))
    throw new NarswarmError(
      'USAGE',
      `--since ${quote(since)} is neither the number of a generation nor a store path: narswarm status shows the numbers`,
    );
  const [one, other] = packed;
  if (one === undefined || other !== undefined)
    throw new NarswarmError(
      'USAGE',
      `--since ${since} is a generation of one subscription: name that subscription alone, or give --since a store path`,
    );
  const { generations, name } = one.state;
  const found = generations.find(({ number }) => number === Number(since));
  if (found !== undefined) return found.roots;
  const numbers = generations.map(({ number }) => number).join(', ');
  throw new NarswarmError(
    'NOT_FOUND',
    `${name} has no generation ${since} here, only ${numbers}: give one of them, or a store path that the other site has`,
    { facts: { name, generation: Number(since) } },
  );
}

function sinceInWords(since: string | undefined, [packed]: readonly PackedSubscription[]): string | undefined {
  const isNumber = since !== undefined && /^\d+$/.test(since) && packed !== undefined;
  return isNumber ? `${packed.subscription.name}, generation ${since}` : since;
}

/** @throws NOT_FOUND if Nix does not know how a path was built */
async function sourcesOf(roots: readonly string[], signal: AbortSignal): Promise<StorePath[]> {
  const sources: StorePath[] = [];
  for (const root of roots) {
    if (!root.includes('/')) throw withoutSources(root); // a name in a hash map, or a hash part
    const path = parseStorePath(root);
    const resolution = await resolveByNix({ kind: 'store-path', path }, { withSources: true, signal });
    if (resolution.notes.length > 0) throw withoutSources(path);
    sources.push(...resolution.sources);
  }
  return sources;
}

function withoutSources(root: string): NarswarmError {
  return new NarswarmError(
    'NOT_FOUND',
    `the sources of ${root} are not known, since this machine's Nix has no derivation of it: name an installable such as nixpkgs#hello, or leave out --sources`,
    { facts: { path: root } },
  );
}
