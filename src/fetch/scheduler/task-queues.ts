import type { Task } from './task.ts';

/** The open tasks; those that no lane works on are sorted by whether a member has them. */
export class TaskQueues {
  readonly #isAtMembers: (task: Task) => boolean;
  readonly #turnOf: (task: Task) => number;
  readonly #atMembers = new Set<Task>();
  readonly #elsewhere = new Set<Task>();
  /** Resolved by the next change. All waiting lanes share it: with a listener for each, a change took as long as a request. */
  #change: PromiseWithResolvers<void> | undefined;
  readonly #open = new Set<Task>();
  #mayGrow = false;

  /**
   * @param isAtMembers returns true if an answering member has the NAR, or a missing part of it
   * @param turnOf returns the place of a task that somebody waits for among those; Infinity for all others
   */
  constructor(isAtMembers: (task: Task) => boolean, turnOf: (task: Task) => number = () => Infinity) {
    this.#isAtMembers = isAtMembers;
    this.#turnOf = turnOf;
  }

  /** Adds a new task. */
  add(task: Task): void {
    this.#open.add(task);
    this.queue(task);
  }

  /** Queues a task that no lane works on any more. */
  queue(task: Task): void {
    task.handOver = new AbortController();
    this.#place(task, this.#isAtMembers(task) ? this.#atMembers : this.#elsewhere);
    this.tellChange();
  }

  /** Takes out a task. Returns false if a lane works on it. */
  take(task: Task): boolean {
    return this.#atMembers.delete(task) || this.#elsewhere.delete(task);
  }

  /** Puts a waiting task in its turn, since somebody waits for it now. */
  hurry(task: Task): void {
    this.arrange([task]);
    this.tellChange();
  }

  /** Puts waiting tasks behind all others, in this order. Those that somebody waits for keep their turns. */
  arrange(tasks: Iterable<Task>): void {
    for (const task of tasks)
      for (const set of [this.#atMembers, this.#elsewhere]) if (set.delete(task)) this.#put(task, set);
  }

  /** Further tasks may come until {@link noMore} is called. */
  expectMore(): void {
    this.#mayGrow = true;
  }

  noMore(): void {
    this.#mayGrow = false;
    if (this.isDone) this.tellChange();
  }

  /** Records that a task is done, with or without its NAR. */
  settle(task: Task): void {
    this.#open.delete(task);
    if (this.isDone) this.tellChange();
  }

  /** True once every task is settled, and none may come. */
  get isDone(): boolean {
    return this.#open.size === 0 && !this.#mayGrow;
  }

  /** The tasks that are not settled, with those that lanes work on. */
  get open(): ReadonlySet<Task> {
    return this.#open;
  }

  /** Checks again which tasks members have. */
  sort(): void {
    for (const [set, other] of [
      [this.#atMembers, this.#elsewhere],
      [this.#elsewhere, this.#atMembers],
    ] as const) {
      for (const task of set) {
        if (this.#isAtMembers(task) === (set === this.#atMembers)) continue;
        set.delete(task);
        this.#place(task, other);
      }
    }
  }

  /** True if there are tasks that no member has. */
  get hasElsewhere(): boolean {
    return this.#elsewhere.size > 0;
  }

  /** Takes out the first task that no member has and that fits. */
  takeElsewhere(isIt: (task: Task) => boolean): Task | undefined {
    for (const task of this.#elsewhere) {
      if (!isIt(task)) continue;
      this.#elsewhere.delete(task);
      return task;
    }
    return undefined;
  }

  /** Yields the tasks that no member has. */
  elsewhere(): Iterable<Task> {
    return this.#elsewhere.values();
  }

  /** Returns true if a waiting task fits. */
  some(isIt: (task: Task) => boolean): boolean {
    for (const task of this.waiting()) if (isIt(task)) return true;
    return false;
  }

  /** Lets clients outside our groups be asked for missing NARs again, since there is a new client. */
  retryForeigners(): void {
    for (const task of this.#elsewhere) task.peersTried = false;
    this.tellChange();
  }

  /** True if no task waits. */
  get isEmpty(): boolean {
    return this.#atMembers.size === 0 && this.#elsewhere.size === 0;
  }

  /** Yields the tasks that no lane works on. */
  *waiting(): Generator<Task> {
    yield* this.#elsewhere;
    yield* this.#atMembers;
  }

  /** Wakes the waiting lanes. */
  tellChange(): void {
    this.#change?.resolve();
    this.#change = undefined;
  }

  /** Resolves at the next change. */
  changed(): Promise<void> {
    this.#change ??= Promise.withResolvers();
    return this.#change.promise;
  }

  /** Puts a task into a set in which it was not. */
  #place(task: Task, set: Set<Task>): void {
    task.atMembersSinceMs = set === this.#atMembers ? performance.now() : -Infinity;
    this.#put(task, set);
  }

  /** Puts a task behind all others of a set, or in its turn. */
  #put(task: Task, set: Set<Task>): void {
    const turn = this.#turnOf(task);
    const behind = turn === Infinity ? [] : [...set].filter((one) => this.#turnOf(one) > turn);
    for (const one of behind) set.delete(one);
    for (const one of [task, ...behind]) set.add(one);
  }
}
