/** A mirror with a `max-size`: a new edition takes the place of the one before, and no other space. */
import assert from 'node:assert/strict';
import { watch } from 'node:fs';
import { readdir, rename, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { randomBytes } from 'node:crypto';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { freePort } from '../support/free-port.ts';
import { nextGeneration } from '../support/generations.ts';
import { ALONE, assertSound, Lab, readNarInfos, type RunningPublisher } from '../support/lab.ts';
import { Machine } from '../support/machine.ts';

const BLOB_BYTES = 100_000;
const BLOBS = 8;
/** Paths of an edition: a blob and a package for each. */
const PATHS = 2 * BLOBS;
/** Blobs that differ in the second edition. */
const NEWS = 6;

suite('a mirror within max-size', () => {
  let lab: Lab;
  let key: string;
  let first: MadeClosure;
  let second: MadeClosure;
  /** Bytes of the NARs of one edition, and of its largest NAR. */
  let editionBytes: number;
  let largestBytes: number;
  let newNars: readonly string[];

  before(async () => {
    lab = await Lab.open();
    key = lab.path('publisher.key');
    first = await lab.closure(Array.from({ length: BLOBS }, () => BLOB_BYTES));
    const sizes = Array.from((await readNarInfos(first.cacheDir)).values(), ({ fileSize = 0 }) => fileSize);
    editionBytes = sizes.reduce((sum, bytes) => sum + bytes, 0);
    largestBytes = Math.max(...sizes);
    const old = new Set(await readdir(join(first.cacheDir, 'nar')));
    for (let blob = 1; blob < NEWS; blob++)
      await writeFile(join(dirname(first.cacheDir), 'blobs', `blob-${blob}`), randomBytes(BLOB_BYTES));
    second = await nextGeneration(first, 0, BLOB_BYTES);
    newNars = (await readdir(join(first.cacheDir, 'nar'))).filter((name) => !old.has(name));
  });
  after(() => lab[Symbol.asyncDispose]());

  /** A machine that mirrors the first edition, and a publisher that has the second one. */
  const scene = async (
    budgetBytes: number,
  ): Promise<{ machine: Machine; budget: readonly string[]; publisher: RunningPublisher }> => {
    const how = ['--key', key, '--http-port', String(await freePort()), ...ALONE];
    const one = await lab.publisher(first, how);
    const trust = ['--trusted-public-key', first.publicKey];
    const machine = await Machine.make(lab, { flags: ['--no-upstream', ...trust, ...ALONE] });
    const budget = ['--max-size', `${budgetBytes}B`];
    await machine.subscribe('mirror', one.mirror);
    const done = await machine.updated('mirror', ...budget);
    assert.deepEqual([done['outcome'], done['nars']], ['complete', PATHS]);
    await one.process.stop();
    const publisher = await lab.publisher(second, how);
    assert.equal(publisher.mirror, one.mirror);
    return { machine, budget, publisher };
  };

  test('the next edition never takes more than one NAR of space besides', async () => {
    const budgetBytes = editionBytes + largestBytes;
    const { machine, budget, publisher } = await scene(budgetBytes);
    await using _second = publisher.process;
    await using size = NarSize.watch(machine.store);
    const done = await machine.updated('mirror', ...budget);
    assert.deepEqual([done['outcome'], done['generation'], done['notes']], ['complete', 2, []]);
    await size.measure();
    assert.ok(size.mostBytes <= budgetBytes + largestBytes, `${size.mostBytes} bytes with max-size ${budgetBytes}`);
    const { narInfos } = await assertSound(machine.store, first.publicKey);
    assert.ok(narInfos.some((name) => second.root.endsWith(name)));
  });

  test('what a subscription or a pin keeps is not given up for the next edition, which takes the rest', async () => {
    const budgetBytes = editionBytes + 3 * largestBytes;
    const { machine, budget, publisher } = await scene(budgetBytes);
    await using _second = publisher.process;
    const pin = await machine.run(['pin', first.root]);
    assert.equal(pin.status, 0, pin.stderr);
    const earlier = await narsIn(machine);
    await using size = NarSize.watch(machine.store);
    const done = await machine.updated('mirror', ...budget);
    assert.match(String(done['notes']), /does not fit into --max-size, so it is held only in part: lab/);
    await size.measure();
    assert.ok(size.mostBytes <= budgetBytes + largestBytes, `${size.mostBytes} bytes with max-size ${budgetBytes}`);
    const later = await narsIn(machine);
    assert.ok(holdsAll(later, earlier), 'a NAR of the pinned path is gone');
    assert.ok(later.size > earlier.size, 'nothing of the second edition is here');
    await assertSound(machine.store, first.publicKey);
  });

  test('an edition that nobody has removes nothing of the one before', async () => {
    const { machine, budget, publisher } = await scene(editionBytes);
    await using _second = publisher.process;
    const earlier = await narsIn(machine);
    const away = newNars.map((name) => join(first.cacheDir, 'nar', name));
    for (const path of away) await rename(path, `${path}.away`);
    try {
      const run = await machine.update(['mirror', ...budget, '--peer-timeout', '1s']);
      assert.equal(run.event('subscription')['outcome'], 'incomplete', run.stdout);
    } finally {
      for (const path of away) await rename(`${path}.away`, path);
    }
    assert.ok(holdsAll(await narsIn(machine), earlier));
  });

  test('a killed update leaves a sound store, gc can still remove, and the next update completes', async () => {
    const { machine, budget, publisher } = await scene(editionBytes + largestBytes); // the second edition may be some bytes larger
    await using _second = publisher.process;
    const update = machine.startUpdate('mirror', ...budget);
    await using size = NarSize.watch(machine.store);
    await size.untilOneIsGone();
    await update.stop('SIGKILL');
    await assertSound(machine.store, first.publicKey, { afterKill: true });
    const { health, missing } = (await machine.run(['status', 'mirror'])).event('status');
    assert.deepEqual([health, missing], ['stale', []], 'a removed path is told as lost');
    const gc = await machine.run(['gc', '--max-size', '0']);
    assert.equal(gc.status, 0, gc.stderr);
    assert.ok(!gc.events.some(({ kind }) => kind === 'nothing-evicted'), gc.stdout);
    assert.equal((await machine.updated('mirror', ...budget))['outcome'], 'complete');
    const { narInfos } = await assertSound(machine.store, first.publicKey);
    assert.ok(narInfos.some((name) => second.root.endsWith(name)));
  });
});

async function narsIn(machine: Machine): Promise<Set<string>> {
  return new Set(await readdir(join(machine.store, 'nar')));
}

function holdsAll(names: ReadonlySet<string>, others: ReadonlySet<string>): boolean {
  return [...others].every((name) => names.has(name));
}

/** Measures the NARs of a store whenever one comes or goes. */
class NarSize implements AsyncDisposable {
  readonly #dir: string;
  readonly #stop = new AbortController();
  #measuring: Promise<void> = Promise.resolve();
  #names = new Set<string>();
  #whenGone = Promise.withResolvers<void>();
  mostBytes = 0;

  private constructor(store: string) {
    this.#dir = join(store, 'nar');
  }

  static watch(store: string): NarSize {
    const size = new NarSize(store);
    watch(size.#dir, { signal: size.#stop.signal }, () => void size.measure());
    return size;
  }

  /** Measures now. */
  measure(): Promise<void> {
    this.#measuring = this.#measuring.then(async () => {
      const names = await readdir(this.#dir);
      const bytes = await Promise.all(
        names.map((name) =>
          stat(join(this.#dir, name)).then(
            ({ size }) => size,
            () => 0,
          ),
        ),
      );
      if (!holdsAll(new Set(names), this.#names)) this.#whenGone.resolve();
      this.#names = new Set(names);
      this.mostBytes = Math.max(
        this.mostBytes,
        bytes.reduce((sum, one) => sum + one, 0),
      );
    });
    return this.#measuring;
  }

  /** Waits until a NAR that was there is gone. */
  untilOneIsGone(): Promise<void> {
    return this.#whenGone.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#measuring;
  }
}
