import { giveBack } from '../../bytes/lent-buffers.ts';
import { isSilent, noteSilence } from '../../discovery/peer-table.ts';
import type { Line } from '../../discovery/line.ts';
import type { FileHash } from '../../nix/brands.ts';
import { DownloadMemory } from './download-memory.ts';
import { DownloadSource, type Hosts } from './download-source.ts';
import type { FileContext, FileOptions } from './file-context.ts';
import { FileDownload, type ReadRange } from './file-download.ts';
import type { Member } from '../member.ts';
import type { Members } from '../members.ts';
import { Picker } from './picker.ts';
import { RangeRequests, type Arrived } from './range-requests.ts';
import { rivalsOf, type Rival } from './rivals.ts';
import type { DownloadFile, Sink } from './sink.ts';
import { mayGiveWhole, type Unit } from './unit.ts';

const LOOK_EVERY_MS = 250;
/**
 * Longest debt to our own rate limit, in milliseconds: with more, no NAR is requested. Narinfos and the bytes before them
 * do not wait for the limit, so they make debts.
 */
const MAX_DEBT_MS = 1_000;

export interface DownloadOptions extends FileOptions {
  readonly members: Members;
  readonly line: Line;
  /** Called with payload of a file from a member. */
  readonly onBytes: (member: Member, bytes: number, file: FileHash) => void;
  /** Called when a member has lied. It is already banned. */
  readonly onLie: (member: Member, file: FileHash) => void;
  /** Called when a member has something new or has disconnected: other members may now have a file, or none. */
  readonly onNews: () => void;
  /** Called when a member has said of all wanted files whether it has them. */
  readonly onKnown: () => void;
}

/**
 * Fetches files from members as if all files were one torrent. The {@link Picker} chooses the member and the ranges of
 * each request. A member is used as soon as it is known to have something.
 */
export class Download implements AsyncDisposable {
  readonly #options: DownloadOptions;
  readonly #picker = new Picker();
  readonly #sources = new Map<Member, DownloadSource>();
  readonly #hosts: Hosts = { misleading: new Set(), proven: new Set() };
  readonly #memory = new DownloadMemory();
  readonly #files = new Map<FileHash, FileDownload>();
  readonly #context: FileContext;
  readonly #requests: RangeRequests;
  readonly #timer: NodeJS.Timeout;
  readonly #soon = new Set<DownloadSource>();
  readonly #confirming = new Set<Promise<void>>();
  #isClosed = false;

  constructor(options: DownloadOptions) {
    this.#options = options;
    this.#requests = new RangeRequests({
      picker: this.#picker,
      memory: this.#memory,
      onBytes: options.onBytes,
      onArrived: this.#onArrived,
      onIdle: (source) => this.#pumpSoon(source),
      onRoom: () => this.#pumpAll(),
    });
    this.#context = {
      options,
      picker: this.#picker,
      memory: this.#memory,
      requests: this.#requests,
      sources: this.#sources,
      onLie: (source, file) => this.#ban(source, file),
      onFree: () => this.#pumpAll(),
    };
    const { members } = options;
    for (const member of members.open) this.#onMember(member);
    members.on('member', this.#onMember);
    members.on('gone', this.#onGone);
    members.on('have', this.#onNews);
    members.on('piece', this.#onNews);
    members.on('known', this.#options.onKnown);
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  /** Starts to fetch files. @param sinkOf sinks of files of which a part is here */
  add(files: readonly DownloadFile[], sinkOf: ReadonlyMap<FileHash, Sink> = new Map()): void {
    for (const wanted of files) {
      const { file } = wanted;
      const before = this.#files.get(file);
      before?.stop();
      const download = new FileDownload(wanted, this.#context, sinkOf.get(file), before);
      this.#files.set(file, download);
      download.start();
    }
    this.#options.members.want(files);
    this.#picker.look();
    this.#pumpAll();
  }

  /**
   * Stops requesting a file, but still records which members have it. Resolves once no part of it is being written.
   */
  async pause(file: FileHash): Promise<void> {
    await this.#files.get(file)?.pause();
  }

  /** Removes files: they are here, or no longer needed. */
  async drop(file: FileHash): Promise<void> {
    await this.pause(file);
    this.#files.delete(file);
    this.#options.members.unwant([file]);
  }

  /** Requests a file before all others from now on. */
  hurry(file: FileHash): void {
    this.#picker.hurry(file);
    this.#pumpAll();
  }

  /** Returns true if an answering member has a missing part of a file. */
  isAtHand(file: FileHash): boolean {
    return this.#files.get(file)?.isRenouncing === true || this.#picker.isAtHand(file);
  }

  /** Returns true if a member that may be asked for it has the whole file. */
  hasHolder(file: FileHash): boolean {
    const download = this.#files.get(file) ?? {};
    for (const source of this.#sources.values())
      if (!source.isSilent && source.has(file) === 'whole' && mayGiveWhole(source, download)) return true;
    return false;
  }

  /** Returns true if a member has lost a file that it had, and no other one has it or may get it. */
  isLost(file: FileHash): boolean {
    let isLost = false;
    for (const source of this.#sources.values()) {
      if (source.hasLost(file)) isLost = true;
      else if (!source.member.isKnown || source.has(file) !== undefined || source.wants(file)) return false;
    }
    return isLost;
  }

  /** Returns the neighbours that want a file or fetch it. */
  rivals(file: FileHash): Rival[] {
    const arrival = this.#files.get(file)?.arrival;
    const isBacked = (host: string): boolean => this.#hosts.proven.has(host) || arrival?.isFrom(host) === true;
    return rivalsOf(this.#sources.values(), file, isBacked);
  }

  /** Returns the bytes a second at which a file comes from members, or came when it was last requested from them. */
  arrivalRate(file: FileHash): number | undefined {
    return this.#files.get(file)?.arrival.bytesPerSec;
  }

  /** Number of members that are connected and answer. */
  get size(): number {
    let count = 0;
    for (const source of this.#sources.values()) if (!source.isSilent) count++;
    return count;
  }

  /** True if members have not said yet which files they have. */
  get isAsking(): boolean {
    for (const { member, isSilent: isLeft } of this.#sources.values()) if (!isLeft && !member.isKnown) return true;
    return false;
  }

  /**
   * Records that the SHA-256 of a complete file is right. Members that sent other bytes in an earlier attempt have
   * lied.
   *
   * @param read reads the right bytes. If it fails or is left out, no liar is found
   */
  async confirm(file: FileHash, read?: ReadRange): Promise<void> {
    const confirming = Promise.resolve(this.#files.get(file)?.confirm(read)).catch(() => undefined);
    this.#confirming.add(confirming);
    await confirming.finally(() => this.#confirming.delete(confirming));
  }

  /**
   * Records that the SHA-256 of a complete file is wrong although no piece is known to be wrong. If one member sent all
   * of it, it has lied. If several did, one of them has lied: the next attempt comes from a single member, and
   * {@link confirm} finds the liar. A member that gave parts while it was fetching the file may have been misled
   * itself: it is not banned, but asked for whole files only.
   *
   * @param isMixed true if some of it came from other sources
   * @returns true if a liar was found and banned
   */
  doubt(file: FileHash, isMixed: boolean): boolean {
    return this.#files.get(file)?.doubt(isMixed) ?? false;
  }

  /** Stops all requests. Keeps the beginnings of ranges. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { members } = this.#options;
    this.#isClosed = true;
    clearInterval(this.#timer);
    members.off('member', this.#onMember);
    members.off('gone', this.#onGone);
    members.off('have', this.#onNews);
    members.off('piece', this.#onNews);
    members.off('known', this.#options.onKnown);
    const files = [...this.#files.keys()];
    await Promise.all(files.map((file) => this.pause(file)));
    await Promise.all(this.#confirming);
    members.unwant(files);
  }

  readonly #onMember = (member: Member): void => {
    const source = new DownloadSource(member, this.#hosts);
    this.#sources.set(member, source);
    this.#picker.addSource(source);
    this.#picker.look();
    this.#pumpSoon(source);
  };

  readonly #onGone = (member: Member): void => {
    const source = this.#sources.get(member);
    if (source === undefined) return;
    this.#sources.delete(member);
    this.#picker.removeSource(source);
    for (const { proofs } of this.#files.values()) proofs.onGone(source, this.#sources.values());
    this.#pumpAll();
    this.#options.onNews();
  };

  readonly #onNews = (member: Member, file: FileHash): void => {
    const source = this.#sources.get(member);
    source?.onNews(file);
    if (source !== undefined) this.#pumpSoon(source);
    this.#options.onNews();
  };

  #look(): void {
    this.#options.members.lookAtSilences();
    for (const source of this.#sources.values()) {
      const { member } = source;
      const isLine = member.peer.bytes > 0 && this.#options.line.isSilent(); // then the line is to blame
      if (!member.isLate || isLine || isSilent(member.peer)) continue;
      noteSilence(member.peer);
      this.#options.onNews();
    }
    for (const file of this.#files.values()) {
      const replaced = file.proofs.replaceStalled(this.#sources.values());
      if (replaced !== undefined) this.#requests.stopAll(replaced, file);
    }
    this.#picker.look();
    this.#pumpAll();
  }

  #pumpAll(): void {
    for (const source of this.#sources.values()) this.#pumpSoon(source);
  }

  #pumpSoon(source: DownloadSource): void {
    if (this.#soon.size === 0) setImmediate(() => this.#pump());
    this.#soon.add(source);
  }

  #pump(): void {
    const sources = [...this.#soon];
    this.#soon.clear();
    if (this.#isClosed) return;
    const nowMs = performance.now();
    for (const source of sources) {
      const { member, notBeforeMs } = source;
      if (!member.isOpen || nowMs < notBeforeMs || member.debtMs > MAX_DEBT_MS || this.#memory.isFull) continue;
      for (const choice of this.#picker.choices(source, { mayWait: this.#mayWait })) {
        if (choice.kind === 'get') void this.#requests.get(source, choice.unit);
        else if (nowMs >= source.notAnyBeforeMs) void this.#requests.any(source, choice.units, choice.bytes);
        else break;
        if (!source.member.isOpen || this.#memory.isFull) break;
      }
    }
  }

  /** Returns false for a range that would have to wait, while many bytes wait for earlier ranges or for the disk. */
  readonly #mayWait = ({ file: { file }, from }: Unit): boolean =>
    !this.#memory.isFullAhead || from === (this.#files.get(file)?.nextByte ?? 0);

  readonly #onArrived = async (arrived: Arrived, isWhole: boolean): Promise<void> => {
    const { asked, bytes } = arrived;
    const file = this.#files.get(asked.unit.file.file);
    if (file !== undefined) return file.receive(arrived, isWhole);
    giveBack(bytes);
    this.#picker.end(asked, false);
  };

  #ban(source: DownloadSource, file: FileHash): void {
    const { member } = source;
    if (member.peer.banned !== undefined) return;
    this.#options.members.ban(member, 'sent wrong bytes of a NAR');
    for (const download of this.#files.values()) download.renounce(source);
    this.#options.onLie(member, file);
  }
}
