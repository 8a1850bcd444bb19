/** The end of a time window, by simulated clocks. */
import assert from 'node:assert/strict';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { isNarswarmError } from '../../../src/errors.ts';
import { reportFailure } from '../../../src/cli/output.ts';
import { endOf, timeWindow } from '../../../src/cli/options/time-window.ts';

const HOUR_MS = 3_600_000;

describe('a time window', () => {
  let zone: string | undefined;
  beforeEach(() => {
    zone = process.env['TZ'];
    process.env['TZ'] = 'Europe/Berlin';
  });
  afterEach(() => {
    if (zone === undefined) delete process.env['TZ'];
    else process.env['TZ'] = zone;
  });

  const hoursUntil = (until: string, now: Date): number => (endOf(until, now).getTime() - now.getTime()) / HOUR_MS;

  test('ends when the clock next shows the time: today, or tomorrow', () => {
    const evening = new Date(2026, 5, 10, 22, 0);
    assert.equal(hoursUntil('23:30', evening), 1.5);
    assert.equal(hoursUntil('06:00', evening), 8);
    assert.equal(hoursUntil('6:05', new Date(2026, 5, 11, 6, 0)), 5 / 60);
    assert.equal(hoursUntil('00:00', evening), 2);
    assert.equal(hoursUntil('00:00', new Date(2026, 11, 31, 23, 59)), 1 / 60, 'the year ends');
  });

  test('that names the present minute ends tomorrow', () => {
    assert.equal(hoursUntil('22:00', new Date(2026, 5, 10, 22, 0, 0, 0)), 24);
    assert.equal(hoursUntil('22:00', new Date(2026, 5, 10, 22, 0, 30)), 24 - 30 / 3600);
    assert.ok(hoursUntil('22:00', new Date(2026, 5, 10, 21, 59, 59, 999)) < 1 / 3600);
  });

  test('in the night in which the clock goes forward is an hour shorter', () => {
    const evening = new Date(2026, 2, 28, 22, 0);
    assert.equal(hoursUntil('06:00', evening), 7);
    assert.equal(hoursUntil('22:00', evening), 23);
    assert.equal(hoursUntil('02:30', evening), 4.5, 'there is no 02:30: it is 03:30');
    assert.equal(endOf('02:30', evening).getHours(), 3);
  });

  test('in the night in which the clock goes back is an hour longer', () => {
    const evening = new Date(2026, 9, 24, 22, 0);
    assert.equal(hoursUntil('06:00', evening), 9);
    assert.equal(hoursUntil('22:00', evening), 25, 'a day of 25 hours is not cut short');
    assert.equal(hoursUntil('02:30', evening), 4.5, 'the first of the two');
  });

  test('aborts at its end and not before, with INTERRUPTED', async ({ mock }) => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: new Date(2026, 5, 10, 22, 0) });
    await using window = timeWindow('06:00', new Date());
    mock.timers.tick(8 * HOUR_MS - 1);
    assert.equal(window.signal.aborted, false);
    mock.timers.tick(1);
    assert.ok(isNarswarmError(window.signal.reason, 'INTERRUPTED'));
    assert.match(window.signal.reason.message, /stopped at 06:00; the next update continues from here/);
    const { mock: print } = mock.method(process.stderr, 'write', () => true);
    const status = reportFailure(window.signal.reason, { json: false });
    const [said] = print.calls.map(({ arguments: [text] }) => text);
    print.restore();
    assert.deepEqual([status, said], [130, 'stopped at 06:00; the next update continues from here\n']);
  });

  test('ends soon after the machine has slept through its end', async ({ mock }) => {
    const evening = new Date(2026, 5, 10, 22, 0);
    const clock = mock.method(Date, 'now', () => evening.getTime());
    mock.timers.enable({ apis: ['setTimeout'] });
    await using window = timeWindow('06:00', evening);
    clock.mock.mockImplementation(() => evening.getTime() + 11 * HOUR_MS); // while the timers did not run
    mock.timers.tick(30_000);
    assert.equal(window.signal.aborted, true);
  });

  test('no longer aborts once it is closed, and never without an end', async ({ mock }) => {
    mock.timers.enable({ apis: ['setTimeout', 'Date'], now: new Date(2026, 5, 10, 22, 0) });
    const closed = timeWindow('06:00', new Date());
    await closed[Symbol.asyncDispose]();
    await using endless = timeWindow(undefined, new Date());
    mock.timers.tick(48 * HOUR_MS);
    assert.deepEqual([closed.signal.aborted, endless.signal.aborted], [false, false]);
  });
});
