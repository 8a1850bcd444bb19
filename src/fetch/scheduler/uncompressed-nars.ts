import type { Member } from '../../exchange/member.ts';
import type { Members } from '../../exchange/members.ts';
import type { FileHash } from '../../nix/brands.ts';
import { asFileHash } from '../../nix/hash.ts';
import type { FileDescription } from '../../nix/narinfo.ts';
import { FileStore } from '../../store/file-store.ts';
import { MAX_WANTS } from '../../wire/bounds.ts';
import type { Task } from './task.ts';

/** Limit on wanted names of uncompressed NARs: the other half of what a member remembers is for the named files. */
const MAX_UNCOMPRESSED = MAX_WANTS / 2;
/** The part of the named file that may be dropped for the uncompressed NAR. */
const MOST_LOST = 0.25;
/** How often a NAR may change to its other file. Neighbours may come and go. */
const MAX_CHANGES = 4;

/**
 * Learns which neighbours have NARs uncompressed: a machine that has imported a NAR may keep it in its Nix store alone.
 * The FileHash of an uncompressed NAR is its NarHash, which the signed narinfo has. So members are asked for it by that
 * name, too. It counts only at neighbours: it is several times as large, and their line is fast.
 */
export class UncompressedNars implements Disposable {
  readonly #members: Members;
  readonly #onNews: () => void;
  /** The neighbours that have each wanted NAR. */
  readonly #holders = new Map<FileHash, Set<Member>>();

  /** @param onNews called when a neighbour may have another of them */
  constructor(members: Members, onNews: () => void) {
    this.#members = members;
    this.#onNews = onNews;
    members.on('have', this.#onHave);
    members.on('gone', this.#onGone);
  }

  /** Asks members for these NARs, as long as there is room. */
  want(tasks: readonly Task[]): void {
    const files: FileHash[] = [];
    for (const task of tasks) {
      const file = uncompressedOf(task)?.fileHash;
      if (file === undefined || this.#holders.has(file) || this.#holders.size >= MAX_UNCOMPRESSED) continue;
      this.#holders.set(file, new Set());
      files.push(file);
    }
    this.#members.want(files.map((file) => ({ file, isScoped: true })));
    for (const member of this.#members.open) for (const file of files) this.#onHave(member, file);
  }

  /** Asks for a NAR no longer. */
  drop({ job }: Task): void {
    const file = asFileHash(job.info.narHash);
    if (!this.#holders.delete(file)) return;
    if (file !== job.fileHash) this.#members.unwant([file]);
  }

  /** Returns true if a neighbour has the NAR of a task uncompressed, and the task may continue with it. */
  isAtHand(task: Task): boolean {
    const file = uncompressedOf(task)?.fileHash;
    return file !== undefined && (this.#holders.get(file)?.size ?? 0) > 0;
  }

  [Symbol.dispose](): void {
    this.#members.off('have', this.#onHave);
    this.#members.off('gone', this.#onGone);
    this.#members.unwant(this.#holders.keys());
  }

  readonly #onHave = (member: Member, file: FileHash): void => {
    if (!member.isNeighbour || member.has(file) !== 'whole') return;
    const holders = this.#holders.get(file);
    if (holders === undefined || holders.has(member)) return;
    holders.add(member);
    this.#onNews();
  };

  readonly #onGone = (member: Member): void => {
    for (const holders of this.#holders.values()) holders.delete(member);
  };
}

/**
 * Returns the description of the uncompressed NAR of a task. Undefined if it is fetching that already, if much of the named
 * file is here, or if its contents are disputed.
 */
export function uncompressedOf({ job, partial, changes }: Task): Required<FileDescription> | undefined {
  if (job.extension === '' || job.isDisputed === true || changes >= MAX_CHANGES) return undefined;
  if (partial !== undefined && partial.heldBytes > job.sizeBytes * MOST_LOST) return undefined;
  const { narHash, narSize } = job.info;
  const fileHash = asFileHash(narHash);
  return { url: FileStore.narUrl(fileHash, ''), compression: 'none', fileHash, fileSize: narSize };
}
