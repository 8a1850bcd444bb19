import { open } from 'node:fs/promises';
import type { FileHash } from '../../nix/brands.ts';
import type { HeldNars } from '../../serve/held-nars.ts';
import { pieceLengthOf } from '../../torrent/canonical.ts';
import type { Origin } from '../../store/partial.ts';
import type { NarJob } from '../plan/job.ts';
import type { Task } from './task.ts';

/** The parts of a NAR that are being given. */
interface Given extends ReturnType<HeldNars['begin']> {
  /** Number of whole pieces from the front that were given as they arrived. */
  front: number;
}

/**
 * Gives the parts of arriving NARs to members: verified pieces if all bytes of the NAR come from members, and whatever
 * has arrived from a cache that names the file itself. Those bytes can be checked only with the whole NAR, by each
 * receiver for itself.
 */
export class ArrivingNars {
  readonly #held: HeldNars | undefined;
  readonly #pathOf: (job: NarJob) => string;
  readonly #given = new Map<FileHash, Given>();

  /** @param pathOf returns the place of a NAR once it is complete */
  constructor(held: HeldNars | undefined, pathOf: (job: NarJob) => string) {
    this.#held = held;
    this.#pathOf = pathOf;
  }

  /** Gives a verified piece of a NAR that comes from members. */
  givePiece(task: Task, index: number): void {
    const { torrent, sizeBytes } = task.job;
    if (!task.isOfMembers || torrent === undefined || sizeBytes <= torrent.pieceLength) return;
    this.#giving(task)?.add(index);
  }

  /**
   * Gives all that has arrived of a NAR from upstreams. Only if a configured cache names the file: the name from anybody
   * else may be that of a private file. Bytes of members are not given before the whole NAR is checked: one of them may
   * lie. A torrent that comes meanwhile from a hash map changes nothing.
   *
   * @param isTrusted returns true for a sender that is a configured upstream
   */
  giveFront(task: Task, isTrusted: (origin: Origin) => boolean): void {
    const { namedBy, torrent, sizeBytes } = task.job;
    const pieceBytes = pieceLengthOf(sizeBytes);
    const isNamed = namedBy !== undefined && (torrent === undefined || this.#given.has(task.job.fileHash));
    if (!isNamed || sizeBytes <= pieceBytes || task.lies.size > 0) return;
    const frontBytes = task.partial?.frontFrom(isTrusted) ?? 0;
    if (frontBytes < pieceBytes) return;
    const given = this.#giving(task);
    if (given !== undefined) giveTo(given, Math.floor(frontBytes / pieceBytes));
  }

  /** Gives the rest of a NAR whose bytes are right, until all of it is offered. */
  giveRest({ job: { fileHash, sizeBytes } }: Task): void {
    const given = this.#given.get(fileHash);
    if (given !== undefined && given.front > 0) giveTo(given, Math.ceil(sizeBytes / pieceLengthOf(sizeBytes)));
  }

  /** Stops giving parts of a file. */
  end(file: FileHash): void {
    this.#given.get(file)?.end();
    this.#given.delete(file);
  }

  endAll(): void {
    for (const file of this.#given.keys()) this.end(file);
  }

  #giving(task: Task): Given | undefined {
    const { job } = task;
    const known = this.#given.get(job.fileHash);
    if (known !== undefined || this.#held === undefined) return known;
    const { fileHash, sizeBytes, info } = job;
    // Serves the file from its completion until the held NAR can be served.
    const readWhole = (offset: number, lengthBytes: number): Promise<Uint8Array> =>
      readRange(this.#pathOf(task.job), offset, lengthBytes);
    const read = (offset: number, lengthBytes: number): Promise<Uint8Array> =>
      task.partial?.read(offset, lengthBytes) ?? readWhole(offset, lengthBytes);
    const given = { ...this.#held.begin({ fileHash, sizeBytes, info, read }), front: 0 };
    this.#given.set(fileHash, given);
    return given;
  }
}

/** Gives the pieces before a number that were not given yet. */
function giveTo(given: Given, end: number): void {
  while (given.front < end) given.add(given.front++);
}

/** Reads a range of a file. */
export async function readRange(path: string, offset: number, lengthBytes: number): Promise<Uint8Array> {
  await using file = await open(path);
  const { bytesRead, buffer } = await file.read(Buffer.allocUnsafe(lengthBytes), 0, lengthBytes, offset);
  return buffer.subarray(0, bytesRead);
}
