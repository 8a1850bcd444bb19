import assert from 'node:assert/strict';
import { appendFile, writeFile } from 'node:fs/promises';
import type { CliEvent, CliProcess, Lab, Run } from './lab.ts';

export interface MachineOptions {
  /** Flags of every update. */
  readonly flags: readonly string[];
  /** Variables of its processes besides those of the lab. */
  readonly env?: Readonly<Record<string, string>>;
}

/** A machine of the lab: a file store and a config file of its own. */
export class Machine {
  readonly store: string;
  readonly configFile: string;
  readonly #lab: Lab;
  readonly #options: MachineOptions;
  readonly #env: Readonly<Record<string, string>>;

  private constructor(lab: Lab, store: string, configFile: string, options: MachineOptions) {
    this.#lab = lab;
    this.store = store;
    this.configFile = configFile;
    this.#options = options;
    this.#env = { ...options.env, NARSWARM_CONFIG: configFile };
  }

  static async make(lab: Lab, options: MachineOptions): Promise<Machine> {
    const configFile = lab.path('config.toml');
    const machine = new Machine(lab, await lab.folder('store'), configFile, options);
    await writeFile(configFile, `store = ${JSON.stringify(machine.store)}\n`);
    return machine;
  }

  /** Adds lines to the config file. Call it before the first subscription. */
  async configure(toml: string): Promise<void> {
    await appendFile(this.configFile, `${toml}\n`);
  }

  /** @param env for this run alone */
  run(args: readonly string[], env: Readonly<Record<string, string>> = {}): Promise<Run> {
    return this.#lab.run(args, { env: { ...this.#env, ...env } });
  }

  start(args: readonly string[]): CliProcess {
    return this.#lab.start(args, { env: this.#env });
  }

  service(args: readonly string[]): ReturnType<Lab['service']> {
    return this.#lab.service(args, { env: this.#env });
  }

  /** Subscribes. Fails the test unless the subscription is accepted. */
  async subscribe(name: string, source: string, ...flags: readonly string[]): Promise<void> {
    const run = await this.run(['subscribe', name, source, ...flags]);
    assert.equal(run.status, 0, run.stderr);
  }

  /** @param env for this run alone */
  update(args: readonly string[] = [], env: Readonly<Record<string, string>> = {}): Promise<Run> {
    return this.run(['update', ...this.#options.flags, ...args], env);
  }

  startUpdate(...args: readonly string[]): CliProcess {
    return this.start(['update', ...this.#options.flags, ...args]);
  }

  /** Runs an update that succeeds. Returns its event of the subscription, the only one unless a name is given. */
  async updated(...args: readonly string[]): Promise<CliEvent> {
    const run = await this.update(args);
    assert.equal(run.status, 0, `${run.stderr}${run.stdout}`);
    return run.event('subscription');
  }

  async status(name: string): Promise<CliEvent> {
    const run = await this.run(['status', name]);
    assert.equal(run.status, 0, run.stderr);
    return run.event('status');
  }
}
