/** The ranges that are requested from each member, in a crowd in simulated time. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { Picker } from '../../../src/exchange/download/picker.ts';
import type { PickFile, Source, Unit } from '../../../src/exchange/download/unit.ts';
import type { FileHash } from '../../../src/nix/brands.ts';
import { playCrowd, type CrowdOptions, type HostResult } from './simulated-crowd.ts';

const MIB = 1024 * 1024;
const RATE = 12_500_000;
/** A few large NARs with most of the bytes, and many small ones: 41 MB. */
const SIZES = [
  19_000_000,
  4_000_000,
  7_000_000,
  ...Array.from({ length: 40 }, (_, index) => 20_000 * (index % 28) + 1_000),
];
const TOTAL = SIZES.reduce((sum, size) => sum + size, 0);
/** Time in which every byte leaves the seeder once. */
const BOUND_MS = (TOTAL / RATE) * 1000;
const SEEDER = { rateBytesPerSec: RATE, isSeeder: true };
const CLIENT = { rateBytesPerSec: RATE };
const EIGHT = Array.from({ length: 8 }, () => CLIENT);

function play(hosts: CrowdOptions['hosts'], options: Partial<CrowdOptions> = {}): HostResult[] {
  return playCrowd({ sizesBytes: SIZES, hosts, random: randomOf(7), ...options });
}

/** Mulberry32. */
function randomOf(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

function assertComplete(results: readonly HostResult[]): void {
  assert.ok(results.every(({ doneMs }) => doneMs !== undefined));
}

const lastMs = (results: readonly HostResult[]): number => Math.max(...results.map(({ doneMs }) => doneMs ?? Infinity));

suite('a crowd', () => {
  test('eight clients finish soon after every byte has left the seeder once', () => {
    const results = play([SEEDER, ...EIGHT]);
    assert.ok(lastMs(results) < 1.5 * BOUND_MS, `${lastMs(results)} ms`);
    assert.ok(results[0]!.sentBytes < 1.35 * TOTAL, `${results[0]!.sentBytes / TOTAL} copies`);
    for (const { receivedBytes } of results) assert.ok(receivedBytes < 1.1 * TOTAL);
  });

  test('a client with a tenth of the line does not delay the others for long', () => {
    const results = play([SEEDER, ...EIGHT.slice(1), { rateBytesPerSec: RATE / 10 }]);
    assertComplete(results);
    assert.ok(lastMs(results.slice(0, -1)) < 1.8 * BOUND_MS, `${lastMs(results.slice(0, -1))} ms`);
  });

  test('all complete if the seeder leaves after it has sent each byte once', () => {
    assertComplete(play([{ ...SEEDER, untilMs: 1.2 * BOUND_MS }, ...EIGHT]));
  });

  test('a member that falls silent holds nobody up', () => {
    const results = play([SEEDER, { ...SEEDER, silentFromMs: 500 }, ...EIGHT]);
    assert.ok(lastMs(results) < 1.8 * BOUND_MS, `${lastMs(results)} ms`);
  });

  test('a short download does not wait for what a slow member was asked for at first', () => {
    const quick = { ...SEEDER, rateBytesPerSec: 16 * RATE };
    const aloneMs = BOUND_MS / 16;
    for (const part of [5, 20, 50]) {
      const slow = { ...SEEDER, rateBytesPerSec: RATE / part };
      const [client] = play([{ rateBytesPerSec: 100 * RATE }, slow, quick]);
      assert.ok((client?.doneMs ?? Infinity) < 2 * aloneMs, `${client?.doneMs} ms instead of ${aloneMs}`);
      assert.ok(client!.receivedBytes < 1.01 * TOTAL);
    }
  });

  test('without piece hashes all complete, too', () => {
    assertComplete(play([SEEDER, ...EIGHT], { hasPieces: false }));
  });

  test('a neighbour is asked before a distant member', () => {
    const [far] = play([{ ...SEEDER, isFar: true }, SEEDER, CLIENT]);
    assert.equal(far?.sentBytes, 0);
  });

  test('a single client gets each byte once', () => {
    assert.equal(play([SEEDER, CLIENT])[1]?.receivedBytes, TOTAL);
  });

  test('members may come, fall silent and leave: the others complete as long as somebody has each byte', () => {
    const host = fc.record({
      rateBytesPerSec: fc.integer({ min: RATE / 50, max: RATE }),
      fromMs: fc.integer({ min: 0, max: 3_000 }),
      isFar: fc.boolean(),
    });
    const leaver = fc.record({ rateBytesPerSec: fc.constant(RATE), untilMs: fc.integer({ min: 0, max: 3_000 }) });
    const sleeper = fc.record({ rateBytesPerSec: fc.constant(RATE), silentFromMs: fc.integer({ min: 0, max: 3_000 }) });
    fc.assert(
      fc.property(
        fc.array(host, { minLength: 1, maxLength: 4 }),
        fc.array(leaver, { maxLength: 2 }),
        fc.array(sleeper, { maxLength: 2 }),
        fc.array(fc.integer({ min: 1, max: 3 * MIB }), { minLength: 1, maxLength: 12 }),
        fc.boolean(),
        fc.integer(),
        (hosts, leavers, sleepers, sizesBytes, hasPieces, seed) => {
          const odd = [...leavers, ...sleepers].map((one) => Object.assign(one, { isSeeder: true }));
          const options = { sizesBytes, hasPieces, random: randomOf(seed), limitMs: 600_000 };
          assertComplete(play([SEEDER, ...odd, ...hosts], options));
        },
      ),
      { numRuns: 40 },
    );
  });
});

suite('Picker', () => {
  const file: PickFile = { file: '0'.repeat(52) as FileHash, sizeBytes: 3 * MIB, unitBytes: MIB, isCheckable: true };
  const source = (options: Partial<Source> = {}): Source => ({
    isNeighbour: true,
    isSilent: false,
    rate: 1_000_000,
    rateSoFar: 1_000_000,
    isLate: false,
    has: () => 'whole',
    wants: () => false,
    ...options,
  });
  const pickerOf = (...sources: readonly Source[]): Picker => {
    const picker = new Picker();
    picker.add({ ...file }, [{ from: 0, to: file.sizeBytes }]);
    for (const one of sources) picker.addSource(one);
    return picker;
  };
  const unitOf = (choice: ReturnType<Picker['pick']>): Unit | undefined =>
    choice?.kind === 'get' ? choice.unit : undefined;

  test('begins where an earlier run stopped', () => {
    const only = source();
    const picker = new Picker();
    picker.addSource(only);
    picker.add({ ...file }, [{ from: MIB + 100, to: file.sizeBytes }]);
    const unit = unitOf(picker.pick(only));
    assert.deepEqual([unit?.index, unit?.from, unit?.to], [1, MIB + 100, 2 * MIB]);
  });

  test('a file that somebody waits for comes before all others', () => {
    for (const hasAll of [true, false]) {
      const others = Array.from({ length: 50 }, (_, index) => ({
        ...file,
        file: String(index).padStart(52, '1') as FileHash,
      }));
      const one = source({ wants: () => hasAll, has: (name) => (hasAll || name !== file.file ? 'whole' : undefined) });
      const picker = new Picker();
      picker.addSource(one);
      for (const other of [...others, file]) picker.add({ ...other }, [{ from: 0, to: other.sizeBytes }]);
      picker.look();
      picker.hurry(file.file);
      const first = unitOf(picker.pick(one))?.file.file;
      assert.equal(first === file.file, hasAll);
      assert.ok(first !== undefined, 'a member without it gives others');
    }
  });

  test('a unit that a silent member owes is requested from another one', () => {
    const [quick, slow] = [source(), source()];
    const silent = { ...slow, isLate: false };
    const picker = pickerOf(quick, silent);
    const asked = picker.begin(silent, unitOf(picker.pick(silent))!);
    for (let unit = unitOf(picker.pick(quick)); unit !== undefined; unit = unitOf(picker.pick(quick)))
      picker.end(picker.begin(quick, unit), true);
    assert.ok(!picker.isComplete(file.file));
    silent.isLate = true;
    const unit = unitOf(picker.pick(quick));
    assert.equal(unit, asked.unit);
    assert.deepEqual(picker.end(picker.begin(quick, unit), true), [asked]);
    assert.ok(picker.isComplete(file.file));
  });

  test('the beginning of a first range shows that a member is slow, but not to ask a distant one', () => {
    for (const isNeighbour of [true, false]) {
      const [slow, quick] = [source({ rate: undefined, rateSoFar: 100_000 }), source({ isNeighbour })];
      const picker = new Picker();
      picker.add({ ...file, sizeBytes: MIB }, [{ from: 0, to: MIB }]);
      picker.addSource(slow);
      picker.addSource(quick);
      const { unit } = picker.begin(slow, unitOf(picker.pick(slow))!);
      assert.equal(unitOf(picker.pick(quick)), isNeighbour ? unit : undefined);
    }
  });

  test('any number of ranges that nobody has keep no member from being asked for others', () => {
    const only = source({ has: (name) => (name.startsWith('f') ? 'whole' : undefined) });
    const picker = pickerOf();
    const add = (name: string, sizeBytes: number): void =>
      picker.add({ file: name as FileHash, sizeBytes, unitBytes: MIB, isCheckable: true }, [
        { from: 0, to: sizeBytes },
      ]);
    for (let index = 0; index < 40; index++) add(`big${index}`, 110 * MIB);
    for (let index = 0; index < 10; index++) add(`f${index}`, MIB);
    picker.addSource(only);
    picker.look();
    for (let index = 0; index < 10; index++) {
      const unit = unitOf(picker.pick(only));
      assert.ok(unit !== undefined && unit.file.file.startsWith('f'));
      picker.end(picker.begin(only, unit), true);
    }
  });

  test('begun large files that nobody has any more do not keep others from being begun', () => {
    const holderOf = (letter: string): Source =>
      source({ has: (name) => (name.startsWith(letter) ? 'whole' : undefined) });
    const [gone, other] = [holderOf('a'), holderOf('b')];
    const picker = pickerOf(gone, other);
    const add = (name: string): void => {
      const one = { file: name as FileHash, sizeBytes: 20 * MIB, unitBytes: MIB, isCheckable: true };
      picker.add(one, [{ from: 0, to: 2 * MIB }]);
    };
    for (let index = 0; index < 64; index++) add(`a${index}`);
    add('b');
    const begun = new Set<FileHash>();
    while (begun.size < 64) {
      const unit = unitOf(picker.pick(gone))!;
      picker.end(picker.begin(gone, unit), !begun.has(unit.file.file));
      begun.add(unit.file.file);
    }
    assert.equal(picker.pick(other), undefined);
    picker.removeSource(gone);
    picker.look();
    assert.equal(unitOf(picker.pick(other))?.file.file, 'b');
  });

  test('ranges are searched once for many requests, even if several members have everything', () => {
    let questions = 0;
    const seeds = Array.from({ length: 8 }, () =>
      source({
        rate: undefined,
        has: () => {
          questions++;
          return 'whole';
        },
      }),
    );
    const picker = new Picker();
    for (let index = 0; index < 5_000; index++) {
      const one = { file: `${index}`.padStart(52, '0') as FileHash, sizeBytes: 20_000, unitBytes: 32_768 };
      picker.add({ ...one, isCheckable: true }, [{ from: 0, to: one.sizeBytes }]);
    }
    for (const one of seeds) picker.addSource(one);
    let requests = 0;
    for (const choice of picker.choices(seeds[0]!)) {
      assert.ok(choice.kind === 'get');
      picker.begin(seeds[0]!, choice.unit);
      requests++;
    }
    assert.ok(requests >= 50, `${requests} requests`);
    assert.ok(questions < requests * 8 * 20, `${questions} questions for ${requests} requests`);
  });

  test('after a wrong mixture of several members, a single one is asked', () => {
    const [first, second] = [source(), source()];
    const picker = new Picker();
    picker.addSource(first);
    picker.addSource(second);
    picker.add({ ...file, isCheckable: false, only: second }, [{ from: 0, to: file.sizeBytes }]);
    assert.equal(picker.pick(first), undefined);
    assert.equal(unitOf(picker.pick(second))?.index, 0);
  });

  test('the rest of a doubted file is asked of members that have given right bytes', () => {
    const parts = { givesUnfinished: true, has: () => ({ has: () => true }) };
    const others = [source(), source(parts)];
    for (const credible of [source({ isProven: true }), source({ ...parts, isProven: true })]) {
      const picker = new Picker();
      for (const one of others) picker.addSource(one);
      picker.add({ ...file, isCheckable: false, isDoubted: true }, [{ from: MIB, to: 2 * MIB }]);
      for (const one of others) assert.equal(picker.pick(one), undefined);
      assert.equal(picker.isAtHand(file.file), false);
      picker.addSource(credible);
      assert.equal(picker.isAtHand(file.file), true);
      assert.equal(unitOf(picker.pick(credible))?.index, 1);
    }
  });
});
