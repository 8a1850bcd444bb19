/** How a file arrives, from a clock and ranges alone. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Arrival } from '../../../src/exchange/download/arrival.ts';

const KB = 1_000;

function arrival(): { readonly clock: { ms: number }; readonly made: Arrival } {
  const clock = { ms: 0 };
  return { clock, made: new Arrival(() => clock.ms) };
}

suite('Arrival', () => {
  test('a host gives a file for three seconds after each range', () => {
    const { clock, made } = arrival();
    assert.equal(made.isFrom('h1'), false);
    made.onRange('h1', KB);
    clock.ms = 2_999;
    assert.equal(made.isFrom('h1'), true);
    assert.equal(made.isFrom('h2'), false);
    clock.ms = 3_000;
    assert.equal(made.isFrom('h1'), false);
    made.onRange('h1', KB);
    assert.equal(made.isFrom('h1'), true);
  });

  test('the rate is that of the last ten seconds, over all hosts, and stays while nothing is requested', () => {
    const { clock, made } = arrival();
    assert.equal(made.bytesPerSec, undefined);
    for (const host of ['h1', 'h2', 'h1', 'h2', 'h1']) {
      made.onRange(host, 100 * KB);
      clock.ms += 1_000;
    }
    assert.equal(made.bytesPerSec, 100 * KB);
    made.stop();
    clock.ms += 60_000;
    assert.equal(made.bytesPerSec, 100 * KB);
    made.start();
    assert.equal(made.bytesPerSec, 0);
  });
});
