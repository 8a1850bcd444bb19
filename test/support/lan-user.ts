import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { CliProcess, Lab, ProcessOptions, Run } from './lab.ts';
import type { Host } from './namespaces.ts';

/** The address of a cache that does not exist. */
export const DEAD_CACHE = 'http://127.0.0.1:1';

/** The settings of a user's nix.conf, and the wanted closure. */
export interface LanUserOptions {
  readonly made: MadeClosure;
  /** URL of the only substituter. */
  readonly cache: string;
  /** Trusted keys. Default: the key that has signed the closure. */
  readonly key?: string | undefined;
  /** Variables of its processes besides those of every user. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A user of a machine on a network, with a config file, a file store and a nix.conf. */
export class LanUser {
  readonly host: Host;
  readonly store: string;
  readonly #lab: Lab;
  readonly #root: string;
  readonly #env: Readonly<Record<string, string>>;

  private constructor(lab: Lab, host: Host, store: string, root: string, env: Readonly<Record<string, string>>) {
    this.#lab = lab;
    this.host = host;
    this.store = store;
    this.#root = root;
    this.#env = env;
  }

  static async of(lab: Lab, host: Host, { made, cache, key, env }: LanUserOptions): Promise<LanUser> {
    const home = await lab.folder('home');
    const nix = [
      `substituters = ${cache}`,
      `trusted-public-keys = ${key ?? made.publicKey}`,
      'experimental-features = nix-command',
    ];
    const own = { HOME: home, NARSWARM_CONFIG: join(home, 'config.toml'), NIX_CONFIG: nix.join('\n') };
    await writeFile(own.NARSWARM_CONFIG, '');
    return new LanUser(lab, host, await lab.folder('store'), made.root, { ...own, ...env });
  }

  get #options(): ProcessOptions {
    return { wrapper: this.host.wrapper, env: this.#env };
  }

  run(...args: readonly string[]): Promise<Run> {
    return this.#lab.run(args, this.#options);
  }

  /** Runs a command like a person, without `--json`. */
  runPlain(...args: readonly string[]): Promise<Run> {
    return this.#lab.runPlain(args, this.#options);
  }

  start(...args: readonly string[]): CliProcess {
    return this.#lab.start(args, this.#options);
  }

  /** Fetches the closure into the file store, to its end. */
  fetch(...args: readonly string[]): Promise<Run> {
    return this.run(...this.#fetching(args));
  }

  /** Starts the same fetch without waiting for its end. */
  startFetch(...args: readonly string[]): CliProcess {
    return this.#lab.start(this.#fetching(args), this.#options);
  }

  async daemon(...args: readonly string[]): Promise<CliProcess> {
    return (await this.#lab.service(['daemon', '--store', this.store, ...args], this.#options)).process;
  }

  #fetching(args: readonly string[]): string[] {
    return ['fetch', this.#root, '--no-copy', '--store', this.store, ...args];
  }
}

/**
 * Makes a machine that has the closure, and no daemon yet. Contents are checked: a daemon does that in processor time that
 * nobody else wants, of which a busy machine has none.
 */
export async function fullUser(lab: Lab, host: Host, options: Omit<LanUserOptions, 'cache'>): Promise<LanUser> {
  const user = await LanUser.of(lab, host, { ...options, cache: `file://${options.made.cacheDir}` });
  for (const run of [await user.fetch('--no-lan'), await user.run('verify', '--deep', '--store', user.store)])
    assert.equal(run.status, 0, run.stderr);
  return user;
}

/** Makes a machine that has the closure and gives it to others. */
export async function startHolder(
  lab: Lab,
  host: Host,
  options: Omit<LanUserOptions, 'cache'>,
): Promise<{ readonly user: LanUser; readonly daemon: CliProcess }> {
  const user = await fullUser(lab, host, options);
  return { user, daemon: await user.daemon() };
}

/** Returns the bytes by kind of source of a run that has fetched everything. */
export function bytesOf(run: Run): { readonly peers: number; readonly upstream: number } {
  assert.equal(run.status, 0, run.stderr);
  return run.event('done')['bytes'] as { peers: number; upstream: number };
}
