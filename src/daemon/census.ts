import { setTimeout as sleep } from 'node:timers/promises';
import type { Member, WantedFile } from '../exchange/member.ts';
import type { Members } from '../exchange/members.ts';
import type { FileHash } from '../nix/brands.ts';

/** Time for members to answer. */
const ANSWER_MS = 15_000;
const LOOK_MS = 100;
/** Limit on files in one question. Each takes a few hundred bytes of memory while it is asked about. */
const FILES_AT_ONCE = 4096;

/** Asks the connected members which files they hold. Asks about one part of the files after another. */
export class Census {
  readonly #members: Pick<Members, 'open' | 'want' | 'unwant'>;
  readonly #isOwn: (host: string) => boolean;
  #last: Promise<unknown> = Promise.resolve();

  /** @param isOwn returns true for an address of this machine */
  constructor(members: Pick<Members, 'open' | 'want' | 'unwant'>, isOwn: (host: string) => boolean) {
    this.#members = members;
    this.#isOwn = isOwn;
  }

  /** The hosts of other machines that are connected now. Several processes of one host are one machine. */
  get machines(): ReadonlySet<string> {
    return new Set(this.#byHost().keys());
  }

  /**
   * Asks all members about these files, some thousands at a time. Waits up to 15 s for the answers to each part.
   *
   * @param onAnswer called with each file and the hosts that say they hold all of it
   * @throws the signal's reason
   */
  ask<T extends WantedFile>(
    files: Iterable<T>,
    onAnswer: (file: T, hosts: ReadonlySet<string>) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const onKnown = (part: readonly T[]): void => {
      const machines = [...this.#byHost()];
      for (const file of part)
        onAnswer(file, new Set(machines.flatMap(([host, members]) => (isHeldBy(members, file.file) ? [host] : []))));
    };
    return this.#inTurn(async () => {
      for (const part of inParts(files)) await this.#askPart(part, onKnown, signal);
    });
  }

  /**
   * Returns true if a member holds all of one of these files, be it another process of this machine. Asks about the
   * first thousands only.
   *
   * @throws the signal's reason
   */
  async findsAny(files: Iterable<WantedFile>, signal: AbortSignal): Promise<boolean> {
    const [part = []] = inParts(files);
    let isFound = false;
    const onKnown = (): void => {
      isFound = part.some(({ file }) => isHeldBy([...this.#members.open], file));
    };
    await this.#inTurn(() => this.#askPart(part, onKnown, signal));
    return isFound;
  }

  /** Asks after the questions before. */
  #inTurn(ask: () => Promise<void>): Promise<void> {
    const asking = this.#last.then(ask);
    this.#last = asking.catch(() => undefined);
    return asking;
  }

  /** @param onKnown called while it is known which of these files the members have */
  async #askPart<T extends WantedFile>(
    files: readonly T[],
    onKnown: (files: readonly T[]) => void,
    signal: AbortSignal,
  ): Promise<void> {
    signal.throwIfAborted();
    this.#members.want(files.map(({ file, sizeBytes }) => ({ file, sizeBytes, isScoped: true })));
    try {
      await this.#untilKnown(signal);
      onKnown(files);
    } finally {
      this.#members.unwant(files.map(({ file }) => file));
    }
  }

  async #untilKnown(signal: AbortSignal): Promise<void> {
    const untilMs = performance.now() + ANSWER_MS;
    do {
      await sleep(LOOK_MS, undefined, { signal }).catch(() => signal.throwIfAborted());
    } while (performance.now() < untilMs && [...this.#members.open].some(({ isKnown }) => !isKnown));
  }

  #byHost(): Map<string, Member[]> {
    const hosts = new Map<string, Member[]>();
    for (const member of this.#members.open)
      if (!this.#isOwn(member.host)) hosts.set(member.host, [...(hosts.get(member.host) ?? []), member]);
    return hosts;
  }
}

function isHeldBy(members: readonly Member[], file: FileHash): boolean {
  return members.some((member) => member.has(file) === 'whole');
}

function* inParts<T>(files: Iterable<T>): Generator<T[]> {
  let part: T[] = [];
  for (const file of files) {
    if (part.push(file) < FILES_AT_ONCE) continue;
    yield part;
    part = [];
  }
  if (part.length > 0) yield part;
}
