import assert from 'node:assert/strict';
import { inspect } from 'node:util';
import type { Warning } from '../../src/warning.ts';

/** Fails the test for any warning. */
export function failOnWarning(warning: Warning): never {
  assert.fail(inspect(warning));
}
