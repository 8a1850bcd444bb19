import { failureOf } from '../../failure.ts';
import type { Tell } from '../../fetch/events.ts';
import type { MapDoubt } from '../../fetch/sources/hash-maps.ts';
import type { PrefetchOptions } from '../../fetch/prefetch-options.ts';
import type { PrefetchResult } from '../../fetch/prefetch-result.ts';
import type { StorePath } from '../../nix/brands.ts';
import { fetchReady } from './fetch-ready.ts';
import { fetchResolution, lackOf, type FetchedResolution } from '../fetch-resolution.ts';
import { MirrorRoom } from '../room/mirror-room.ts';
import type { Note } from '../state/note.ts';
import type { Outcome } from '../state/next-state.ts';
import { resolveSource } from '../source/resolve-source.ts';
import { IN_FLIGHT } from '../room/room-keeper.ts';
import { parseSource } from '../source/source.ts';
import type { Subscription } from '../subscription.ts';
import type { UpdateContext } from './update-context.ts';

/** The result of fetching the source of a subscription. */
export type FetchedSource = FetchedResolution & Pick<Outcome, 'silence'>;

/** Receives the results of a fetch while it runs. */
interface FetchedSoFar {
  /** Takes the result of each prefetch, even if something fails afterwards. */
  readonly parts: PrefetchResult[];
  /** Records the present paths of a mirror, before older editions are removed. */
  readonly record: (held: PrefetchResult) => Promise<void>;
  /** As in a prefetch. */
  readonly beforeImport?: PrefetchOptions['beforeImport'];
}

/**
 * Fetches the source of a subscription as far as possible.
 *
 * @throws as {@link parseSource} and {@link resolveSource}; failures of a fetch that concern more than single paths
 */
export async function fetchSubscription(
  subscription: Subscription,
  { parts, record, beforeImport }: FetchedSoFar,
  tell: Tell,
  context: UpdateContext,
): Promise<FetchedSource> {
  const { workplace, publishers, upstreams, signal } = context;
  const source = parseSource(subscription.source, { file: subscription.file });
  const fetch = async (
    what: Pick<PrefetchOptions, 'roots' | 'wholeMaps' | 'mapBudget' | 'room' | 'publishers'>,
  ): Promise<PrefetchResult> => {
    const part = await workplace.prefetch(
      {
        ...what,
        require: context.require,
        voters: publishers,
        upstreams,
        trustedPublicKeys: context.trustedPublicKeys,
        publisherTimeoutMs: context.publisherTimeoutMs,
        peerTimeoutMs: context.peerTimeoutMs,
        dryRun: context.dryRun,
        keepGoing: true,
        earlyBytes: context.maxBytes && context.maxBytes * IN_FLIGHT,
        copy: subscription.import,
        beforeImport,
        looksInto: 'all',
        to: subscription.import ? subscription.to : undefined,
        holdAll: subscription.publish, // a hash map lists paths of the store, not of the target
      },
      { tell, signal },
    );
    parts.push(part);
    return part;
  };
  if (source.kind !== 'publisher') {
    const resolution = await resolveSource(source, {
      http: workplace.http,
      files: workplace.store,
      withSources: subscription.sources && !subscription.ready,
      realisedPath: (drvPath, output) => workplace.realisedPath(drvPath, output, { upstreams, signal }),
      signal,
    });
    const fetchRoots = (roots: readonly StorePath[]): Promise<PrefetchResult> => fetch({ roots, publishers });
    if (!subscription.ready) return fetchResolution(resolution, fetchRoots);
    const { dryRun } = context;
    const { store: files } = workplace;
    return fetchReady(source, resolution, {
      files,
      fetch: fetchRoots,
      withSources: subscription.sources,
      dryRun,
      signal,
    });
  }
  const { address, root } = source;
  if (root === undefined) {
    const budget = await budgetOf(subscription, record, context);
    return ofPublisher(await fetch({ roots: [], wholeMaps: true, publishers: [address], ...budget }), undefined);
  }
  const part = await fetch({ roots: [root], publishers: [address] });
  const fetched = ofPublisher(part, part.roots[0]);
  if (!subscription.ready) return fetched;
  return { ...fetched, notes: [...fetched.notes, { kind: 'unknown-builds', path: part.roots[0] ?? root }] };
}

/**
 * Returns the limits of the fetch of a whole map. Its NARs may come step by step, unless they are imported: an import
 * needs all of them in the store at the same time.
 */
async function budgetOf(
  { name, import: imports }: Subscription,
  record: FetchedSoFar['record'],
  { workplace, maxBytes, rankFiles, rootsBeside, dryRun, signal, onWarning }: UpdateContext,
): Promise<Pick<PrefetchOptions, 'mapBudget' | 'room'>> {
  if (maxBytes === undefined) return {};
  const { store } = workplace;
  const room = new MirrorRoom({ store, maxBytes, rootsBeside: () => rootsBeside(name), record, signal, onWarning });
  const mapBudget = { maxBytes, rankFiles, kept: await room.kept() };
  return dryRun || imports ? { mapBudget } : { mapBudget, room };
}

/** Judges a fetch by the hash map of one publisher. */
function ofPublisher(part: PrefetchResult, main: StorePath | undefined): FetchedSource {
  const { error, lack } = lackOf(part.missing, [part]);
  const unconfirmed = part.doubts.filter((doubt) => !isOfMalformed(doubt));
  const malformed = part.doubts.find(isOfMalformed);
  const [silent] = unconfirmed;
  const outsized: Note[] = part.outsized === undefined ? [] : [{ kind: 'outsized', ...part.outsized }];
  return {
    main,
    // A malformed hash map does not count as today's map, even if the previous one is held.
    ...(malformed === undefined || error?.code === 'INTERRUPTED' ? { error, lack } : { error: malformed.failure }),
    notes: [...unconfirmed.map(noteOf), ...outsized],
    silence: silent && { reason: failureOf(silent.failure).reason, created: silent.created },
    leftOut: [],
  };
}

/** Returns true if a kept edition was used since the newest one is malformed. A member's edition counts as today's. */
function isOfMalformed({ from, failure }: MapDoubt): boolean {
  return from === 'kept' && failure.code !== 'INDEX_UNREACHABLE';
}

function noteOf({ from, failure, created }: MapDoubt): Note {
  return { kind: `${from}-map`, failure: failureOf(failure), created: created.toISOString() };
}
