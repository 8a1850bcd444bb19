import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { after, before, describe, test } from 'node:test';
import { constants, createZstdCompress, zstdCompressSync } from 'node:zlib';
import { applyPatch, type Base } from '../../src/delta/apply.ts';
import {
  encodeHeader,
  HEADER_BYTES,
  PART_BYTES,
  partsOf,
  WINDOW_BYTES,
  type PartHeader,
} from '../../src/delta/format.ts';
import { makePatch } from '../../src/delta/make.ts';

const MIB = 1024 * 1024;
const { signal } = new AbortController();

/** A NAR that comes in chunks. */
function narOf(bytes: Buffer): Base {
  return {
    narSize: bytes.length,
    nar: (async function* () {
      for (let at = 0; at < bytes.length; at += 100_003) yield bytes.subarray(at, at + 100_003);
    })(),
  };
}

describe('patches', () => {
  let dir: string;
  let path: string;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-patch-'));
    path = join(dir, 'patch');
  });
  after(() => rm(dir, { recursive: true, force: true }));

  const make = (base: Buffer, nar: Buffer): Promise<number | undefined> =>
    makePatch(narOf(base), narOf(nar), { path, maxBytes: Infinity, signal });
  const apply = async (
    base: Buffer,
    narSize: number,
    onChunk = (_bytes: Buffer): void => undefined,
  ): Promise<Buffer> => {
    const chunks: Buffer[] = [];
    for await (const bytes of applyPatch(path, narOf(base), { narSize, signal })) {
      onChunk(bytes);
      chunks.push(bytes);
    }
    return Buffer.concat(chunks);
  };
  const refused = (base: Buffer, narSize: number, says: RegExp): Promise<void> =>
    assert.rejects(apply(base, narSize), { code: 'HASH_MISMATCH', message: says });

  test('a changed NAR is made out of its base, wherever the change is', async () => {
    const base = randomBytes(3 * MIB);
    for (const at of [0, 1000, 2 * MIB, base.length]) {
      const nar = Buffer.concat([base.subarray(0, at), Buffer.from('more'), base.subarray(at)]);
      assert.ok(((await make(base, nar)) ?? Infinity) < 1000);
      assert.deepEqual(await apply(base, nar.length), nar);
    }
  });

  test('zstd --patch-from decodes a small one, and what zstd makes is a patch', async () => {
    const base = randomBytes(MIB);
    const nar = Buffer.concat([Buffer.from('front'), base]);
    const [basePath, narPath] = [join(dir, 'base'), join(dir, 'nar')];
    await writeFile(basePath, base);
    await writeFile(narPath, nar);
    await make(base, nar);
    const run = (...args: readonly string[]): void => {
      const { status, stderr } = spawnSync('zstd', ['-f', '-q', `--patch-from=${basePath}`, ...args]);
      assert.equal(status, 0, String(stderr));
    };
    run('-d', path, '-o', join(dir, 'decoded'));
    assert.deepEqual(await readFile(join(dir, 'decoded')), nar);
    run(narPath, '-o', path);
    assert.deepEqual(await apply(base, nar.length), nar);
  });

  test('a large NAR is made in parts, of windows that move with it', async () => {
    const base = randomBytes(WINDOW_BYTES + 9 * MIB);
    const nar = Buffer.concat([
      base.subarray(0, 100),
      Buffer.from('new'),
      base.subarray(100, -5000),
      randomBytes(7000),
    ]);
    const parts = partsOf(nar.length, base.length);
    assert.equal(parts.length, 3);
    assert.equal(
      parts.reduce((sum, { narBytes }) => sum + narBytes, 0),
      nar.length,
    );
    assert.ok(parts.every(({ baseBytes, narBytes }) => baseBytes === WINDOW_BYTES && narBytes <= PART_BYTES));
    assert.ok(((await make(base, nar)) ?? Infinity) < 30_000);
    const made = await apply(base, nar.length);
    assert.equal(Buffer.compare(made, nar), 0);
  });

  test('a patch that gets too large is not finished', async () => {
    const [base, nar] = [randomBytes(MIB), randomBytes(MIB)];
    assert.equal(await makePatch(narOf(base), narOf(nar), { path, maxBytes: MIB / 2, signal }), undefined);
  });

  test('of a bomb, no more than the NAR comes out', async () => {
    const base = randomBytes(1000);
    await writeFile(path, zstdCompressSync(Buffer.alloc(50 * MIB), { dictionary: base }));
    let bytes = 0;
    await assert.rejects(
      apply(base, 2 * MIB, (chunk) => (bytes += chunk.length)),
      { code: 'HASH_MISMATCH', message: /more bytes than its part/ },
    );
    assert.ok(bytes <= 2 * MIB);
  });

  test('a frame that wants a large window is refused before it is there', async () => {
    const nar = randomBytes(1000);
    /** A frame that does not name its size, and keeps the window. */
    const frameOf = async (windowLog: number): Promise<Buffer> => {
      const encoder = createZstdCompress({ params: { [constants.ZSTD_c_windowLog]: windowLog } });
      encoder.write(nar);
      encoder.flush(() => encoder.end());
      return buffer(encoder);
    };
    await writeFile(path, await frameOf(24));
    assert.deepEqual(await apply(randomBytes(1000), nar.length), nar);
    await writeFile(path, await frameOf(25));
    await refused(randomBytes(1000), nar.length, /wrong/);
  });

  test('a wrong base, a torn patch and one that goes on are refused', async () => {
    const base = randomBytes(MIB);
    const nar = Buffer.concat([Buffer.from('front'), base]);
    const size = (await make(base, nar)) ?? 0;
    assert.notDeepEqual(await apply(randomBytes(MIB), nar.length).catch(() => undefined), nar);
    const patch = await readFile(path);
    await writeFile(path, patch.subarray(0, size - 3));
    await refused(base, nar.length, /wrong/);
    await writeFile(path, patch);
    await refused(base, nar.length + 1, /fewer bytes/);
    await refused(base.subarray(1), nar.length, /wrong/);
    assert.equal((await stat(path)).size, size);
  });

  describe('hostile headers', () => {
    const base = Buffer.alloc(WINDOW_BYTES + 10);
    const good: PartHeader = { baseOffset: 0, baseBytes: 1000, narBytes: MIB, frameBytes: 20 };
    const cases: Readonly<Record<string, readonly [Partial<PartHeader>, RegExp]>> = {
      'parts without bytes, which would never end': [{ narBytes: 0 }, /a part of it has 0 bytes/],
      'small parts, each of which would cost a decoder with its window': [{ narBytes: 1 }, /a part of it has 1 bytes/],
      'a part larger than the NAR': [{ narBytes: 2 * MIB }, /a part of it has/],
      'a window beyond the base': [{ baseOffset: WINDOW_BYTES, baseBytes: 11 }, /window of it is not in the base/],
      'a window larger than allowed': [{ baseBytes: WINDOW_BYTES + 1 }, /too large/],
      'an endless frame': [{ frameBytes: 0x1000_0000 }, /a frame of it has/],
    };
    for (const [name, [change, says]] of Object.entries(cases))
      test(name, async () => {
        await writeFile(path, Buffer.concat([encodeHeader({ ...good, ...change }), Buffer.alloc(100)]));
        await refused(base, MIB, says);
      });

    test('windows that go back, for which the base would be read again and again', async () => {
      const part = PART_BYTES;
      const frame = (offset: number): Buffer => {
        const bytes = zstdCompressSync(Buffer.alloc(part), { pledgedSrcSize: part });
        const header = { baseOffset: offset, baseBytes: 1000, narBytes: part, frameBytes: bytes.length };
        return Buffer.concat([encodeHeader(header), bytes]);
      };
      await writeFile(path, Buffer.concat([frame(5), frame(5)]));
      assert.equal((await apply(base, 2 * part)).length, 2 * part);
      await writeFile(path, Buffer.concat([frame(5), frame(4)]));
      await refused(base, 2 * part, /go back/);
    });

    test('bytes behind the last part, and no header', async () => {
      await writeFile(path, Buffer.alloc(HEADER_BYTES));
      await refused(base, MIB, /no header/);
    });
  });
});
