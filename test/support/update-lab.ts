/** Machines that follow subscriptions: each has a file store and a config file of its own. */
import assert from 'node:assert/strict';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { StorePath } from '../../src/nix/brands.ts';
import type { SubscriptionState } from '../../src/subscription/state/state.ts';
import { nextGeneration } from './generations.ts';
import { startHttpCache, type HttpCache } from './http-cache.ts';
import { ALONE, type CliEvent, type CliProcess, type Lab, type ProcessOptions, type Run } from './lab.ts';

/** A subscription as the config file has it; its name is the key. */
export interface Subscribed {
  readonly source: string;
  readonly import?: boolean;
  readonly to?: string | undefined;
  readonly publish?: boolean;
  readonly profile?: string;
  readonly 'switch-to'?: string;
}

export class Machine {
  readonly lab: Lab;
  readonly store: string;
  readonly config: string;
  readonly #flags: readonly string[];

  private constructor(lab: Lab, store: string, config: string, flags: readonly string[]) {
    this.lab = lab;
    this.store = store;
    this.config = config;
    this.#flags = flags;
  }

  /** @param flags of every update, such as the caches to ask; no network beyond loopback is used in any case */
  static async of(
    lab: Lab,
    subscriptions: Readonly<Record<string, Subscribed>>,
    flags: readonly string[],
    store?: string,
  ): Promise<Machine> {
    const machine = new Machine(lab, store ?? (await lab.folder('store')), lab.path('config.toml'), flags);
    await machine.subscribe(subscriptions);
    return machine;
  }

  /** Writes the config file anew. */
  async subscribe(subscriptions: Readonly<Record<string, Subscribed>>): Promise<void> {
    const lines: string[] = [];
    for (const [name, settings] of Object.entries(subscriptions)) {
      lines.push(`[subscriptions.${name}]`);
      for (const [key, value] of Object.entries(settings))
        if (value !== undefined) lines.push(`${key} = ${JSON.stringify(value)}`);
    }
    await writeFile(this.config, `${lines.join('\n')}\n`);
  }

  /** Runs an update to its end. */
  update(args: readonly string[] = [], options: ProcessOptions = {}): Promise<Run> {
    return this.lab.run(this.updateArgs(args), this.#withConfig(options));
  }

  /** Starts an update that is not expected to end by itself. */
  start(args: readonly string[] = [], options: ProcessOptions = {}): CliProcess {
    return this.lab.start(this.updateArgs(args), this.#withConfig(options));
  }

  status(args: readonly string[] = [], options: ProcessOptions = {}): Promise<Run> {
    return this.lab.run(['status', '--store', this.store, ...args], this.#withConfig(options));
  }

  /** Returns the report of `status --json` about one subscription. */
  async statusOf(name: string): Promise<CliEvent> {
    const run = await this.status([name]);
    assert.equal(run.status, 0, run.stderr);
    return run.event('status');
  }

  stateFile(name: string): string {
    return join(this.store, 'narswarm', 'subscriptions', `${name}.json`);
  }

  /** Returns the state after the last update. */
  async state(name: string): Promise<SubscriptionState> {
    return JSON.parse(await readFile(this.stateFile(name), 'utf8')) as SubscriptionState;
  }

  /** The command line of an update. */
  updateArgs(args: readonly string[]): string[] {
    return ['update', '--store', this.store, ...ALONE, ...this.#flags, ...args];
  }

  #withConfig({ env, ...options }: ProcessOptions): ProcessOptions {
    return { ...options, env: { NARSWARM_CONFIG: this.config, ...env } };
  }
}

/**
 * Makes a machine that follows a closure as `desktop`, and asks only a cache of its own, which counts and can fail.
 *
 * @param more of the subscription; `cacheDir` is what the cache serves, `store` the machine's file store
 */
export async function machineWithCache(
  lab: Lab,
  made: MadeClosure,
  { cacheDir = made.cacheDir, store, ...more }: Partial<Subscribed> & { cacheDir?: string; store?: string } = {},
): Promise<{ machine: Machine; cache: HttpCache }> {
  const cache = lab.use(await startHttpCache(cacheDir));
  const flags = ['--scope', 'off', '--from', cache.url, '--trusted-public-key', made.publicKey];
  return { machine: await Machine.of(lab, { desktop: { source: made.root, ...more } }, flags, store), cache };
}

/** A machine that imports the closure that a list names. */
export interface ImportingMachine {
  readonly made: MadeClosure;
  readonly machine: Machine;
  /** The Nix store that it imports into. */
  readonly target: string;
  readonly list: string;
  readonly subscribed: Subscribed;
  /** Makes the next generation of the closure, which has a larger last blob, and puts it into the list. */
  readonly next: () => Promise<StorePath>;
}

/**
 * Makes a machine that imports a closure into a Nix store of its own.
 *
 * @param blobs sizes in bytes
 * @param more of the subscription. `to` undefined: it imports into the default store
 */
export async function importingMachine(
  lab: Lab,
  blobs: readonly number[],
  more: Partial<Subscribed> = {},
): Promise<ImportingMachine> {
  const made = await lab.closure(blobs);
  const list = join(await lab.folder('lists'), 'list');
  await writeFile(list, made.root);
  const target = `local?root=${await lab.folder('target')}`;
  const subscribed = { source: list, import: true, to: target, ...more };
  const { machine } = await machineWithCache(lab, made, subscribed);
  const next = async (): Promise<StorePath> => {
    const { root } = await nextGeneration(made, blobs.length - 1, 50_000);
    await writeFile(list, root);
    return root;
  };
  return { made, machine, target, list, subscribed, next };
}

/** Returns the event of a subscription, the only one unless it is named. Fails the test if there is none. */
export function updated(run: Run, name?: string): CliEvent {
  const found = run.events.find((event) => event.event === 'subscription' && (name ?? event['name']) === event['name']);
  assert.ok(found !== undefined, `nothing about ${name ?? 'a subscription'}: ${run.stdout}${run.stderr}`);
  return found;
}

/** Waits until a condition holds. Fails if the process that should bring it about ends first. */
export async function until(holds: () => boolean | Promise<boolean>, process: CliProcess): Promise<void> {
  let hasEnded = false;
  void process.end().then(() => (hasEnded = true));
  while (!(await holds())) {
    assert.ok(!hasEnded, `it ended before: ${process.stderr}`);
    await sleep(10);
  }
}
