/**
 * A crowd in simulated time: hosts with lines of a given rate that fetch one closure from a seeder and from each other, each
 * with a real {@link Picker}. Lines are shared fairly among the connections that have something to send.
 */
import { SourceRate } from '../../../src/discovery/source-rate.ts';
import type { Asked, PickFile, Source, Unit } from '../../../src/exchange/download/unit.ts';
import { LeastSent, type Giving } from '../../../src/exchange/answers/least-sent.ts';
import type { FilePrefix } from '../../../src/exchange/messages/messages.ts';
import { Picker } from '../../../src/exchange/download/picker.ts';
import type { FileHash } from '../../../src/nix/brands.ts';
import { pieceLengthOf } from '../../../src/torrent/canonical.ts';

const STEP_MS = 5;
/** Delay of the message by which a host tells others of a piece. */
const NEWS_MS = 5;
/** Delay until a host that had nothing to give is asked again. */
const LATER_MS = 150;

export interface HostOptions {
  readonly rateBytesPerSec: number;
  /** True if it has everything. */
  readonly isSeeder?: boolean;
  /** Time at which it arrives. */
  readonly fromMs?: number;
  /** Time from which it answers nothing. */
  readonly silentFromMs?: number;
  /** Time at which its connections end. */
  readonly untilMs?: number;
  readonly isFar?: boolean;
}

export interface CrowdOptions {
  readonly sizesBytes: readonly number[];
  readonly hosts: readonly HostOptions[];
  readonly random: () => number;
  /** Whether a map has the hashes of pieces. Default: yes. */
  readonly hasPieces?: boolean;
  readonly limitMs?: number;
}

/** One request as it waits at a host. */
interface Question {
  readonly from: SimulatedHost;
  readonly link: Link;
  asked: Asked | undefined;
  readonly units: readonly Unit[];
  readonly offeredBytes: number;
  giving?: Giving;
  isOver: boolean;
}

class Link implements Source {
  readonly other: SimulatedHost;
  readonly #owner: SimulatedHost;
  readonly meter = new SourceRate();
  readonly queue: Question[] = [];
  lastMs = 0;
  notBeforeMs = 0;
  isSilent = false;

  constructor(owner: SimulatedHost, other: SimulatedHost) {
    this.#owner = owner;
    this.other = other;
  }

  get isNeighbour(): boolean {
    return this.other.options.isFar !== true;
  }

  get rate(): number | undefined {
    return this.meter.rate(this.#owner.nowMs);
  }

  get rateSoFar(): number | undefined {
    return this.meter.rateSoFar(this.#owner.nowMs);
  }

  get isLate(): boolean {
    return this.queue.length > 0 && this.#owner.nowMs - this.lastMs > 1_000;
  }

  has(file: FileHash): 'whole' | { has(index: number): boolean } | undefined {
    return this.other.told(file);
  }

  wants(file: FileHash): boolean {
    return this.other.options.isSeeder !== true && this.other.told(file) !== 'whole';
  }
}

class SimulatedHost {
  readonly options: HostOptions;
  readonly picker: Picker;
  readonly links: Link[] = [];
  readonly held = new Map<FileHash, Map<number, number>>();
  readonly sent = new LeastSent();
  nowMs = 0;
  sentBytes = 0;
  receivedBytes = 0;
  doneMs: number | undefined;
  readonly #byHash: ReadonlyMap<FileHash, PickFile>;
  #turn = 0;

  constructor(options: HostOptions, files: readonly PickFile[], random: () => number) {
    this.options = options;
    this.#byHash = new Map(files.map((file) => [file.file, file]));
    this.picker = new Picker(random);
    if (options.isSeeder === true) this.doneMs = 0;
    else {
      const order = files.map((file) => ({ file, key: random() }));
      for (const { file } of order.toSorted((a, b) => a.key - b.key))
        this.picker.add({ ...file }, [{ from: 0, to: file.sizeBytes }]);
    }
  }

  connect(other: SimulatedHost): void {
    const link = new Link(this, other);
    this.links.push(link);
    this.picker.addSource(link);
  }

  get isGone(): boolean {
    return this.nowMs >= (this.options.untilMs ?? Infinity);
  }

  told(file: FileHash): 'whole' | { has(index: number): boolean } | undefined {
    if (this.options.isSeeder === true) return 'whole';
    const pieces = this.held.get(file);
    if (pieces === undefined) return undefined;
    const one = this.#byHash.get(file);
    const isTold = (index: number): boolean => (pieces.get(index) ?? Infinity) + NEWS_MS <= this.nowMs;
    const total = Math.ceil((one?.sizeBytes ?? 0) / (one?.unitBytes ?? 1));
    if (pieces.size === total && Array.from({ length: total }, (_, index) => index).every(isTold)) return 'whole';
    return { has: isTold };
  }

  ask(): void {
    if (this.doneMs !== undefined || this.nowMs < (this.options.fromMs ?? 0)) return;
    this.picker.look();
    for (const link of this.links) {
      if (link.other.isGone) {
        this.picker.removeSource(link);
        this.links.splice(this.links.indexOf(link), 1);
        for (const question of link.queue) question.isOver = true;
        continue;
      }
      link.isSilent ||= link.isLate;
      for (const choice of this.picker.choices(link)) {
        if (choice.kind === 'any' && this.nowMs < link.notBeforeMs) break;
        if (link.queue.length === 0) {
          link.lastMs = this.nowMs;
          link.meter.begin(this.nowMs);
        }
        const question = { from: this, link, isOver: false };
        if (choice.kind === 'get') {
          const asked = this.picker.begin(link, choice.unit);
          link.queue.push({ ...question, asked, units: [], offeredBytes: 0 });
        } else {
          this.picker.offer(link, choice.bytes);
          link.queue.push({ ...question, asked: undefined, units: choice.units, offeredBytes: choice.bytes });
        }
      }
    }
  }

  /** Sends the bytes of one step. */
  serve(clients: readonly SimulatedHost[], room: Map<SimulatedHost, number>): void {
    if (this.nowMs >= (this.options.silentFromMs ?? Infinity) || this.isGone) return;
    let left = bytesOfStep(this.options);
    const questions = clients.flatMap((client) => client.links.filter(({ other }) => other === this));
    const waiting = (): Link[] => questions.filter(({ queue }) => this.#next(queue) !== undefined);
    for (
      let active = waiting();
      left > 0 && active.length > 0;
      active = active.filter((link) => this.#next(link.queue))
    ) {
      const share = Math.min(left, Math.max(1500, Math.floor(left / active.length)));
      const link = active[this.#turn++ % active.length]!;
      const question = this.#next(link.queue)!;
      const asked = question.asked!;
      const free = room.get(question.from) ?? 0;
      const bytes = Math.min(share, asked.lengthBytes - asked.receivedBytes, free);
      if (bytes === 0) {
        active = active.filter((one) => one !== link);
        if (active.length === 0) return;
        continue;
      }
      left -= bytes;
      room.set(question.from, free - bytes);
      this.sentBytes += bytes;
      question.from.receive(question, bytes);
    }
  }

  #next(queue: Question[]): Question | undefined {
    for (;;) {
      const [question] = queue;
      if (question === undefined) return undefined;
      if (!question.isOver && question.asked === undefined) this.#choose(question);
      if (!question.isOver) return question;
      question.giving?.end(question.asked?.receivedBytes === question.asked?.lengthBytes, this.nowMs);
      queue.shift();
      if (queue.length === 0) question.link.meter.end(this.nowMs);
    }
  }

  /** Chooses the least-sent range when the request's turn comes. */
  #choose(question: Question): void {
    const { from, link, units, offeredBytes } = question;
    const ranges = units.map((unit) => ({ prefix: unit.file.file as string as FilePrefix, from: unit.from }));
    const index = this.sent.choose(ranges, (at) => !this.sent.isOnItsWay(ranges[at]!, this.nowMs));
    const unit = units[index];
    from.picker.unoffer(link, offeredBytes);
    if (unit === undefined || !from.picker.isMissing(unit)) {
      question.isOver = true; // refused for now, or taken back
      if (unit === undefined) link.notBeforeMs = this.nowMs + LATER_MS;
      return;
    }
    question.giving = this.sent.give(ranges[index]!);
    question.asked = from.picker.begin(link, unit);
  }

  receive(question: Question, bytes: number): void {
    const { link } = question;
    const asked = question.asked!;
    asked.receivedBytes += bytes;
    this.receivedBytes += bytes;
    link.lastMs = this.nowMs;
    link.isSilent = false;
    link.meter.add(bytes, this.nowMs);
    if (asked.receivedBytes < asked.lengthBytes) return;
    question.isOver = true;
    const others = new Set(this.picker.end(asked, true));
    for (const { queue } of this.links)
      for (const one of queue) if (one.asked !== undefined && others.has(one.asked)) one.isOver = true;
    const { file, index } = asked.unit;
    let pieces = this.held.get(file.file);
    if (pieces === undefined) this.held.set(file.file, (pieces = new Map()));
    pieces.set(index, this.nowMs);
    if (this.picker.isComplete(file.file)) this.picker.remove(file.file);
    if (this.picker.size === 0) this.doneMs = this.nowMs;
  }
}

/** Returns the whole bytes that the line of a host carries in one step. */
function bytesOfStep({ rateBytesPerSec }: HostOptions): number {
  return Math.floor((rateBytesPerSec * STEP_MS) / 1000);
}

export interface HostResult {
  /** Milliseconds, or undefined if it did not get everything. */
  readonly doneMs: number | undefined;
  readonly sentBytes: number;
  /** Received payload, including bytes that came twice. */
  readonly receivedBytes: number;
}

/** Lets all hosts fetch until each has everything, or the time is over. */
export function playCrowd({
  sizesBytes,
  hosts,
  random,
  hasPieces = true,
  limitMs = 120_000,
}: CrowdOptions): HostResult[] {
  const files = sizesBytes.map((sizeBytes, index): PickFile => {
    const file = index.toString().padStart(52, '0') as FileHash;
    return {
      file,
      sizeBytes,
      unitBytes: pieceLengthOf(sizeBytes),
      isCheckable: hasPieces || sizeBytes <= pieceLengthOf(sizeBytes),
    };
  });
  const all = hosts.map((options) => new SimulatedHost(options, files, random));
  for (const host of all) for (const other of all) if (host !== other) host.connect(other);
  const clients = all.filter(({ options }) => options.isSeeder !== true);
  for (let nowMs = 0; nowMs < limitMs && clients.some(({ doneMs }) => doneMs === undefined); nowMs += STEP_MS) {
    for (const host of all) host.nowMs = nowMs;
    for (const client of clients) client.ask();
    const room = new Map(clients.map((host) => [host, bytesOfStep(host.options)]));
    for (const host of all) host.serve(clients, room);
  }
  return all.map(({ doneMs, sentBytes, receivedBytes }) => ({ doneMs, sentBytes, receivedBytes }));
}
