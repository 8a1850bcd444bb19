import type { InfoHash } from '../../nix/brands.ts';
import { MAX_FETCHES_PER_MESSAGE } from '../../wire/bounds.ts';
import type { AskingSide } from './asking-side.ts';
import type { Edition, Fetch, FilePrefix, ServingMessage } from '../messages/messages.ts';
import type { TheirWants } from './their-wants.ts';
import type { Wanted } from './wanted.ts';

/** The parts of a connection that decide which news its member gets. */
export interface TellingOptions {
  readonly group: InfoHash;
  /** Returns true if the scope lets this member have our NARs. */
  readonly mayHave: () => boolean;
  readonly isNeighbour: () => boolean;
  readonly asking: AskingSide;
  readonly theirs: TheirWants;
  readonly send: (message: ServingMessage) => void;
}

/** Tells one member which files we want, hold and fetch, as far as it may know. */
export class Telling {
  readonly #options: TellingOptions;

  constructor(options: TellingOptions) {
    this.#options = options;
  }

  /** Asks for newly wanted files. A member outside the scope is not asked for scoped ones. */
  want(files: readonly Wanted[]): void {
    const isAdmitted = this.#options.mayHave();
    this.#options.asking.haves.want(isAdmitted ? files : files.filter(({ isScoped }) => isScoped !== true));
  }

  unwant(files: readonly Wanted[]): void {
    this.#options.asking.unwant(files);
  }

  /** Tells that a file may be given now, if the member wants it. */
  arrived(prefix: FilePrefix): void {
    this.#options.theirs.onArrived(prefix);
  }

  /** Tells that a piece of a file may be given now, if the member wants the file. */
  piece(prefix: FilePrefix, index: number): void {
    this.#options.theirs.onPiece(prefix, index);
  }

  /**
   * Tells of an edition that is here. Beyond the local network, tells only followers of its hash map, so that others do
   * not learn which maps this machine follows.
   */
  edition(edition: Edition): void {
    const { group, isNeighbour, mayHave, send } = this.#options;
    const isFollower = isNeighbour() || edition.group === group;
    if (isFollower && mayHave()) send({ kind: 'edition', ...edition });
  }

  /** Tells a neighbour of files that it wants and that we fetch from an upstream. */
  fetching(fetches: readonly Fetch[]): void {
    const { isNeighbour, mayHave, theirs, send } = this.#options;
    if (!isNeighbour() || !mayHave()) return;
    const wanted = fetches.filter(({ prefix }) => theirs.has(prefix));
    for (let at = 0; at < wanted.length; at += MAX_FETCHES_PER_MESSAGE)
      send({ kind: 'fetching', fetches: wanted.slice(at, at + MAX_FETCHES_PER_MESSAGE) });
  }
}
