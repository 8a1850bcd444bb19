import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { isNarswarmError } from '../../../src/errors.ts';
import { narHashOf } from '../../../src/nix/hash.ts';
import { readNar } from '../../../src/store/hashing/hash-nar.ts';
import { eachAtEncoders, writeNar, type NarFormat } from '../../../src/store/export/write-nar.ts';
import { RandomStream } from '../../bench/random.ts';

suite('writeNar', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-'));
  });
  after(() => rm(dir, { recursive: true }));

  async function* partsOf(bytes: Buffer): AsyncGenerator<Buffer> {
    for (let at = 0; at < bytes.length; at += 60_000) yield bytes.subarray(at, at + 60_000);
  }
  const { signal } = new AbortController();
  const write = (bytes: Buffer, to: string, format: NarFormat, onBytes: (bytes: number) => void = () => undefined) =>
    writeNar(partsOf(bytes), to, { format, narSize: bytes.length, signal, onBytes });

  for (const format of [
    { compression: 'none' },
    { compression: 'zstd' },
    { compression: 'zstd', level: 19 },
    { compression: 'xz' },
  ] as const) {
    test(`writes ${format.compression} files whose hashes and contents are as it says`, async () => {
      for (const narSize of [112, 262_143, 262_144, 262_145, 1_000_000]) {
        const bytes = new RandomStream(String(narSize)).bytes(narSize);
        const to = join(dir, 'file');
        let seen = 0;
        const written = await write(bytes, to, format, (count) => (seen += count));
        assert.equal(seen, narSize);
        assert.equal(written.narHash, narHashOf(createHash('sha256').update(bytes).digest()));
        const read = await readNar(to, { compression: format.compression, narSize });
        const { fileHash, sizeBytes, narHash } = read ?? {};
        assert.deepEqual(written, { narHash, fileHash, sizeBytes, pieces: Buffer.from(read?.pieces ?? []) });
      }
    });
  }

  test('zstd files are the same, in whatever parts the NAR comes', async () => {
    const bytes = Buffer.from(new RandomStream('text').bytes(300_000).toString('hex'));
    const hashes = new Set<string>();
    for (const partBytes of [1_000, 65_536, 70_001, 300_000, bytes.length]) {
      const parts = Array.from({ length: Math.ceil(bytes.length / partBytes) }, (_, index) =>
        bytes.subarray(index * partBytes, (index + 1) * partBytes),
      );
      // An iterator whose parts are all there: the end comes right after the last one.
      const atOnce: AsyncIterable<Buffer> = {
        [Symbol.asyncIterator]: () => {
          const rest = parts.values();
          return { next: () => Promise.resolve(rest.next()) };
        },
      };
      const options = {
        format: { compression: 'zstd' },
        narSize: bytes.length,
        signal,
        onBytes: () => undefined,
      } as const;
      hashes.add((await writeNar(atOnce, join(dir, 'file'), options)).fileHash);
    }
    assert.equal(hashes.size, 1);
  });

  test('says what is missing without xz', async () => {
    const { PATH } = process.env;
    process.env['PATH'] = dir;
    try {
      await assert.rejects(write(Buffer.alloc(1e6), join(dir, 'file'), { compression: 'xz' }), (error) => {
        return isNarswarmError(error, 'NIX_MISSING') && /install xz, or choose --compression zstd/.test(error.message);
      });
    } finally {
      process.env['PATH'] = PATH;
    }
  });

  test('names the folder if it cannot write there', async () => {
    for (const compression of ['zstd', 'xz', 'none'] as const) {
      await assert.rejects(write(Buffer.alloc(1e6), join(dir, 'none', 'file'), { compression }), (error) =>
        isNarswarmError(error, 'STORE_UNWRITABLE'),
      );
    }
    assert.deepEqual(await readdir(dir), ['file']);
  });
});

test('several NARs are compressed at a time, all of them once', async () => {
  const { promise: maySettle, resolve: settle } = Promise.withResolvers<void>();
  const nars = Array.from({ length: 100 }, (_, at) => at);
  const begun: number[] = [];
  const working = eachAtEncoders(nars, new AbortController().signal, (nar) => {
    begun.push(nar);
    return maySettle;
  });
  assert.ok(begun.length > 1 || availableParallelism() === 1, 'one began before another had ended');
  assert.ok(begun.length <= availableParallelism());
  settle();
  await working;
  assert.deepEqual(begun, nars);
});
