import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CliEvent, CliProcess, Lab, ProcessOptions, Run } from '../support/lab.ts';
import type { Host, HostOptions, Lan } from '../support/namespaces.ts';

/** Longer than any situation takes. */
const SITUATION_MS = 1_800_000;

/** Lines of nix.conf on every machine. */
export interface NixSettings {
  readonly substituter: string;
  readonly publicKey: string;
}

/** How a command ended and how long it took. */
export interface Timed {
  readonly status: number | null;
  readonly seconds: number;
  readonly stderr: string;
}

/** Bytes of a fetch by source, from its report. */
export type Sources = ReadonlyMap<string, number>;

/** Somebody's machine: a host with a home, a config file, a file store and a Nix store of its own. */
export class Seat {
  readonly name: string;
  readonly host: Host;
  readonly dir: string;
  readonly #lab: Lab;
  readonly #nix: NixSettings;

  private constructor(name: string, host: Host, dir: string, lab: Lab, nix: NixSettings) {
    this.name = name;
    this.host = host;
    this.dir = dir;
    this.#lab = lab;
    this.#nix = nix;
  }

  /** @param config lines of its config file, besides the place of the file store */
  static async make(
    lab: Lab,
    lan: Lan,
    name: string,
    nix: NixSettings,
    { config = '', ...host }: HostOptions & { readonly config?: string } = {},
  ): Promise<Seat> {
    const seat = new Seat(name, lan.host(name, host), await lab.folder(name), lab, nix);
    await writeFile(seat.configFile, `store = ${JSON.stringify(seat.store)}\n${config}\n`);
    return seat;
  }

  get store(): string {
    return join(this.dir, 'narswarm');
  }

  get configFile(): string {
    return join(this.dir, 'config.toml');
  }

  /** The Nix store to import into. */
  get nixStore(): string {
    return `local?root=${join(this.dir, 'root')}`;
  }

  get #options(): ProcessOptions {
    return {
      wrapper: this.host.wrapper,
      env: {
        ...this.nixEnv,
        HOME: this.dir,
        NARSWARM_CONFIG: this.configFile,
        STATE_DIRECTORY: join(this.dir, 'state'),
      },
    };
  }

  /** Writes the nix.conf of a machine that substitutes from the cache. */
  get nixEnv(): Record<string, string> {
    const { substituter, publicKey } = this.#nix;
    const lines = [
      `substituters = ${substituter}`,
      `trusted-public-keys = ${publicKey}`,
      'experimental-features = nix-command',
      'build-users-group =',
    ];
    return { NIX_CONFIG: lines.join('\n') };
  }

  /** Runs a command to its end. */
  run(...args: readonly string[]): Promise<Run> {
    return this.#lab.run(args, this.#options);
  }

  /** Runs a command to its end as a person does, without `--json`. */
  runPlain(...args: readonly string[]): Promise<Run> {
    return this.#lab.runPlain(args, this.#options);
  }

  /** Starts a command. It may run for as long as the situation does. */
  start(...args: readonly string[]): CliProcess {
    return this.#lab.start(args, { ...this.#options, limitMs: SITUATION_MS });
  }

  /** Starts a service and waits until it is ready. It may run for as long as the situation does. */
  service(...args: readonly string[]): Promise<{ process: CliProcess; ready: CliEvent }> {
    return this.#lab.service(args, { ...this.#options, limitMs: SITUATION_MS });
  }

  /**
   * Lets the real Nix fetch a path from the cache.
   *
   * @param options.to the store to import into. Default: {@link nixStore}
   * @param options.signal ends it
   */
  async plainNix(
    root: string,
    { to = this.nixStore, signal }: { readonly to?: string; readonly signal?: AbortSignal } = {},
  ): Promise<Timed> {
    const startedAtMs = performance.now();
    const command = ['nix', 'copy', '--from', this.#nix.substituter, '--to', to, root];
    const [file, ...args] = [...this.host.wrapper, ...command];
    const child = spawn(file, args, {
      stdio: ['ignore', 'ignore', 'pipe'],
      env: { PATH: process.env['PATH'] ?? '', HOME: this.dir, ...this.nixEnv },
    });
    signal?.addEventListener('abort', () => child.kill('SIGKILL'), { once: true });
    let stderr = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
    const [status] = (await once(child, 'close')) as [number | null];
    return { status, seconds: (performance.now() - startedAtMs) / 1000, stderr };
  }

  /** Fails unless the Nix store has the path with all that it refers to. */
  assertHas(root: string): void {
    const [, ...command] = [
      ...this.host.wrapper,
      'nix-store',
      '--store',
      this.nixStore,
      '--query',
      '--requisites',
      root,
    ];
    assert.match(this.host.run('nix-store', ...command.slice(4)), new RegExp(root));
  }
}

/** Bytes by source, from the report of a fetch. */
export function sourcesOf(run: Run): Sources {
  const sources = run.event('done')['sources'] as { source: string; bytes: number }[];
  return new Map(sources.map(({ source, bytes }) => [source, bytes]));
}
