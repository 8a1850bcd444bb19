import { join } from 'node:path';

/** Name of the folder that holds the state of a file store; binary caches know nothing of it. */
export const STATE_FOLDER = 'narswarm';

/**
 * Everything in the state folder of a store, and how a dry run takes it over: `copied` as it writes there on its way to a
 * plan, `read` where it lies, `left` as it has nothing to do with it.
 */
const PLACES = {
  /** NARs that were asked for, with their pieces: catalogue.ts. */
  'catalogue.jsonl': 'read',
  /** What caches say of themselves: fetch/cache-infos.ts. */
  'caches.json': 'left',
  /** Hash maps that are followed, a folder each: index/index-dir.ts. */
  index: 'copied',
  /** Generations of hash maps that are seeded: index/generations.ts. */
  generations: 'left',
  /** This machine's own hash maps, a folder each: publish/publication.ts. */
  published: 'read',
  /** States of subscriptions, a file each: subscription/state.ts. */
  subscriptions: 'read',
  /** Lists of store paths as they were fetched last: subscription/fetch-list.ts. */
  lists: 'copied',
  /** Pins, a file each: pins.ts. */
  pins: 'read',
  /** When each NAR was last served: last-served.ts. */
  served: 'read',
  /** Damaged files: quarantine.ts. */
  quarantine: 'read',
  /** Partial files of fetches, a folder a process: session.ts. */
  partial: 'left',
  /** Exports of own builds, a folder a process: export-folder.ts. */
  export: 'left',
  /** Turns of processes, a folder a process: turn.ts. */
  collecting: 'left',
  publishing: 'left',
  serving: 'left',
  updating: 'left',
} as const;

/** A file or folder of the state. */
export type StatePlace = keyof typeof PLACES;

/** Places by how a dry run takes them over. */
export function statePlaces(use: 'copied' | 'read'): StatePlace[] {
  return (Object.keys(PLACES) as StatePlace[]).filter((place) => PLACES[place] === use);
}

/** The path of a file or folder of a store's state. */
export function inState({ stateDir }: { readonly stateDir: string }, place: StatePlace): string {
  return join(stateDir, place);
}
