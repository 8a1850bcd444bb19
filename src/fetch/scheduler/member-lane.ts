import type { HashThread } from '../../bytes/hash-thread.ts';
import { Download } from '../../exchange/download/download.ts';
import type { Members } from '../../exchange/members.ts';
import type { Rival } from '../../exchange/download/rivals.ts';
import type { DownloadFile } from '../../exchange/download/sink.ts';
import type { Line } from '../../discovery/line.ts';
import type { FileHash } from '../../nix/brands.ts';
import type { HeldNars } from '../../serve/held-nars.ts';
import type { Origin, PartialNar } from '../../store/partial.ts';
import { ArrivingNars, readRange } from './arriving-nars.ts';
import type { Tell } from '../events.ts';
import type { HurriedNars } from '../download/hurried-nars.ts';
import type { LanePolicy } from './lane-policy.ts';
import { asItArrives, believed, fetcherOf } from './sharing.ts';
import type { TaskFiles } from './task-files.ts';
import { isOnlyForProven, isOnlyForUpstreams, type Task } from './task.ts';
import { UncompressedNars } from './uncompressed-nars.ts';

export interface MemberLaneOptions {
  readonly members: Members;
  readonly line: Line;
  readonly hashThread: HashThread;
  /** False if fetched NARs are given to ordinary BitTorrent clients at once: then each piece is checked. */
  readonly leavesUnchecked: boolean;
  readonly files: TaskFiles;
  /** Tasks that upstreams are sending. */
  readonly atUpstreams: ReadonlySet<Task>;
  readonly policy: LanePolicy;
  /** Returns true for a sender that is a configured upstream, and has sent nothing wrong of the NAR. */
  readonly isTrusted: (task: Task, origin: Origin) => boolean;
  /** Serves the finished parts of an arriving NAR to others. */
  readonly held: HeldNars | undefined;
  /** False to fetch only the files that narinfos name. */
  readonly mayBeUncompressed: boolean;
  /** The NARs that are requested before all others. */
  readonly hurried: HurriedNars | undefined;
  readonly tell: Tell;
  /** Called when a NAR is complete. */
  readonly onComplete: (task: Task) => void;
  readonly onFailure: (task: Task, error: unknown) => void;
  /** Called when members may have new files. */
  readonly onNews: () => void;
  /** Called when a member has said of all NARs whether it has them. */
  readonly onKnown: () => void;
}

/** Interval at which members that want a NAR are told that an upstream is sending it to us. */
const TELL_EVERY_MS = 1_000;
/** Time for which they are told after it has arrived. Its contents may have to be checked before they get it. */
const TELL_FETCHED_MS = 30_000;

/**
 * Fetches NARs from members of our groups: all those at once that no other lane works on. Gives the parts of arriving
 * NARs to members that want them, too.
 */
export class MemberLane implements AsyncDisposable {
  readonly #options: MemberLaneOptions;
  readonly #download: Download;
  readonly #tasks = new Map<FileHash, Task>();
  readonly #arriving: ArrivingNars;
  readonly #uncompressed: UncompressedNars;
  /** When members were last told of each NAR that upstreams send. */
  readonly #told = new Map<FileHash, number>();
  /** NARs that upstreams have sent: their sizes, and the time until which members are told of them. */
  readonly #fetched = new Map<FileHash, { readonly sizeBytes: number; readonly untilMs: number }>();
  /**
   * The process that fetches a NAR instead of this one. Kept here, since each idle lane asks for all NARs at each
   * change.
   */
  readonly #others = new Map<FileHash, Rival | undefined>();

  constructor(options: MemberLaneOptions) {
    const { members, line, hashThread, leavesUnchecked, policy, tell, onNews } = options;
    this.#options = options;
    this.#arriving = new ArrivingNars(options.held, (job) => options.files.pathOf(job));
    members.on('member', this.#onMember);
    this.#uncompressed = new UncompressedNars(members, onNews);
    this.#download = new Download({
      members,
      line,
      hashThread,
      leavesUnchecked,
      open: (file) => this.#open(file),
      onBytes: ({ peer: { address }, isNeighbour }, bytes, nar) =>
        tell({
          type: 'nar-bytes',
          source: 'peers',
          group: isNeighbour ? 'neighbours' : 'cohort',
          isNear: isNeighbour,
          origin: address,
          nar,
          bytes,
        }),
      onVerified: () => policy.onVerified(),
      onPiece: (file, index) => this.#with(file, (task) => this.#arriving.givePiece(task, index)),
      onLie: ({ peer: { address } }, file) => {
        policy.onLie();
        const path = this.#tasks.get(file)?.job.info.storePath ?? file;
        tell({ type: 'warning', warning: { kind: 'lying-peer', peer: address, path } });
      },
      onComplete: (file) => this.#with(file, options.onComplete),
      onFailure: (file, error) => this.#with(file, (task) => options.onFailure(task, error)),
      onNews,
      onKnown: options.onKnown,
    });
  }

  /**
   * Fetches these tasks from now on, if they are shared and not only for upstreams. Begun tasks continue. Members do not
   * hear of unshared tasks.
   */
  add(tasks: readonly Task[]): void {
    const files: DownloadFile[] = [];
    const begun = new Map<FileHash, PartialNar>();
    for (const task of tasks) {
      if (!task.isShared || isOnlyForUpstreams(task)) continue;
      const { fileHash, sizeBytes, torrent } = task.job;
      const pieces = torrent?.pieces ?? task.partial?.pieces;
      this.#tasks.set(fileHash, task);
      const isDoubted = isOnlyForProven(task);
      files.push({ file: fileHash, sizeBytes, pieces, isScoped: torrent === undefined, isDoubted });
      if (task.partial !== undefined) begun.set(fileHash, task.partial);
    }
    this.#download.add(files, begun);
    if (this.#options.mayBeUncompressed)
      this.#uncompressed.want(files.flatMap(({ file }) => this.#tasks.get(file) ?? []));
    const { hurried } = this.#options;
    for (const { file } of files) if ((hurried?.turnOf([file]) ?? Infinity) < Infinity) this.#download.hurry(file);
  }

  /** Records which members have a NAR that another lane is fetching, since it is shared now. Requests nothing of it. */
  watch(task: Task): void {
    this.add([task]);
    void this.#download.pause(task.job.fileHash);
  }

  /**
   * Stops requesting a NAR from members, since another lane has taken it. Resolves once no part of it is being written.
   */
  async pause({ job: { fileHash } }: Task): Promise<void> {
    this.#arriving.end(fileHash);
    await this.#download.pause(fileHash);
  }

  /** Drops a NAR that is in the store or cannot be fetched. */
  drop(task: Task, { isRight }: { readonly isRight: boolean }): void {
    const { files, job, isShared, isOfMembers } = task;
    this.#uncompressed.drop(task);
    if (isRight) this.#arriving.giveRest(task);
    if (isRight && isShared && !isOfMembers) {
      const untilMs = performance.now() + TELL_FETCHED_MS;
      this.#fetched.set(job.fileHash, { sizeBytes: job.sizeBytes, untilMs });
    }
    const read = (offset: number, lengthBytes: number): Promise<Uint8Array> =>
      readRange(this.#options.files.pathOf(job), offset, lengthBytes);
    for (const file of files) {
      const confirming = isRight ? this.#download.confirm(file, file === job.fileHash ? read : undefined) : undefined;
      if (!isRight) this.#arriving.end(file);
      void this.#download.drop(file);
      if (confirming === undefined) this.#tasks.delete(file);
      else void confirming.then(() => this.#tasks.delete(file)); // a liar is named with its path
    }
  }

  /** Records that a NAR had wrong bytes, and who sent them. @returns true if a liar was found and banned */
  doubt({ job: { fileHash }, partial }: Task, origins: readonly Origin[]): boolean {
    this.#arriving.end(fileHash);
    const members = new Set(Array.from(this.#options.members.open, ({ peer }) => peer.address));
    // Kept bytes may be the wrong ones.
    const isMixed = partial?.isDoubted === true || origins.some((origin) => !members.has(origin));
    return this.#download.doubt(fileHash, isMixed);
  }

  /** Requests a NAR before all others from now on. */
  hurry({ job: { fileHash } }: Task): void {
    this.#download.hurry(fileHash);
  }

  /** Returns true if an answering member has a missing part of a NAR. */
  isAtHand({ job: { fileHash } }: Task): boolean {
    return this.#download.isAtHand(fileHash);
  }

  /** Returns true if a member has lost a NAR that it had, and no other one has it or may get it. */
  isLost({ job: { fileHash } }: Task): boolean {
    return this.#download.isLost(fileHash);
  }

  /** Returns true if a neighbour has the NAR uncompressed, and not much of the named file is here. */
  isUncompressedAtHand(task: Task): boolean {
    return task.isShared && !isOnlyForUpstreams(task) && this.#uncompressed.isAtHand(task);
  }

  /** Returns true if an answering member has the whole NAR. */
  hasHolder({ job: { fileHash } }: Task): boolean {
    return this.#download.hasHolder(fileHash);
  }

  /**
   * Returns the neighbour that fetches a NAR from an upstream instead of this process, as of the last {@link look}. It
   * wants the NAR, too, and is fetching it or should. Its claim is left out if it is not believed. If parts of the NAR
   * have come from members, the claim has these bytes and their rate instead of the neighbour's own.
   */
  otherFor(task: Task): Rival | undefined {
    if (!task.isShared || task.isLiarUnknown || isOnlyForProven(task)) return undefined;
    const { fileHash } = task.job;
    if (!this.#others.has(fileHash)) {
      const { members, atUpstreams, policy } = this.#options;
      const heldBytes = task.partial?.heldBytes ?? 0;
      const own = { id: members.peerId, claim: atUpstreams.has(task) ? { heldBytes } : undefined };
      const other = fetcherOf(task.job, own, believed(this.#download.rivals(fileHash), policy));
      const bytesPerSec = this.#download.arrivalRate(fileHash);
      this.#others.set(fileHash, asItArrives(other, { heldBytes, bytesPerSec }));
    }
    return this.#others.get(fileHash);
  }

  /** Reads the present wants of neighbours, and tells them which NARs upstreams are sending. */
  look(): void {
    this.#others.clear();
    const nowMs = performance.now();
    const news: { file: FileHash; heldBytes: number }[] = [];
    const tell = (file: FileHash, heldBytes: number): void => {
      if (nowMs - (this.#told.get(file) ?? -Infinity) < TELL_EVERY_MS) return;
      this.#told.set(file, nowMs);
      news.push({ file, heldBytes });
    };
    for (const task of this.#options.atUpstreams) {
      if (!task.isShared) continue;
      tell(task.job.fileHash, task.partial?.heldBytes ?? 0);
      this.#arriving.giveFront(task, (origin) => this.#options.isTrusted(task, origin));
    }
    for (const [file, { sizeBytes, untilMs }] of this.#fetched) {
      if (nowMs < untilMs) tell(file, sizeBytes);
      else this.#fetched.delete(file);
    }
    this.#options.members.tellFetching(news);
  }

  /** Tells a new member at the next look, not in a second: otherwise it would fetch the same NARs. */
  readonly #onMember = (): void => this.#told.clear();

  /** Number of answering members. */
  get size(): number {
    return this.#download.size;
  }

  /** True if members have not announced their files yet. */
  get isAsking(): boolean {
    return this.#download.isAsking;
  }

  /** Ends all downloads. Keeps their bytes. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#options.members.off('member', this.#onMember);
    this.#arriving.endAll();
    this.#uncompressed[Symbol.dispose]();
    await this.#download[Symbol.asyncDispose]();
  }

  async #open(file: FileHash): Promise<PartialNar> {
    const task = this.#tasks.get(file);
    const partial = task && (await this.#options.files.open(task));
    if (partial === undefined) throw new TypeError(`${file} is no file that is fetched`);
    return partial;
  }

  #with(file: FileHash, act: (task: Task) => void): void {
    const task = this.#tasks.get(file);
    if (task !== undefined) act(task);
  }
}
