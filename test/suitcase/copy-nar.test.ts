import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { isNarswarmError } from '../../src/errors.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { copyNar } from '../../src/suitcase/copy-nar.ts';
import type { SuitcaseNar } from '../../src/suitcase/suitcase-nars.ts';

const BYTES = randomBytes(3 * 1024 * 1024 + 17);
const NAR: SuitcaseNar = {
  storePath: parseStorePath('/nix/store/00000000000000000000000000000000-nar'),
  fileHash: fileHashOf(createHash('sha256').update(BYTES).digest()),
  sizeBytes: BYTES.length,
  name: 'nar.xz',
};

suite('a NAR is copied onto a disk', () => {
  let dir: string;
  let source: string;
  let count = 0;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-copy-'));
    source = join(dir, 'source');
    await writeFile(source, BYTES);
  });
  after(() => rm(dir, { recursive: true }));

  /** @returns the number of bytes that were written */
  const copy = async (part: string, from = source, signal = new AbortController().signal): Promise<number> => {
    let written = 0;
    await copyNar(from, part, NAR, { signal, onBytes: (bytes) => void (written += bytes) });
    return written;
  };
  const newPart = async (content?: Uint8Array): Promise<string> => {
    const part = join(dir, `${count++}.part`);
    if (content !== undefined) await writeFile(part, content);
    return part;
  };

  test('whole', async () => {
    const part = await newPart();
    assert.equal(await copy(part), BYTES.length);
    assert.ok(BYTES.equals(await readFile(part)));
  });

  test('from where an interrupted run has ended', async () => {
    const part = await newPart(BYTES.subarray(0, 1_500_000));
    assert.equal(await copy(part), BYTES.length - 1_500_000);
    assert.ok(BYTES.equals(await readFile(part)));
  });

  test('again, if the disk has lost bytes of that run', async () => {
    const torn = Buffer.from(BYTES.subarray(0, 2_000_000)).fill(0, 1_000_000);
    const part = await newPart(torn);
    await copy(part);
    assert.ok(BYTES.equals(await readFile(part)));
  });

  test('again, over a longer file', async () => {
    const part = await newPart(Buffer.concat([BYTES, BYTES]));
    assert.equal(await copy(part), BYTES.length);
    assert.ok(BYTES.equals(await readFile(part)));
  });

  test('but not if the file store has other bytes', async () => {
    const damaged = join(dir, 'damaged');
    const bytes = Buffer.from(BYTES);
    bytes[2_000_000]! ^= 1;
    await writeFile(damaged, bytes);
    const part = await newPart(BYTES.subarray(0, 10));
    await assert.rejects(copy(part, damaged), (error) => {
      assert.ok(isNarswarmError(error, 'STORE_CORRUPT'));
      assert.match(error.message, /narswarm verify --repair/);
      return true;
    });
    assert.equal(existsSync(part), false);
  });

  test('but not through a link or into a pipe', async () => {
    const target = join(dir, 'target');
    await writeFile(target, 'precious');
    const part = await newPart();
    await symlink(target, part);
    await assert.rejects(copy(part), (error) => isNarswarmError(error, 'STORE_UNWRITABLE'));
    assert.equal(await readFile(target, 'utf8'), 'precious');
    const pipe = await newPart();
    assert.equal(spawnSync('mkfifo', [pipe]).status, 0);
    await assert.rejects(copy(pipe), (error) => isNarswarmError(error, 'STORE_UNWRITABLE'));
  });

  test('until it is interrupted; what was written stays', async () => {
    const part = await newPart();
    const stop = new AbortController();
    const signal = stop.signal;
    const onBytes = (): void => stop.abort(new Error('enough'));
    await assert.rejects(copyNar(source, part, NAR, { signal, onBytes }), /enough/);
    const there = await readFile(part);
    assert.ok(BYTES.subarray(0, there.length).equals(there));
    await copy(part);
    assert.ok(BYTES.equals(await readFile(part)));
  });
});
