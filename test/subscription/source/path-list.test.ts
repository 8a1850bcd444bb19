import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { execa } from 'execa';
import { isNarswarmError } from '../../../src/errors.ts';
import { readPathList } from '../../../src/subscription/source/path-list.ts';
import { failsWith } from '../../nix/fixtures.ts';
import { tempDir } from '../../store/store-fixture.ts';

const A = '/nix/store/00000000000000000000000000000000-a';
const B = '/nix/store/11111111111111111111111111111111-b';
const refused = (reason: RegExp) => failsWith('USAGE', reason);
const readPaths = (bytes: Uint8Array, name: string, options: { signal?: AbortSignal; maxBytes?: number } = {}) =>
  readPathList(bytes, name, { storeDir: '/nix/store', ...options });
const read = (text: string) => readPaths(Buffer.from(text), 'list.txt');

async function xz(text: string): Promise<Uint8Array> {
  return (await execa('xz', ['-c', '-0'], { input: text, encoding: 'buffer' })).stdout;
}

suite('readPathList', () => {
  test('reads one path per line, without repetitions, and ignores blank lines and comments', async () => {
    assert.deepEqual(await read(`# paths\n\n${A}\r\n  ${B}\t\n  # more\n${A}`), [A, B]);
  });

  test('recognises xz by its first bytes', async () => {
    assert.deepEqual(await readPaths(await xz(`${A}\n${B}\n`), 'anything'), [A, B]);
  });

  test('reads tens of thousands of lines', async () => {
    const paths = Array.from(
      { length: 60_000 },
      (_, index) => `/nix/store/${String(index).padStart(32, '0')}-package-${index}`,
    );
    assert.deepEqual(await readPaths(await xz(paths.join('\n')), 'store-paths.xz'), paths);
  });

  test('names a malformed line', async () => {
    for (const bad of ['hello', `${A}/bin`, 'nix/store', `${A} ${B}`, A.replace('/nix', '/other')]) {
      await assert.rejects(read(`${A}\n# x\n${bad}\n`), (error) => {
        assert.ok(isNarswarmError(error, 'USAGE') && error.facts.line === 3, String(error));
        assert.match(error.message, /^list\.txt has no path of \/nix\/store in line 3: "/);
        return true;
      });
    }
  });

  test('refuses a web page in one sentence, and an empty list', async () => {
    for (const page of ['<!DOCTYPE html><title>x', '\n <html>', '<?xml version="1.0"?>']) {
      await assert.rejects(
        read(page),
        refused(/^list\.txt is a web page, not a list of store paths: check the address$/),
      );
    }
    for (const empty of ['', '\n# nothing\n']) await assert.rejects(read(empty), refused(/lists no store path/));
  });

  test('refuses truncated and damaged xz', async () => {
    const sound = await xz(`${A}\n`.repeat(100));
    await assert.rejects(readPaths(sound.subarray(0, -8), 'x.xz'), refused(/^x\.xz is not valid xz/));
    const damaged = Uint8Array.from(sound, (byte, index) => (index === 30 ? byte ^ 0xff : byte));
    await assert.rejects(readPaths(damaged, 'x.xz'), refused(/is not valid xz/));
  });

  test('refuses a too long list before all of it is in memory', async () => {
    const bomb = await xz(`${A}\n`.repeat(1000));
    await assert.rejects(
      readPaths(bomb, 'x.xz', { maxBytes: 2000 }),
      refused(/longer than 2000 bytes when decompressed/),
    );
    await assert.rejects(readPaths(Buffer.from(`${A}\n${B}`), 'x', { maxBytes: 20 }), refused(/longer than 20 bytes$/));
  });

  test('reads a list of line breaks, of which no array could hold the lines', async () => {
    const breaks = Buffer.alloc(140_000_000, '\n');
    breaks.write(A, 139_000_000);
    assert.deepEqual(await readPaths(breaks, 'x'), [A]);
  });

  test('ends if aborted, and throws the reason', async (t) => {
    const bytes = await xz(A);
    const reason = new Error('enough');
    await assert.rejects(readPaths(bytes, 'x.xz', { signal: AbortSignal.abort(reason) }), reason);
    const { PATH } = process.env;
    const bin = await tempDir(t);
    await writeFile(join(bin, 'xz'), '#!/bin/sh\nexec sleep 60\n', { mode: 0o755 });
    process.env.PATH = `${bin}:${PATH}`;
    const controller = new AbortController();
    const reading = readPaths(bytes, 'x.xz', { signal: controller.signal });
    await setImmediate(); // xz runs, or is about to
    process.env.PATH = PATH;
    controller.abort(reason);
    await assert.rejects(reading, reason);
  });

  test('says so if xz is not installed', async () => {
    const bytes = await xz(A);
    const { PATH } = process.env;
    process.env.PATH = '/nowhere';
    try {
      await assert.rejects(readPaths(bytes, 'x.xz'), refused(/no `xz` in PATH/));
    } finally {
      process.env.PATH = PATH;
    }
  });
});
