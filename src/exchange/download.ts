import { copyInto, giveBack, takeBuffer } from '../bytes/lent-buffers.ts';
import { isSilent, noteSilence } from '../discovery/peer-table.ts';
import type { Line } from '../discovery/line.ts';
import type { FileHash } from '../nix/brands.ts';
import { DownloadMemory } from './download-memory.ts';
import { DownloadSource } from './download-source.ts';
import type { FileContext, FileOptions } from './file-context.ts';
import { FileDownload } from './file-download.ts';
import type { Member, Outcome } from './member.ts';
import type { Members } from './members.ts';
import { SILENT_MS } from './pace.ts';
import type { Claim } from './their-fetches.ts';
import { Picker } from './picker.ts';
import type { DownloadFile, Sink } from './sink.ts';
import type { Asked, Unit } from './unit.ts';

/** Time at the start in which others may be about to come. All would then request the same from the seeder. */
const OPENING_MS = 500;
const LOOK_EVERY_MS = 250;
export interface DownloadOptions extends FileOptions {
  readonly members: Members;
  readonly line: Line;
  /** Called with payload from a member. */
  readonly onBytes: (member: Member, bytes: number) => void;
  /** Called when a member has lied. It is already banned. */
  readonly onLie: (member: Member, file: FileHash) => void;
  /** Called when a member has something new or has disconnected: other members may now have a file, or none. */
  readonly onNews: () => void;
}

/** Another process that wants a file. */
export interface Rival {
  /** Its peer id. */
  readonly id: string;
  /** Its claim, if it fetches the file from an upstream. */
  readonly claim: Claim | undefined;
}

/**
 * Fetches files from members as if all files were one torrent. The {@link Picker} chooses which member is asked for
 * what. Each member is used from the moment at which it is known to have something.
 */
export class Download implements AsyncDisposable {
  readonly #options: DownloadOptions;
  readonly #picker = new Picker();
  readonly #sources = new Map<Member, DownloadSource>();
  readonly #memory = new DownloadMemory();
  readonly #files = new Map<FileHash, FileDownload>();
  readonly #context: FileContext;
  readonly #requests = new Map<Asked, { readonly stop: AbortController; bytes: Uint8Array | undefined }>();
  readonly #timer: NodeJS.Timeout;
  readonly #beganAtMs = performance.now();
  readonly #soon = new Set<DownloadSource>();
  #isClosed = false;

  constructor(options: DownloadOptions) {
    this.#options = options;
    this.#context = {
      options,
      picker: this.#picker,
      memory: this.#memory,
      sources: this.#sources,
      stop: (asked) => this.#requests.get(asked)?.stop.abort(NOT_NEEDED),
      onLie: (source, file) => this.#ban(source, file),
      onFree: () => this.#pumpAll(),
    };
    const { members } = options;
    for (const member of members.open) this.#onMember(member);
    members.on('member', this.#onMember);
    members.on('gone', this.#onGone);
    members.on('have', this.#onNews);
    members.on('piece', this.#onNews);
    this.#timer = setInterval(() => this.#look(), LOOK_EVERY_MS).unref();
  }

  /** Starts to fetch files. @param sinkOf sinks of files of which a part is here */
  add(files: readonly DownloadFile[], sinkOf: ReadonlyMap<FileHash, Sink> = new Map()): void {
    for (const wanted of files) {
      const { file } = wanted;
      const download = new FileDownload(wanted, this.#context, sinkOf.get(file), this.#files.get(file));
      this.#picker.remove(file);
      this.#files.set(file, download);
      download.start();
    }
    this.#options.members.want(files);
    this.#picker.look();
    this.#pumpAll();
  }

  /** Stops requesting a file, but still learns who has it. Resolves when no more of it is being written. */
  async pause(file: FileHash): Promise<void> {
    await this.#files.get(file)?.pause();
  }

  /** Removes files: they are here, or no longer needed. */
  async drop(file: FileHash): Promise<void> {
    await this.pause(file);
    this.#files.delete(file);
    this.#options.members.unwant([file]);
  }

  /** Returns true if an answering member has a missing part of a file. */
  isAtHand(file: FileHash): boolean {
    return this.#picker.isAtHand(file);
  }

  /** Returns true if a member has the whole file. */
  hasHolder(file: FileHash): boolean {
    for (const source of this.#sources.values()) if (!source.isSilent && source.has(file) === 'whole') return true;
    return false;
  }

  /** Returns the neighbours that want a file or fetch it, one per host: more connections give a host no more weight. */
  rivals(file: FileHash): Rival[] {
    const byHost = new Map<string, Rival>();
    for (const source of this.#sources.values()) {
      if (!source.isNeighbour) continue;
      const claim = source.fetching(file); // it no longer wants the file once it has it and checks it
      if (claim === undefined && (source.isSilent || !source.wants(file))) continue;
      const { peerId, host } = source.member;
      const rival = { id: peerId, claim };
      const known = byHost.get(host);
      if (known === undefined || isBefore(rival, known)) byHost.set(host, rival);
    }
    return [...byHost.values()];
  }

  /** Number of members that are connected and answer. */
  get size(): number {
    let count = 0;
    for (const source of this.#sources.values()) if (!source.isSilent) count++;
    return count;
  }

  /** True if members have not said yet what they have. */
  get isAsking(): boolean {
    for (const { member, isSilent: isLeft } of this.#sources.values()) if (!isLeft && !member.isKnown) return true;
    return false;
  }

  /**
   * Records that the SHA-256 of a complete file is right. Members that sent other bytes in an earlier attempt have
   * lied.
   */
  confirm(file: FileHash): void {
    this.#files.get(file)?.confirm();
  }

  /**
   * Records that the SHA-256 of a complete file is wrong although no piece is known to be wrong. If one member sent all
   * of it, it has lied. If several did, one of them has lied: the next attempt comes from a single member, and
   * comparing the two shows which.
   *
   * @param isMixed true if some of it came from other sources
   */
  doubt(file: FileHash, isMixed: boolean): void {
    this.#files.get(file)?.doubt(isMixed);
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
    const files = [...this.#files.keys()];
    await Promise.all(files.map((file) => this.pause(file)));
    members.unwant(files);
  }

  readonly #onMember = (member: Member): void => {
    const source = new DownloadSource(member);
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
    for (const { proofs } of this.#files.values()) proofs.onGone(source);
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
    for (const source of this.#sources.values()) {
      const { member } = source;
      const isLine = member.peer.bytes > 0 && this.#options.line.isSilent(); // then the line is to blame
      if (member.silentMs <= SILENT_MS || isLine || isSilent(member.peer)) continue;
      noteSilence(member.peer);
      this.#options.onNews();
    }
    for (const file of this.#files.values()) {
      const replaced = file.proofs.replaceStalled(this.#sources.values());
      if (replaced === undefined) continue;
      for (const [{ source, unit }, { stop }] of this.#requests)
        if (source === replaced && unit.file === file) stop.abort(NOT_NEEDED);
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
    const isOpening = nowMs - this.#beganAtMs < OPENING_MS;
    for (const source of sources) {
      if (!source.member.isOpen || nowMs < source.notBeforeMs || this.#memory.isFull) continue;
      for (const choice of this.#picker.choices(source, { isOpening, mayWait: this.#mayWait })) {
        if (choice.kind === 'get') void this.#get(source, choice.unit);
        else if (nowMs >= source.notAnyBeforeMs) void this.#any(source, choice.units, choice.bytes);
        else break;
        if (!source.member.isOpen || this.#memory.isFull) break;
      }
    }
  }

  /** Returns false for a range that would have to wait, while many bytes wait for earlier ranges or for the disk. */
  readonly #mayWait = ({ file: { file }, from }: Unit): boolean => {
    return !this.#memory.isFullAhead || from === (this.#files.get(file)?.nextByte ?? 0);
  };

  async #get(source: DownloadSource, unit: Unit): Promise<void> {
    const asked = this.#begin(source, unit);
    const range = { file: unit.file.file, from: unit.from, length: unit.length };
    const { signal } = this.#requests.get(asked)!.stop;
    const outcome = source.member.get(range, (bytes) => this.#onBytes(asked, bytes), signal);
    await this.#onEnd(asked, await outcome.catch(() => cannotAsk(source)));
  }

  async #any(source: DownloadSource, units: readonly Unit[], bytes: number): Promise<void> {
    const ranges = units.map(({ file, from, length }) => ({ file: file.file, from, length }));
    const stop = new AbortController();
    let asked: Asked | undefined;
    this.#picker.offer(source, bytes);
    const picked = (index: number): void => {
      this.#picker.unoffer(source, bytes);
      const unit = units[index]!;
      const isNeeded = this.#picker.isMissing(unit) && unit.from === ranges[index]!.from;
      if (!isNeeded) stop.abort(NOT_NEEDED);
      else asked = this.#begin(source, unit, stop);
    };
    const onBytes = (part: Uint8Array): void => void (asked !== undefined && this.#onBytes(asked, part));
    const asking = source.member.any(ranges, { picked, bytes: onBytes }, stop.signal);
    const outcome = await asking.catch(() => cannotAsk(source));
    if (asked !== undefined) {
      await this.#onEnd(asked, outcome);
      return;
    }
    if (!stop.signal.aborted) {
      this.#picker.unoffer(source, bytes);
      source.refuseAny();
    }
    this.#pumpSoon(source);
  }

  #begin(source: DownloadSource, unit: Unit, stop = new AbortController()): Asked {
    const asked = this.#picker.begin(source, unit);
    this.#requests.set(asked, { stop, bytes: undefined });
    this.#memory.take(asked.lengthBytes);
    return asked;
  }

  #onBytes(asked: Asked, part: Uint8Array): void {
    const request = this.#requests.get(asked);
    if (request === undefined) return;
    request.bytes ??= takeBuffer(asked.lengthBytes).subarray(0, asked.lengthBytes);
    copyInto(request.bytes, part, asked.receivedBytes);
    asked.receivedBytes += part.length;
    this.#options.onBytes((asked.source as DownloadSource).member, part.length);
  }

  async #onEnd(asked: Asked, outcome: Outcome): Promise<void> {
    const source = asked.source as DownloadSource;
    const { file } = asked.unit.file;
    const bytes = this.#requests.get(asked)?.bytes;
    this.#requests.delete(asked);
    this.#pumpSoon(source);
    if (outcome !== 'complete' && outcome !== 'closed' && outcome !== 'cancelled') source.refuse(file, outcome);
    const download = this.#files.get(file);
    if (download !== undefined && bytes !== undefined)
      await download.receive({ source, asked, bytes }, outcome === 'complete');
    else {
      if (bytes !== undefined) giveBack(bytes);
      this.#picker.end(asked, false);
    }
    if (this.#memory.free(asked.lengthBytes)) this.#pumpAll();
  }

  #ban(source: DownloadSource, file: FileHash): void {
    const { member } = source;
    if (member.peer.banned !== undefined) return;
    this.#options.members.ban(member, 'sent wrong bytes of a NAR');
    this.#options.onLie(member, file);
  }
}

/** One error for all aborts: an abort without a reason makes an error with a stack each time. */
const NOT_NEEDED = new Error('the range is no longer needed');

/**
 * Returns true if `one` comes before `other` among the processes of a host: the one that holds more of the file,
 * otherwise the one with the smaller id.
 */
function isBefore(one: Rival, other: Rival): boolean {
  const difference = (one.claim?.heldBytes ?? -1) - (other.claim?.heldBytes ?? -1);
  return difference === 0 ? one.id < other.id : difference > 0;
}

/**
 * Handles an error of ours without ending the process: disconnects from the member, which is connected to again later.
 */
function cannotAsk({ member }: DownloadSource): Outcome {
  member.drop();
  return 'closed';
}
