/** What a client gets of a NAR while it arrives. */
import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, test, type TestContext } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { fileHashOf } from '../../src/nix/hash.ts';
import { PartialNar } from '../../src/store/partial.ts';
import { Arrival } from '../../src/substituter/arrival.ts';
import { bytesOf } from '../../src/substituter/nar-body.ts';
import type { NarTorrent } from '../../src/torrent/canonical.ts';
import { infoOf } from '../fetch/walk/narinfos.ts';
import { torrentOf } from '../swarm/swarm-fixture.ts';

const SIZE = 3_000_000;
const PIECE = 256 * 1024;

interface Scene {
  readonly bytes: Buffer;
  readonly partial: PartialNar;
  readonly arrival: Arrival;
  /** Whether no source has sent a byte for too long. */
  readonly silence: { isTooLong: boolean };
  readonly target: string;
  /** What the client has received so far, and how its connection ended. */
  readonly received: { bytes: number; end?: unknown };
}

/** @param hasPieces true if the pieces of the NAR are known */
async function scene(t: TestContext, hasPieces: boolean): Promise<Scene> {
  const dir = await mkdtemp(join(tmpdir(), 'narswarm-test-'));
  t.after(() => rm(dir, { recursive: true, force: true }));
  const bytes = randomBytes(SIZE);
  const fileHash = fileHashOf(createHash('sha256').update(bytes).digest());
  const torrent: NarTorrent | undefined = hasPieces ? torrentOf(bytes) : undefined;
  const partial = await PartialNar.open(join(dir, 'partial'), { sizeBytes: SIZE, fileHash, torrent });
  t.after(() => partial.close());
  const silence = { isTooLong: false };
  const info = infoOf('blob', [], { fileHash, fileSize: SIZE });
  const arrival = new Arrival(info, { fileHash, sizeBytes: SIZE }, () => silence.isTooLong);
  arrival.begin(partial);
  const received: Scene['received'] = { bytes: 0 };
  const receive = async (): Promise<void> => {
    for await (const chunk of bytesOf(arrival)) {
      assert.ok(chunk.equals(bytes.subarray(received.bytes, received.bytes + chunk.length)) || !hasPieces);
      received.bytes += chunk.length;
    }
  };
  void receive().then(
    () => (received.end = 'whole'),
    (error: unknown) => (received.end = error),
  );
  return { bytes, partial, arrival, silence, target: join(dir, 'target'), received };
}

async function until(isSo: () => boolean): Promise<void> {
  while (!isSo()) await setImmediate();
}

/** Lets everything happen that can. */
async function rest(): Promise<void> {
  for (let turn = 0; turn < 200; turn++) await setImmediate();
}

suite('the bytes of an arriving NAR', () => {
  for (const hasPieces of [true, false])
    test(`all come but the last, which waits for the check of the whole (pieces known: ${hasPieces})`, async (t) => {
      const { bytes, partial, arrival, target, received } = await scene(t, hasPieces);
      await partial.write(0, [bytes], 'cache');
      await until(() => received.bytes >= SIZE - PIECE);
      await rest();
      assert.ok(received.bytes < SIZE);
      await partial.settle(target);
      arrival.complete(target);
      await until(() => received.end !== undefined);
      assert.deepEqual(received, { bytes: SIZE, end: 'whole' });
    });

  test('a wrong piece is held back, and comes once it is right', async (t) => {
    const { bytes, partial, arrival, target, received } = await scene(t, true);
    const wrong = Buffer.from(bytes);
    wrong[PIECE + 1]! ^= 1;
    await partial.write(0, [wrong], 'cache');
    await until(() => received.bytes === PIECE);
    await rest();
    assert.equal(received.bytes, PIECE);
    await assert.rejects(partial.settle(target), { code: 'HASH_MISMATCH' });
    await partial.write(PIECE, [bytes.subarray(PIECE, 2 * PIECE)], 'other cache');
    await partial.settle(target);
    arrival.complete(target);
    await until(() => received.end !== undefined);
    assert.deepEqual(received, { bytes: SIZE, end: 'whole' });
  });

  test('wrong bytes that were passed on and replaced end it before its last byte', async (t) => {
    const { bytes, partial, arrival, target, received } = await scene(t, false);
    const wrong = Buffer.from(bytes);
    wrong[10]! ^= 1;
    await partial.write(0, [wrong.subarray(0, 2 * PIECE)], 'cache');
    await until(() => received.bytes === 2 * PIECE);
    partial.reset();
    await partial.write(0, [bytes], 'other cache');
    await partial.settle(target);
    arrival.complete(target);
    await until(() => received.end !== undefined);
    assert.notEqual(received.end, 'whole');
    assert.ok(received.bytes < SIZE);
  });

  test('a failure of the fetch ends it', async (t) => {
    const { bytes, partial, arrival, received } = await scene(t, false);
    await partial.write(0, [bytes.subarray(0, PIECE)], 'cache');
    await until(() => received.bytes === PIECE);
    const failure = new Error('no source has the rest');
    arrival.fail(failure);
    await until(() => received.end !== undefined);
    assert.equal(received.end, failure);
  });

  test('silence of all sources ends it, but not while a whole file is checked', async (t) => {
    const { bytes, partial, arrival, silence, target, received } = await scene(t, false);
    await partial.write(0, [bytes], 'cache');
    silence.isTooLong = true;
    arrival.wake();
    await until(() => received.bytes === SIZE - 1);
    await rest();
    assert.equal(received.end, undefined);
    await partial.settle(target);
    arrival.complete(target);
    await until(() => received.end !== undefined);
    assert.equal(received.end, 'whole');

    const other = await scene(t, false);
    await other.partial.write(0, [other.bytes.subarray(0, PIECE)], 'cache');
    await until(() => other.received.bytes === PIECE);
    other.silence.isTooLong = true;
    other.arrival.wake();
    await rest();
    assert.equal((other.received.end as { code?: string }).code, 'HTTP_STALLED');
  });
});
