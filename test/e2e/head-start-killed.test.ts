/** A fetch and an update that are killed with SIGKILL while small NARs come beside the walk: the next run continues from there. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { startHttpCache, type Fault, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertSound, Lab, readNarInfos, type CliProcess } from '../support/lab.ts';
import { stallAt } from '../support/stall-at.ts';
import { Machine, until } from '../support/update-lab.ts';

/** The first one waits for the plan, since it has more than 1 MiB. */
const BLOBS = [1_300_000, 30_000, 20_000];
/** The path whose narinfo is held back: `lab-1` and `lab-2` reach it. */
const LAST = 'lab-blob-1';

interface Command {
  readonly name: string;
  /** Paths whose NARs come before the walk ends. An update leaves out those that may lack something. */
  readonly early: readonly string[];
  readonly args: (made: MadeClosure) => readonly string[];
}

const COMMANDS: readonly Command[] = [
  { name: 'fetch', early: ['lab-0', 'lab-1', 'lab-2', 'lab-blob-2'], args: ({ root }) => ['fetch', root, '--no-copy'] },
  { name: 'update', early: ['lab-0', 'lab-blob-2'], args: () => ['update'] },
];

/** A cache whose walk a test can hold, and a run that asks it. */
interface Scene {
  readonly cache: HttpCache;
  readonly run: CliProcess;
  /** Lets the walk end. */
  readonly release: () => void;
  /** Waits until the store has the NARs of exactly these paths. */
  readonly hold: (names: readonly string[]) => Promise<void>;
}

interface State {
  readonly name: string;
  readonly faults?: (nar: (name: string) => RegExp) => readonly Fault[];
  readonly env?: Record<string, string>;
  /** Waits for the state. */
  readonly reached: (scene: Scene, command: Command) => Promise<void>;
  /** Paths whose NARs are in the store then. */
  readonly held: (command: Command) => readonly string[];
  /** Number of narinfos in the store then. Default: 0 */
  readonly written?: number;
}

const ALL = ['lab-0', 'lab-1', 'lab-2', 'lab-blob-0', 'lab-blob-1', 'lab-blob-2'];
const [CUT, CUT_BYTES] = ['lab-blob-2', 100];

/** Lets the walk end once all early NARs are there, and waits until the process stalls. */
const afterWalk: State['reached'] = async ({ run, hold, release }, { early }) => {
  await hold(early);
  release();
  await run.event('stalled');
};

const STATES: readonly State[] = [
  {
    name: 'while it walks, before a NAR has come',
    faults: () => [{ kind: 'stall-headers', match: /^\/nar\// }],
    reached: ({ cache, run }) => until(() => cache.requests.some(({ url }) => url.startsWith('/nar/')), run),
    held: () => [],
  },
  {
    name: 'while NARs come beside the walk',
    faults: (nar) => [{ kind: 'stall', match: nar(CUT), afterBytes: CUT_BYTES }],
    reached: async ({ cache, run, hold }, { early }) => {
      await until(() => cache.requests.some(({ bytes }) => bytes === CUT_BYTES), run);
      await hold(early.filter((name) => name !== CUT));
    },
    held: ({ early }) => early.filter((name) => name !== CUT),
  },
  {
    name: 'between the walk and the plan',
    env: stallAt('stat', /\/catalogue/, 1), // the first one looks at its rights
    reached: afterWalk,
    held: ({ early }) => early,
  },
  {
    name: 'before the first narinfo is written',
    env: stallAt('renameSync', /\.narinfo$/),
    reached: afterWalk,
    held: () => ALL,
  },
  {
    name: 'between two narinfos',
    env: stallAt('renameSync', /\.narinfo$/, 3),
    reached: afterWalk,
    held: () => ALL,
    written: 3,
  },
];

describe('killed', { concurrency: 3 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let infos: ReadonlyMap<string, NarInfo>;

  before(async () => {
    lab = await Lab.open();
    made = await lab.closure(BLOBS);
    const byHash = await readNarInfos(made.cacheDir);
    infos = new Map(Array.from(byHash.values(), (info) => [info.storePath.slice('/nix/store/'.length + 33), info]));
  });
  after(() => lab[Symbol.asyncDispose]());

  const infoOf = (name: string): NarInfo => {
    const info = infos.get(name);
    assert.ok(info !== undefined, name);
    return info;
  };
  const narsOf = (names: readonly string[]): string[] =>
    names.map((name) => infoOf(name).url.slice('nar/'.length)).toSorted();

  for (const command of COMMANDS)
    for (const { name, faults, env, reached, held, written = 0 } of STATES)
      test(`${command.name}, ${name}`, async () => {
        const cache = lab.use(await startHttpCache(made.cacheDir));
        const flags = ['--from', cache.url, '--trusted-public-key', made.publicKey, '--scope', 'off'];
        const { store, config } = await Machine.of(lab, { desktop: { source: made.root } }, []);
        const args = [...command.args(made), '--store', store, ...ALONE, ...flags];
        const gate = Promise.withResolvers<void>();
        const narInfo = new RegExp(`^/${infoOf(LAST).storePath.slice('/nix/store/'.length).slice(0, 32)}\\.narinfo`);
        const walk: Fault = { kind: 'hold', match: narInfo, until: gate.promise };
        cache.faults = [walk, ...(faults?.((path) => new RegExp(`^/${infoOf(path).url}$`)) ?? [])];
        const run = lab.start(args, { env: { NARSWARM_CONFIG: config, ...env } });
        const narNames = (): Promise<string[]> => readdir(join(store, 'nar')).catch(() => []);
        const hold = (names: readonly string[]): Promise<void> =>
          until(async () => (await narNames()).toSorted().join() === narsOf(names).join(), run);
        await reached({ cache, run, release: gate.resolve, hold }, command);
        assert.equal((await run.stop('SIGKILL')).signal, 'SIGKILL');
        gate.resolve();

        const left = await assertSound(store, made.publicKey, { afterKill: true });
        assert.deepEqual(left.nars.toSorted(), narsOf(held(command)));
        assert.equal(left.narInfos.length, written);
        cache.faults = [];
        cache.resetCounts();
        const next = await lab.run(args, { env: { NARSWARM_CONFIG: config } });
        assert.equal(next.status, 0, next.stderr);
        const rest = ALL.filter((path) => !held(command).includes(path));
        const asked = cache.requests.flatMap(({ url }) => (url.startsWith('/nar/') ? url.slice('/nar/'.length) : []));
        assert.deepEqual(asked.toSorted(), narsOf(rest), 'each of the others once');
        const { narInfos, nars } = await assertSound(store, made.publicKey, { afterKill: true });
        assert.deepEqual([narInfos.length, nars.toSorted()], [ALL.length, narsOf(ALL)]);
        const verified = await lab.run(['verify', '--store', store]);
        assert.equal(verified.status, 0, verified.stdout + verified.stderr);
      });
});
