import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { RateLimit, type RateClock } from '../../src/bytes/rate-limit.ts';
import { RateLimits } from '../../src/bytes/rate-limits.ts';
import type { RateSchedule } from '../../src/bytes/rate-schedule.ts';

/** A clock that begins at 21:59:30 and moves only when it is set. */
class StoppedClock implements RateClock {
  #ms = 0;

  readonly nowMs = (): number => this.#ms;
  readonly date = (): Date => new Date(new Date(2026, 10, 2, 21, 59, 30).getTime() + this.#ms);

  forward(seconds: number): void {
    this.#ms += seconds * 1000;
  }
}

const NIGHT: RateSchedule = [
  { rateBytesPerSec: 1000 },
  { rateBytesPerSec: undefined, when: { days: [0, 1, 2, 3, 4, 5, 6], from: 22 * 60, until: 6 * 60 } },
];

suite('limits by the time of day', () => {
  test('a limit changes at its time, up and down', () => {
    const clock = new StoppedClock();
    const limit = new RateLimit(NIGHT, { clock });
    assert.equal(limit.rateBytesPerSec, 1000);
    assert.equal(limit.take(20_200), 20_000);
    assert.equal(limit.isUsedUp, true);
    clock.forward(31);
    assert.equal(limit.rateBytesPerSec, undefined);
    assert.equal(limit.take(1e9), 0);
    assert.equal(limit.isUsedUp, false);
    clock.forward(8 * 3600);
    assert.equal(limit.take(1200), 1000, 'nothing of the night is left over');
  });

  test('bytes that do not wait delay later ones, for twenty seconds at most', () => {
    const clock = new StoppedClock();
    const wan = new RateLimit(1_000, { clock, within: new RateLimit(2_000, { clock }) });
    wan.charge(5_200);
    assert.equal(wan.debtMs, 5_000);
    wan.charge(1e9);
    assert.equal(wan.debtMs, 20_000);
    wan.charge(1);
    assert.equal(wan.debtMs, 20_000);
    assert.equal(wan.take(1_000), 21_000);
    assert.equal(wan.isUsedUp, true);
    wan.charge(1);
    assert.equal(wan.debtMs, 21_000, 'a longer one stays');
  });

  test('bytes taken at the old rate do not delay the new one', () => {
    const clock = new StoppedClock();
    const limit = new RateLimit(
      [{ rateBytesPerSec: 1 }, { rateBytesPerSec: 1e6, when: { days: [1], from: 1320, until: 0 } }],
      {
        clock,
      },
    );
    assert.ok(limit.take(100_000) > 90_000_000);
    clock.forward(31);
    assert.equal(limit.take(200_000), 0, 'a burst of the new rate');
    assert.equal(limit.take(500_000), 500);
  });

  test('a transfer that waits for the old rate continues at the new one', async () => {
    const clock = new StoppedClock();
    const limit = new RateLimit(NIGHT, { clock });
    const waiting = limit.pace(1_000_000, AbortSignal.timeout(10_000));
    clock.forward(31);
    await waiting;
  });
});

suite('limits beyond the local network', () => {
  const isNear = (host: string): boolean => host.startsWith('192.168.');
  const rates = (
    all: number | undefined,
    wan: number | undefined,
  ): { download: RateSchedule; wanDownload: RateSchedule } => ({
    download: [{ rateBytesPerSec: all }],
    wanDownload: [{ rateBytesPerSec: wan }],
  });

  test('neighbours are slowed down only by the limit for all traffic', () => {
    const { download } = new RateLimits(rates(undefined, 1000), isNear, new StoppedClock());
    assert.equal(download.towards('192.168.1.2').take(1e9), 0);
    assert.equal(download.towards('203.0.113.1').take(1200), 1000);
    assert.equal(download.towards('192.168.1.2').take(1e9), 0);
    assert.equal(download.towards('192.168.1.2').isUsedUp, false);
    assert.equal(download.isUsedUp, true);
  });

  test('bytes from the internet count for both limits', () => {
    const { download } = new RateLimits(rates(10_000, 1000), isNear, new StoppedClock());
    assert.equal(download.towards('203.0.113.1').take(3200), 3000);
    assert.equal(download.towards('192.168.1.2').take(0), 120, '3200 of 10000 a second are gone');
    assert.equal(download.towards('203.0.113.1').isUsedUp, true);
  });

  test('the tighter of two limits applies', () => {
    const { download } = new RateLimits(rates(1000, 10_000), isNear, new StoppedClock());
    assert.equal(download.towards('203.0.113.1').take(1200), 1000);
    assert.equal(download.isUsedUp, true);
  });

  test('work in the background yields beyond the local network, within the limits of the user', () => {
    const limits = new RateLimits(rates(undefined, 1000), isNear, new StoppedClock());
    const { download, yielding } = limits.forBackground();
    assert.deepEqual([limits.download.yields, download.yields], [false, true]);
    assert.ok(yielding);
    assert.equal(download.towards('203.0.113.1').take(1200), 1000, 'the limit of the user');
    for (let nowMs = 0; nowMs < 10_000; nowMs += 200) yielding.onDelay(nowMs < 3_000 ? 20 : 300, true, nowMs);
    assert.equal(yielding.state, 'paused');
    assert.equal(download.isUsedUp, true);
    assert.ok(download.towards('203.0.113.1').take(100_000) > 100_000);
    assert.equal(download.towards('192.168.1.2').take(1e9), 0);
    assert.equal(limits.upload.towards('203.0.113.1').take(1e9), 0);
    yielding.onBlind();
    for (let waitMs = 50; waitMs < 10_000; waitMs += 50) yielding.onDelay(waitMs, false, 10_000 + waitMs);
    assert.equal(yielding.rateBytesPerSec, Infinity, 'a server that does not answer limits nothing');
    yielding.onDelay(20, true, 20_000);
    assert.notEqual(yielding.rateBytesPerSec, Infinity);
  });

  test('directions are independent, and without limits nothing waits', () => {
    const limits = new RateLimits(
      { upload: [{ rateBytesPerSec: 1000 }] },
      () => assert.fail('asked'),
      new StoppedClock(),
    );
    assert.equal(limits.download.towards('203.0.113.1').take(1e9), 0);
    assert.equal(limits.upload.towards('203.0.113.1').take(1200), 1000);
    assert.deepEqual([limits.download.isUsedUp, limits.upload.isUsedUp], [false, true]);
  });
});
