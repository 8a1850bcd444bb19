import { join } from 'node:path';

/** Name of the folder with the state of a file store. Binary caches ignore it. */
export const STATE_FOLDER = 'narswarm';

/**
 * All places in the state folder of a store, and how a dry run treats them. `copied`: it writes there before its plan
 * is complete. `read`: it reads them in place. `linked`: its own folder has links to the files, which it may move.
 * `left`: it does not use them.
 */
const PLACES = {
  /** Requested NARs with their pieces: catalogue.ts. */
  'catalogue.jsonl': 'read',
  /** Settings that caches announce: fetch/sources/cache-infos.ts. */
  'caches.json': 'left',
  /** Patches of NARs: patch-list.ts. */
  'patches.jsonl': 'read',
  /** Followed hash maps, a folder each: index/files/index-dir.ts. */
  index: 'copied',
  /** Seeded editions of hash maps, a folder each: index/files/editions.ts. The name was chosen in version 0.1. */
  generations: 'left',
  /** This machine's own hash maps, a folder each: publish/publication.ts. */
  published: 'read',
  /** States of subscriptions, a file each: subscription/state/state.ts. */
  subscriptions: 'read',
  /** The generation of each subscription for which the on-complete command has run: subscription/update/on-complete.ts. */
  announced: 'left',
  /** GC roots of imported subscriptions, a folder each: subscription/room/gc-roots.ts. */
  gcroots: 'left',
  /** Lists of store paths as last fetched: subscription/source/fetch-list.ts. */
  lists: 'copied',
  /** Pins, a file each: pins.ts. */
  pins: 'read',
  /** When each NAR was last served: last-served.ts. */
  served: 'read',
  /** Copies on other machines, as counted by a daemon: replicas.ts. */
  'replicas.json': 'read',
  /** Paths of the Nix store whose NAR files gc may not release: collect/refused-paths.ts. */
  'refused.json': 'left',
  /** The socket of the running daemon, in a folder that only its user can enter: daemon/facts-socket.ts. */
  daemon: 'left',
  /** Bytes received and sent, a file a day: traffic.ts. */
  traffic: 'left',
  /** The rate limits that each process uses now: rate-shares.ts. */
  rates: 'left',
  /** Machines whose Nix waits for NARs, a file each: nix-waits.ts. */
  'nix-waits': 'left',
  /** NARs of paths that publishers have built differently: subscription/room/kept-builds.ts. */
  different: 'left',
  /** Damaged files: quarantine.ts. */
  quarantine: 'read',
  /** Partial files of fetches, a folder per process: session.ts. */
  partial: 'linked',
  /** Exports of own builds, a folder per process: export-folder.ts. */
  export: 'left',
  /** NARs that are compressed again, a folder per process: export-folder.ts. */
  recompress: 'left',
  /** NARs that Nix imports while others are arriving, a folder per process: import-folder.ts. */
  import: 'left',
  /** Unpacked NARs of mounted closures, a folder per process: mount/mount-folder.ts. */
  mount: 'left',
  /** The contents of a suitcase: suitcase/suitcase.ts. */
  'suitcase.json': 'left',
  /** Its text for people, if a folder on a disk has a file of that name of somebody else: suitcase/suitcase.ts. */
  'README.txt': 'left',
  /** Turns of processes, a folder per process: turn.ts. */
  announcing: 'left',
  collecting: 'left',
  packing: 'left',
  receiving: 'left',
  publishing: 'left',
  seeding: 'left',
  serving: 'left',
  updating: 'left',
} as const;

/** A file or folder of the state. */
export type StatePlace = keyof typeof PLACES;

/** Returns the places that a dry run treats in this way. */
export function statePlaces(use: 'copied' | 'linked' | 'read'): StatePlace[] {
  return (Object.keys(PLACES) as StatePlace[]).filter((place) => PLACES[place] === use);
}

/** Returns the path of a file or folder in a store's state. */
export function inState({ stateDir }: { readonly stateDir: string }, place: StatePlace): string {
  return join(stateDir, place);
}
