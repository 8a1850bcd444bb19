import assert from 'node:assert/strict';
import { once } from 'node:events';
import { suite, test } from 'node:test';
import { NarswarmError } from '../../src/errors.ts';
import { msUntil, timeWindow } from '../../src/cli/time-window.ts';

suite('a time window', () => {
  const at = (hours: number, minutes: number, seconds = 0, ms = 0): Date =>
    new Date(2026, 0, 15, hours, minutes, seconds, ms);

  test('ends when the clock next shows the time, today or tomorrow', () => {
    assert.equal(msUntil('06:00', at(5, 59, 30)), 30_000);
    assert.equal(msUntil('00:10', at(23, 50)), 20 * 60_000);
    assert.equal(msUntil('06:00', at(6, 0)), 86_400_000);
  });

  test('interrupts with a status of its own, and says when', async () => {
    await using window = timeWindow('06:00', at(5, 59, 59, 990));
    await once(window.signal, 'abort');
    const { reason } = window.signal;
    assert.ok(reason instanceof NarswarmError);
    assert.deepEqual([reason.code, reason.exitStatus], ['INTERRUPTED', 130]);
    assert.match(reason.message, /stopped at 06:00/);
  });

  test('never ends where no time is given', async () => {
    await using window = timeWindow(undefined, at(6, 0));
    assert.equal(window.signal.aborted, false);
  });
});
