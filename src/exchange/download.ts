import { sha1 } from '../bytes/hash-thread.ts';
import { copyInto, giveBack, takeBuffer } from '../bytes/lent-buffers.ts';
import { isSilent, noteGoodBytes, noteSilence } from '../discovery/peer-table.ts';
import type { Line } from '../discovery/line.ts';
import type { FileHash } from '../nix/brands.ts';
import { PIECE_HASH_BYTES, pieceLengthOf } from '../torrent/canonical.ts';
import { DownloadSource } from './download-source.ts';
import type { Member, Outcome, WantedFile } from './member.ts';
import type { Members } from './members.ts';
import { SILENT_MS } from './pace.ts';
import type { Claim } from './their-fetches.ts';
import { Picker } from './picker.ts';
import { Proofs } from './proofs.ts';
import type { Asked, PickFile, Unit } from './unit.ts';

/** Time at the start in which others may be about to come. All would then request the same from the seeder. */
const OPENING_MS = 500;
const LOOK_EVERY_MS = 250;
/**
 * Limit on bytes in memory: in flight, being checked, or waiting for the disk. Above it nothing more is requested.
 * Including bytes that wait for earlier ranges, it is at most twice as much.
 */
const MAX_BYTES_IN_MEMORY = 32 * 1024 * 1024;
/** Seconds within which a file must arrive for the SHA-1 checks of its pieces to be left out. */
const SOON_S = 2;
/** Size from which the beginning of a range is kept. */
const KEPT_BYTES = 16 * 1024;

/** A range of bytes, `[from, to)`. */
interface Stretch {
  readonly from: number;
  readonly to: number;
}

/** The target of a file's bytes. */
export interface Sink {
  missing(): readonly Stretch[];
  /**
   * Writes a whole piece. Takes over the buffer of a file of one piece.
   *
   * @param isChecked true if its SHA-1 was checked. Default: true
   */
  putPiece(index: number, bytes: Uint8Array, origin: string, isChecked?: boolean): Promise<void>;
  /** Writes bytes that follow a held one. */
  write(offset: number, chunks: readonly Uint8Array[], origin: string): Promise<void>;
  read(offset: number, length: number): Promise<Uint8Array>;
}

/** A file to fetch from members. */
export interface DownloadFile extends WantedFile {
  readonly sizeBytes: number;
  /** SHA-1 of all pieces, one after another. Undefined if no hash map has them. */
  readonly pieces?: Uint8Array | undefined;
}

export interface DownloadOptions {
  readonly members: Members;
  readonly line: Line;
  /**
   * True if pieces are given only to members that want them. Then the SHA-1 of pieces is not checked if the SHA-256 of
   * the whole file follows in a moment. Default: false.
   */
  readonly leavesUnchecked?: boolean;
  /** Opens the sink of a file. Called once for each, before its first byte is written. */
  readonly open: (file: FileHash) => Promise<Sink>;
  /** Called with payload from a member. */
  readonly onBytes: (member: Member, bytes: number) => void;
  /** Called with the number of bytes that are right. */
  readonly onVerified: (bytes: number) => void;
  /** Called with a piece that is right and is in its sink. */
  readonly onPiece: (file: FileHash, index: number) => void;
  /** Called when a member has lied. It is already banned. */
  readonly onLie: (member: Member, file: FileHash) => void;
  /** Called when all of a file is in its sink. */
  readonly onComplete: (file: FileHash) => void;
  /** Called if a sink fails. The file is no longer requested. */
  readonly onFailure: (file: FileHash, error: unknown) => void;
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

/** A range of a file without piece hashes that waits for earlier ones. */
interface Ahead {
  readonly bytes: Uint8Array;
  readonly asked: Asked;
  readonly sha1: string;
}

interface State {
  readonly wanted: DownloadFile;
  readonly pick: PickFile;
  sink: Promise<Sink> | undefined;
  /** The sink. Undefined until it is open. */
  opened: Sink | undefined;
  readonly proofs: Proofs<DownloadSource>;
  /** Ranges of a file without piece hashes that came early, by their first byte. */
  readonly ahead: Map<number, Ahead>;
  /** Running writes and checks. */
  readonly work: Set<Promise<void>>;
  /** Running writes of beginnings of ranges. A range has one at a time. */
  readonly keeping: Map<Unit, Promise<void>>;
  /** Number of pieces that are being written. */
  unwritten: number;
  hasFailed: boolean;
}

/**
 * Fetches files from members as if all files were one torrent. The {@link Picker} chooses which member is asked for
 * what. Each member is used from the moment at which it is known to have something.
 */
export class Download implements AsyncDisposable {
  readonly #options: DownloadOptions;
  readonly #picker = new Picker();
  readonly #sources = new Map<Member, DownloadSource>();
  readonly #files = new Map<FileHash, State>();
  readonly #requests = new Map<Asked, { readonly stop: AbortController; bytes: Uint8Array | undefined }>();
  readonly #timer: NodeJS.Timeout;
  readonly #beganAtMs = performance.now();
  readonly #soon = new Set<DownloadSource>();
  #bytesInMemory = 0;
  #bytesAhead = 0;
  #isClosed = false;

  constructor(options: DownloadOptions) {
    this.#options = options;
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
      const { file, sizeBytes, pieces } = wanted;
      const unitBytes = pieceLengthOf(sizeBytes);
      const isCheckable = pieces !== undefined || sizeBytes <= unitBytes;
      const sink = sinkOf.get(file);
      const known = this.#files.get(file);
      const goesOn = sink !== undefined && known?.opened === sink; // the senders of its bytes are known
      const proofs = goesOn ? known.proofs : (known?.proofs.forOtherBytes() ?? new Proofs<DownloadSource>(file));
      proofs.noteProgress();
      const pick: PickFile = {
        file,
        sizeBytes,
        unitBytes,
        isCheckable,
        get only() {
          return proofs.only;
        },
      };
      this.#picker.remove(file);
      this.#files.set(file, {
        wanted,
        pick,
        sink: sink === undefined ? undefined : Promise.resolve(sink),
        opened: sink,
        proofs,
        ahead: new Map(),
        work: new Set(),
        keeping: new Map(),
        unwritten: 0,
        hasFailed: false,
      });
      this.#picker.add(pick, sink?.missing() ?? [{ from: 0, to: sizeBytes }]);
    }
    this.#options.members.want(files);
    this.#picker.look();
    this.#pumpAll();
  }

  /** Stops requesting a file, but still learns who has it. Resolves when no more of it is being written. */
  async pause(file: FileHash): Promise<void> {
    const state = this.#files.get(file);
    const work = state?.work ?? new Set();
    for (const asked of this.#picker.remove(file)) this.#requests.get(asked)?.stop.abort(NOT_NEEDED);
    await new Promise(setImmediate); // beginnings are kept first
    while (work.size > 0) await Promise.allSettled(work);
    for (const one of state?.ahead.values() ?? []) {
      this.#forgetAhead(state!, one);
      giveBack(one.bytes);
    }
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
    const state = this.#files.get(file);
    if (state === undefined) return;
    const { proofs, liars } = state.proofs.confirm();
    for (const { origin, lengthBytes } of proofs) {
      noteGoodBytes(origin.member.peer, lengthBytes);
      this.#options.onVerified(lengthBytes);
    }
    for (const liar of liars) this.#ban(liar, file);
  }

  /**
   * Records that the SHA-256 of a complete file is wrong although no piece is known to be wrong. If one member sent all
   * of it, it has lied. If several did, one of them has lied: the next attempt comes from a single member, and
   * comparing the two shows which.
   *
   * @param isMixed true if some of it came from other sources
   */
  doubt(file: FileHash, isMixed: boolean): void {
    const liar = this.#files.get(file)?.proofs.doubt(isMixed, this.#sources.values());
    if (liar !== undefined) this.#ban(liar, file);
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
    for (const { proofs, pick } of this.#files.values()) {
      const replaced = proofs.replaceStalled(this.#sources.values());
      if (replaced === undefined) continue;
      for (const [{ source, unit }, { stop }] of this.#requests)
        if (source === replaced && unit.file === pick) stop.abort(NOT_NEEDED);
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
      if (!source.member.isOpen || nowMs < source.notBeforeMs || this.#isMemoryFull) continue;
      for (const choice of this.#picker.choices(source, { isOpening, mayWait: this.#mayWait })) {
        if (choice.kind === 'get') void this.#get(source, choice.unit);
        else if (nowMs >= source.notAnyBeforeMs) void this.#any(source, choice.units, choice.bytes);
        else break;
        if (!source.member.isOpen || this.#isMemoryFull) break;
      }
    }
  }

  get #isMemoryFull(): boolean {
    return this.#bytesInMemory >= MAX_BYTES_IN_MEMORY;
  }

  /** Returns false for a range that would have to wait, while many bytes wait for earlier ranges or for the disk. */
  readonly #mayWait = ({ file: { file }, from }: Unit): boolean => {
    if (this.#bytesInMemory + this.#bytesAhead < MAX_BYTES_IN_MEMORY) return true;
    return from === (this.#files.get(file)?.opened?.missing()[0]?.from ?? 0);
  };

  async #get(source: DownloadSource, unit: Unit): Promise<void> {
    const asked = this.#begin(source, unit);
    const range = { file: unit.file.file, from: unit.from, length: unit.length };
    const { signal } = this.#requests.get(asked)!.stop;
    const outcome = source.member.get(range, (bytes) => this.#onBytes(asked, bytes), signal);
    this.#onEnd(asked, await outcome.catch(() => cannotAsk(source)));
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
      this.#onEnd(asked, outcome);
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
    this.#bytesInMemory += asked.lengthBytes;
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

  #onEnd(asked: Asked, outcome: Outcome): void {
    const source = asked.source as DownloadSource;
    const { unit } = asked;
    const { file } = unit.file;
    const bytes = this.#requests.get(asked)?.bytes;
    this.#requests.delete(asked);
    this.#pumpSoon(source);
    const state = this.#files.get(file);
    const isWhole = outcome === 'complete' && bytes !== undefined;
    if (outcome !== 'complete' && outcome !== 'closed' && outcome !== 'cancelled') source.refuse(file, outcome);
    const isNeeded = !unit.isDone && unit.requests.every((one) => one === asked);
    if (state === undefined || bytes === undefined || (!isWhole && (!isNeeded || asked.receivedBytes < KEPT_BYTES))) {
      this.#bytesInMemory -= asked.lengthBytes;
      if (bytes !== undefined) giveBack(bytes);
      if (!isWhole) this.#picker.end(asked, false);
      return;
    }
    const work = (isWhole ? this.#take(state, asked, bytes) : this.#keepBeginning(state, asked, bytes))
      .catch((error: unknown) => this.#fail(state, error))
      .finally(() => {
        this.#bytesInMemory -= asked.lengthBytes;
        state.work.delete(work);
        if (this.#bytesInMemory + asked.lengthBytes >= MAX_BYTES_IN_MEMORY) this.#pumpAll();
      });
    state.work.add(work);
  }

  /** Checks a range that has arrived, and writes it. */
  async #take(state: State, asked: Asked, bytes: Uint8Array): Promise<void> {
    const { unit } = asked;
    const source = asked.source as DownloadSource;
    const { file } = unit.file;
    if (!this.#picker.isMissing(unit)) {
      giveBack(bytes); // another member was faster
      return;
    }
    const { pieces, sizeBytes } = state.wanted;
    const { address } = source.member.peer;
    if (pieces === undefined) {
      const isOne = asked.lengthBytes === sizeBytes;
      const digest = isOne ? '' : await sha1(bytes);
      if (!(await this.#settle(state, asked))) return;
      if (isOne) {
        await (await this.#sink(state)).putPiece(0, bytes, address);
        noteProof(state, asked, digest);
      } else await this.#writeInOrder(state, { bytes, asked, sha1: digest });
    } else {
      const start = unit.index * unit.file.unitBytes;
      const before = asked.from > start ? await (await this.#sink(state)).read(start, asked.from - start) : undefined;
      const piece = before === undefined ? bytes : Buffer.concat([before, bytes]);
      const isChecked = before !== undefined || !this.#isSoonWhole(state, source);
      if (isChecked && (await sha1(piece)) !== sha1Of(pieces, unit.index)) {
        giveBack(bytes);
        if (before === undefined) this.#ban(source, file);
        unit.from = start; // either of two senders may have lied: the next one sends all of it
        this.#picker.end(asked, false);
        return;
      }
      if (isChecked) {
        noteGoodBytes(source.member.peer, bytes.length);
        this.#options.onVerified(bytes.length);
      }
      if (!(await this.#settle(state, asked))) return;
      if (!isChecked) noteProof(state, asked, '');
      state.unwritten++;
      await (await this.#sink(state)).putPiece(unit.index, piece, address, isChecked);
      state.unwritten--;
      if (piece !== bytes || sizeBytes > unit.file.unitBytes) giveBack(bytes); // the sink takes over a whole file
      if (isChecked) this.#options.onPiece(file, unit.index);
    }
    if (this.#picker.isComplete(file) && state.ahead.size === 0 && state.unwritten === 0) {
      this.#picker.remove(file);
      this.#options.onComplete(file);
    }
  }

  /**
   * Returns true if no member needs a piece before the whole file is checked: all comes from this member, in a moment,
   * and no other wants it. The SHA-256 of the file then shows a wrong piece, and pieces are checked from then on.
   */
  #isSoonWhole({ wanted: { file, sizeBytes }, pick, proofs }: State, source: DownloadSource): boolean {
    if (this.#options.leavesUnchecked !== true || proofs.misfits) return false;
    if (sizeBytes <= pick.unitBytes) return true;
    if (sizeBytes > (source.rate ?? 0) * SOON_S) return false;
    for (const other of this.#sources.values())
      if (other !== source && (other.wants(file) || other.has(file) !== undefined)) return false;
    return true;
  }

  /** Records that a unit is here. @returns false if it was already here, or is no longer wanted */
  async #settle(state: State, asked: Asked): Promise<boolean> {
    while (state.keeping.has(asked.unit)) await state.keeping.get(asked.unit); // it would overwrite checked bytes
    if (!this.#picker.isMissing(asked.unit)) return false;
    state.proofs.noteProgress();
    for (const other of this.#picker.end(asked, true)) this.#requests.get(other)?.stop.abort(NOT_NEEDED);
    return true;
  }

  async #writeInOrder(state: State, arrived: Ahead): Promise<void> {
    state.ahead.set(arrived.asked.from, arrived);
    this.#bytesAhead += arrived.asked.lengthBytes;
    const sink = await this.#sink(state);
    for (;;) {
      const from = sink.missing()[0]?.from ?? Infinity;
      const next = [...state.ahead.values()].find((one) => one.asked.from <= from && from < one.asked.unit.to);
      if (next === undefined) return;
      this.#forgetAhead(state, next);
      const origin = (next.asked.source as DownloadSource).member.peer.address;
      await sink.write(from, [next.bytes.subarray(from - next.asked.from)], origin);
      noteProof(state, next.asked, next.sha1);
      giveBack(next.bytes);
    }
  }

  #forgetAhead({ ahead }: State, { asked: { from, lengthBytes } }: Ahead): void {
    if (ahead.delete(from)) this.#bytesAhead -= lengthBytes;
  }

  /** Keeps the beginning of a range that its member does not complete. Another member continues after it. */
  async #keepBeginning(state: State, asked: Asked, bytes: Uint8Array): Promise<void> {
    const { unit } = asked;
    const sink = await this.#sink(state);
    const to = Math.min(asked.from + asked.receivedBytes, unit.to - 1); // otherwise there would be nothing to request
    // Two members with the same request may disconnect at once: the first beginning is kept.
    const mayKeep = this.#picker.isMissing(unit) && !state.keeping.has(unit);
    const { from } = unit;
    if (mayKeep && asked.from <= from && from < to && sink.missing().some((range) => range.from === from)) {
      const source = asked.source as DownloadSource;
      const part = bytes.subarray(from - asked.from, to - asked.from);
      const keeping = sink.write(from, [part], source.member.peer.address);
      state.keeping.set(
        unit,
        keeping.catch(() => undefined),
      );
      await keeping.finally(() => state.keeping.delete(unit));
      if (unit.from === from) unit.from = to;
      state.proofs.noteBegun(source);
    }
    giveBack(bytes);
    this.#picker.end(asked, false);
    this.#pumpAll();
  }

  async #sink(state: State): Promise<Sink> {
    return (state.opened = await (state.sink ??= this.#options.open(state.wanted.file)));
  }

  #fail(state: State, error: unknown): void {
    if (state.hasFailed) return;
    state.hasFailed = true;
    const { file } = state.wanted;
    for (const asked of this.#picker.remove(file)) this.#requests.get(asked)?.stop.abort(NOT_NEEDED);
    this.#options.onFailure(file, error);
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

/** Returns the SHA-1 of a piece, in hex. */
function sha1Of(pieces: Uint8Array, index: number): string {
  const at = index * PIECE_HASH_BYTES;
  return Buffer.from(pieces.subarray(at, at + PIECE_HASH_BYTES)).toString('hex');
}

function noteProof({ proofs }: State, { unit, source, lengthBytes }: Asked, digest: string): void {
  proofs.note(unit.index, { origin: source as DownloadSource, lengthBytes, sha1: digest });
}
