/** A machine with a Nix store of its own, a model flake, and upstreams that can be switched off. */
import assert from 'node:assert/strict';
import { rename } from 'node:fs/promises';
import { execa } from 'execa';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from './http-cache.ts';
import { ALONE, Lab, type Run } from './lab.ts';
import { Machine } from './machine.ts';
import { BUILDS, cacheModel, modelFlake, type ModelFlake, type ModelPaths } from './model-flake.ts';

/** Opens a laboratory with a cache that has what a rebuild of the model flake needs. */
export async function openModelLab(): Promise<{ lab: Lab; made: MadeClosure; paths: ModelPaths }> {
  const lab = await Lab.open();
  const made = await lab.closure([5_000]);
  const model = await modelFlake(await lab.folder('model'));
  lab.use(model.site);
  return { lab, made, paths: await cacheModel(made, model) };
}

export class ReadyHost {
  readonly model: ModelFlake;
  readonly cache: HttpCache;
  readonly machine: Machine;
  /** URI of its Nix store, which is empty at first. */
  readonly nixStore: string;
  readonly env: Record<string, string>;
  readonly #lab: Lab;
  readonly #flags: readonly string[];

  private constructor(
    lab: Lab,
    parts: Pick<ReadyHost, 'model' | 'cache' | 'machine' | 'nixStore' | 'env'>,
    flags: readonly string[],
  ) {
    this.#lab = lab;
    this.model = parts.model;
    this.cache = parts.cache;
    this.machine = parts.machine;
    this.nixStore = parts.nixStore;
    this.env = parts.env;
    this.#flags = flags;
  }

  /** @param substituters of nix.conf */
  static async make(lab: Lab, made: MadeClosure, substituters = ''): Promise<ReadyHost> {
    const cache = lab.use(await startHttpCache(made.cacheDir));
    const model = await modelFlake(await lab.folder('model'));
    lab.use(model.site);
    const nixStore = `local?root=${await lab.folder('nix')}`;
    const config = `${BUILDS}substituters = ${substituters}\ntrusted-public-keys = ${made.publicKey}\n`;
    const env = { NIX_REMOTE: nixStore, NIX_CONFIG: config };
    const flags = ['--from', cache.url, '--trusted-public-key', made.publicKey, ...ALONE];
    const machine = await Machine.make(lab, { flags, env });
    return new ReadyHost(lab, { model, cache, machine, nixStore, env }, flags);
  }

  /** The installable that is rebuilt. */
  get system(): string {
    return `${this.model.flake}#system`;
  }

  ready(...args: readonly string[]): Promise<Run> {
    return this.machine.run(['ready', ...this.#flags, ...args]);
  }

  fetch(...args: readonly string[]): Promise<Run> {
    return this.machine.run(['fetch', ...this.#flags, ...args]);
  }

  async nix(...args: readonly string[]): Promise<{ failed: boolean; stderr: string; stdout: string }> {
    const env = { ...this.#lab.env, ...this.env };
    const { failed, stdout, stderr } = await execa('nix', args, { env, reject: false });
    return { failed, stdout, stderr };
  }

  /** Removes a path from the Nix store. */
  async remove(path: string): Promise<void> {
    await execa('nix-store', ['--delete', path], { env: { ...this.#lab.env, ...this.env } });
  }

  /** Brings the inputs of the flake into the Nix store. */
  async archive(): Promise<void> {
    const done = await this.nix('flake', 'archive', this.model.flake);
    assert.equal(done.failed, false, done.stderr);
  }

  /** Switches everything off that is not this machine. */
  async goOffline(): Promise<void> {
    await this.cache[Symbol.asyncDispose]();
    await this.model.site[Symbol.asyncDispose]();
    await rename(this.model.input, `${this.model.input}.gone`);
  }

  async rebuild(): Promise<{ failed: boolean; stderr: string }> {
    return this.nix('build', '--offline', '--no-link', '--no-write-lock-file', this.system);
  }
}
