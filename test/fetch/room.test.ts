import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { isNarswarmError } from '../../src/errors.ts';
import type { Closure } from '../../src/fetch/walk/closure.ts';
import type { FetchedNars } from '../../src/fetch/download/fetch-nars.ts';
import type { NarJob } from '../../src/fetch/plan/job.ts';
import type { Plan } from '../../src/fetch/plan/plan.ts';
import { fetchWithinRoom, Steps } from '../../src/fetch/room.ts';
import type { FileHash } from '../../src/nix/brands.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parseStorePath, storeHashOf } from '../../src/nix/store-path.ts';

const BYTES = 10;
/** Each path refers to the one after it: `a` to `b`, `b` to `c`, and so on. */
const NAMES = ['a', 'b', 'c', 'd'];

suite('a fetch within the room of a store', () => {
  const infos = NAMES.map((name, at): NarInfo => {
    const baseName = (letter: string): string => `${letter.repeat(32)}-${letter}`;
    const next = NAMES[at + 1];
    return {
      storePath: parseStorePath(`/nix/store/${baseName(name)}`),
      references: next === undefined ? [] : [baseName(next)],
      narSize: BYTES,
    } as unknown as NarInfo;
  });
  const jobs = infos.map((info, at): NarJob => ({
    fileHash: String(at) as FileHash,
    sizeBytes: BYTES,
    extension: 'xz',
    info,
    storePaths: [info.storePath],
    torrent: undefined,
  }));
  const closure: Closure = new Map(infos.map((info) => [storeHashOf(info.storePath), info]));
  const roots = [...closure.keys()];
  const plan: Plan = {
    jobs,
    unsized: [],
    inStore: [],
    verified: [],
    valid: [],
    unheld: [],
    patches: new Map(),
    jobBytes: 4 * BYTES,
    storeBytes: 0,
  };
  const namesOf = (step: Pick<Plan, 'jobs'> | undefined): string =>
    (step?.jobs ?? []).map(({ info }) => info.storePath.slice(-1)).join('');

  test('a step has what fits, at least one NAR, and no NAR before its references', () => {
    const steps = new Steps(plan, closure, roots);
    assert.deepEqual([steps.next(2 * BYTES), steps.next(0), steps.next(Infinity), steps.next(Infinity)].map(namesOf), [
      'dc',
      'b',
      'a',
      '',
    ]);
  });

  /** Fetches into a store of some free bytes, which gets `madeBytes` back when it is full. */
  const fetchInto = async (
    freeBytes: number,
    { madeBytes = 0, holds = (_name: string) => true },
  ): Promise<{ steps: string[]; failures: string[]; brief: string[]; settled: number }> => {
    let free = freeBytes;
    let settled = 0;
    const steps: string[] = [];
    const brief: string[] = [];
    const { failures } = await fetchWithinRoom(
      plan,
      closure,
      { inFlightBytes: BYTES, freeBytes: free },
      {
        roots,
        fetch: (step, found, isFruitless): Promise<FetchedNars> => {
          steps.push(namesOf(step));
          if (isFruitless) brief.push(namesOf(step));
          const arrived = step.jobs.filter((job) => holds(namesOf({ jobs: [job] })));
          free -= arrived.length * BYTES;
          const lost = step.jobs.filter((job) => !arrived.includes(job));
          const lacks = new Map(lost.map(({ info }) => [info.storePath, new Error('nobody has it')]));
          return Promise.resolve({ closure: found, jobs: arrived, checked: [], failures: lacks });
        },
        settle: () => {
          settled++;
          if (free < 0) free += madeBytes;
          return Promise.resolve(free);
        },
        signal: new AbortController().signal,
      },
    );
    const said = Array.from(failures, ([path, error]) => {
      const isOverBudget = error instanceof Error && isNarswarmError(error, 'STORE_OVER_BUDGET');
      return `${path.slice(-1)} ${isOverBudget ? 'no room' : 'lost'}`;
    });
    return { steps, failures: said, brief, settled };
  };

  test('is one step if everything fits', async () => {
    const { steps, settled } = await fetchInto(4 * BYTES, {});
    assert.deepEqual([steps, settled], [['dcba'], 0]);
  });

  test('makes room after each step, and never fills more than one step beyond', async () => {
    const { steps, failures, settled } = await fetchInto(BYTES, { madeBytes: BYTES });
    assert.deepEqual([steps, failures, settled], [['dc', 'b', 'a'], [], 3]);
  });

  test('ends if no room can be made, and names the paths that are left out', async () => {
    const { steps, failures } = await fetchInto(BYTES, { madeBytes: 0 });
    assert.deepEqual([steps, failures], [['dc'], ['b no room', 'a no room']]);
  });

  test('waits less after a step in which nothing arrived, and goes on', async () => {
    const { steps, failures, brief } = await fetchInto(0, { madeBytes: BYTES, holds: (name) => name === 'a' });
    assert.deepEqual(
      [steps, failures, brief],
      [
        ['d', 'c', 'b', 'a'],
        ['d lost', 'c lost', 'b lost'],
        ['c', 'b', 'a'],
      ],
    );
  });
});
