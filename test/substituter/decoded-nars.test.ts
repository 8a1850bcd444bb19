/** NARs that are decoded for a Nix that decodes one after another. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { PartialNar } from '../../src/store/partial.ts';
import { Arrival } from '../../src/substituter/arrival.ts';
import { DecodedNars, type GivenNar } from '../../src/substituter/decoded-nars.ts';
import { infoOf } from '../fetch/walk/narinfos.ts';
import { Lab } from '../support/lab.ts';

/** A multiple of the bytes that xz reads or writes at once. */
const BUFFER = 8 * 1024;
const SIZE = 150 * BUFFER;

/** A NAR, and the xz file that it is decoded from. */
interface Made {
  readonly nar: Buffer;
  readonly file: Buffer;
  readonly info: NarInfo;
}

function make(name: string, rest: Partial<NarInfo> = {}): Made {
  const nar = randomBytes(SIZE); // xz leaves it as long as it is
  const stream = execFileSync('xz', ['-c', '-0'], { input: nar, maxBuffer: Infinity });
  // With padding (xz file format, 2.2), xz decodes everything before it has the last bytes.
  const file = Buffer.concat([stream, Buffer.alloc(BUFFER - (stream.length % BUFFER) + 4)]);
  const fileHash = fileHashOf(createHash('sha256').update(file).digest());
  const narHash = narHashOf(createHash('sha256').update(nar).digest());
  return { nar, file, info: infoOf(name, [], { fileHash, fileSize: file.length, narHash, narSize: SIZE, ...rest }) };
}

/** A test that may leave something to close. */
interface Ended {
  after(close: () => Promise<void>): void;
}

/** What a client has received, and how that ended. */
interface Received {
  bytes: Buffer;
  end?: unknown;
}

function receive(given: GivenNar | undefined): Received {
  assert.ok(given !== undefined);
  const { nar, leave } = given;
  const received: Received = { bytes: Buffer.alloc(0) };
  const all = async (): Promise<void> => {
    for await (const chunk of nar.bytes()) received.bytes = Buffer.concat([received.bytes, chunk]);
  };
  void all()
    .finally(leave)
    .then(
      () => (received.end = 'whole'),
      (error: unknown) => (received.end = error),
    );
  return received;
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await sleep(2);
}

suite('NARs that are decoded here', () => {
  let lab: Lab;
  before(async () => {
    lab = await Lab.open();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** @param room in NARs */
  async function open(t: Ended, room = 4): Promise<{ dir: string; nars: DecodedNars }> {
    const store = await FileStore.open(await lab.folder('store'), { create: true });
    const nars = new DecodedNars({ store, roomBytes: room * SIZE });
    t.after(() => nars[Symbol.asyncDispose]());
    return { dir: store.dir, nars };
  }

  async function arriving(
    t: Ended,
    { file, info }: Made,
  ): Promise<{ arrival: Arrival; partial: PartialNar; end: () => Promise<void> }> {
    const dir = await lab.folder('arriving');
    const { fileHash } = info;
    assert.ok(fileHash !== undefined);
    const partial = await PartialNar.open(join(dir, 'partial'), { sizeBytes: file.length, fileHash });
    t.after(() => partial.close());
    const arrival = new Arrival(info, { fileHash, sizeBytes: file.length });
    arrival.begin(partial);
    const end = async (): Promise<void> => {
      await partial.settle(join(dir, 'target'));
      arrival.complete(join(dir, 'target'));
    };
    return { arrival, partial, end };
  }

  async function held(made: Made): Promise<{ kind: 'here'; path: string }> {
    const path = join(await lab.folder('held'), 'nar.xz');
    await writeFile(path, made.file);
    return { kind: 'here', path };
  }

  test('come while they arrive, but for the last bytes, which wait for the check of the file', async (t) => {
    const { nars, dir } = await open(t);
    const made = make('arriving');
    const { arrival, partial, end } = await arriving(t, made);
    const received = receive(nars.get(made.info, { kind: 'arriving', arrival }));
    await partial.write(0, [made.file], 'cache');
    await until(() => received.bytes.length >= SIZE - 1);
    assert.equal(received.bytes.length, SIZE - 1);
    assert.equal(received.end, undefined);
    assert.deepEqual(await readdir(join(dir, 'narswarm')), [], 'a process that is killed leaves nothing');
    await end();
    await until(() => received.end !== undefined);
    assert.equal(received.end, 'whole');
    assert.ok(received.bytes.equals(made.nar));
  });

  test('end before their last byte if the file does not arrive', async (t) => {
    const { nars } = await open(t);
    const made = make('failing');
    const { arrival, partial } = await arriving(t, made);
    const nar = nars.get(made.info, { kind: 'arriving', arrival });
    const received = receive(nar);
    await partial.write(0, [made.file], 'cache');
    await until(() => received.bytes.length >= SIZE - 1);
    const failure = new Error('no source has it');
    arrival.fail(failure);
    await until(() => received.end !== undefined);
    assert.equal(received.end, failure);
    assert.ok(received.bytes.length < SIZE);
    assert.equal(await nars.mayDecode(made.info), true, 'xz is not to blame');
  });

  test('are never whole with another NarHash', async (t) => {
    const { nars } = await open(t);
    const made = make('other', { narHash: make('another').info.narHash });
    const received = receive(nars.get(made.info, await held(made)));
    await until(() => received.end !== undefined);
    assert.equal((received.end as { code?: string }).code, 'HASH_MISMATCH');
    assert.ok(received.bytes.length < SIZE);
  });

  for (const [what, narSize] of [
    ['more', SIZE - 10_000],
    ['fewer', SIZE + 10_000],
  ] as const)
    test(`are never whole with ${what} bytes than NarSize, and later narinfos name the file`, async (t) => {
      const { nars } = await open(t);
      const made = make('wrong-size', { narSize });
      const given = nars.get(made.info, await held(made));
      const received = receive(given);
      await until(() => received.end !== undefined);
      assert.notEqual(received.end, 'whole');
      assert.ok(received.bytes.length < narSize);
      assert.equal(given?.nar.isUndecodable, true);
      assert.equal(await nars.mayDecode(make('next').info), false);
      nars.endUnread();
      assert.equal(await nars.mayDecode(make('next').info), true);
    });

  test('are xz files of at least 1 MiB for which there is room', async (t) => {
    const { nars } = await open(t, 4);
    const { info } = make('usual');
    assert.equal(await nars.mayDecode(info), true);
    for (const other of [{ compression: 'zstd' }, { narSize: 1024 ** 2 - 1 }, { narSize: 3 * SIZE }])
      assert.equal(await nars.mayDecode({ ...info, ...other }), false, JSON.stringify(other));
  });

  test('are decoded ahead once a client wants some decoded, as far as there is room', async (t) => {
    const { nars } = await open(t, 2);
    const all = [make('first'), make('second'), make('third')];
    const [first, second, third] = await Promise.all(all.map((made) => arriving(t, made)));
    assert.ok(first !== undefined && second !== undefined && third !== undefined);
    nars.follow(first.arrival);
    assert.equal(nars.size, 0);
    for (const { info } of all) await nars.mayDecode(info);
    for (const { arrival } of [first, second, third]) nars.follow(arrival);
    assert.equal(nars.size, 2);
    await first.partial.write(0, [all[0]!.file], 'cache');
    await first.end();
    const received = receive(nars.get(all[0]!.info, { kind: 'arriving', arrival: first.arrival }));
    await until(() => received.end !== undefined);
    assert.ok(received.bytes.equals(all[0]!.nar));
    await until(() => nars.size === 2); // the third has begun
    const fourth = make('fourth');
    const asked = receive(nars.get(fourth.info, await held(fourth)));
    for (const { arrival } of [second, third]) arrival.fail(new Error('not needed'));
    await until(() => asked.end !== undefined);
    assert.ok(asked.bytes.equals(fourth.nar));
  });

  test('take no more room than there is, however many are asked for', async (t) => {
    const { nars } = await open(t, 2);
    const made = ['one', 'two', 'three'].map((name) => make(name));
    const arrivals = await Promise.all(made.map((one) => arriving(t, one)));
    const given = arrivals.map(({ arrival }) => nars.get(arrival.info, { kind: 'arriving', arrival }));
    assert.deepEqual(
      given.map((one) => one !== undefined),
      [true, true, false],
    );
    for (const { arrival } of arrivals) arrival.fail(new Error('not needed'));
  });

  test('stay for clients that wait for their first byte, and no longer', async (t) => {
    const { nars } = await open(t, 1);
    const [first, second] = [make('first'), make('second')];
    const { arrival } = await arriving(t, first);
    const clients = [1, 2].map(() => nars.get(first.info, { kind: 'arriving', arrival }));
    for (const client of clients) {
      assert.ok(client !== undefined);
      nars.endUnread();
      assert.equal(nars.hasReaders, true);
      assert.equal(nars.get(second.info, await held(second)), undefined);
      assert.equal(client.nar.failure, undefined);
      client.leave();
      client.leave(); // it counts once
    }
    assert.equal(nars.size, 0);
    const received = receive(nars.get(second.info, await held(second)));
    await until(() => received.end !== undefined);
    assert.equal(received.end, 'whole');
    arrival.fail(new Error('not needed'));
  });

  test('do not end a later one of the same file', async (t) => {
    const { nars } = await open(t);
    const made = make('again');
    const { arrival, partial, end } = await arriving(t, made);
    const half = Math.floor(made.file.length / 2);
    await partial.write(0, [made.file.subarray(0, half)], 'cache');
    const first = nars.get(made.info, { kind: 'arriving', arrival });
    await first?.nar.begun();
    first?.leave();
    const received = receive(nars.get(made.info, { kind: 'arriving', arrival }));
    await until(() => received.bytes.length > 0 || received.end !== undefined);
    await partial.write(half, [made.file.subarray(half)], 'cache'); // the first one sees that, too
    await until(() => received.bytes.length === SIZE - 1 || received.end !== undefined);
    assert.equal(nars.size, 1);
    await end();
    await until(() => received.end !== undefined);
    assert.equal(received.end, 'whole');
    assert.ok(received.bytes.equals(made.nar));
  });
});
