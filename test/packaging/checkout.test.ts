import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { tmpdir } from 'node:os';
import { delimiter } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { VERSION } from '../../src/version.ts';

test('a shell knows narswarm as the README says, in any folder, and runs it with the Node of the checkout', () => {
  const bin = fileURLToPath(new URL('../../node_modules/.bin', import.meta.url));
  const env = { ...process.env, PATH: `${bin}${delimiter}${process.env['PATH']}` };
  assert.equal(execFileSync('narswarm', ['--version'], { env, cwd: tmpdir(), encoding: 'utf8' }).trim(), VERSION);
});
