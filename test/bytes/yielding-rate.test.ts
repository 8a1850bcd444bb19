import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { LOWEST_BYTES_PER_SEC, YieldingRate } from '../../src/bytes/yielding-rate.ts';

const LINE = 2_500_000;
const BASE_MS = 20;
const LONGEST_QUEUE_MS = 300;
const LOOK_MS = 150;
/** Time after which what arrives shows a new rate. */
const LAG_MS = 750;

/** A line with a queue, as a home router has it, in a time of its own. */
class SimulatedLine {
  readonly rate = new YieldingRate();
  #nowMs = 0;
  #queueMs = 0;
  #arriving = 0;
  /** Bytes a second that others want to send. */
  others = 0;
  lineBytesPerSec = LINE;
  /** Milliseconds that the server takes for an answer. */
  serverMs = 0;
  bytes = 0;

  /** @returns the bytes a second that arrived for us */
  run(seconds: number): number {
    const before = this.bytes;
    for (let left = (seconds * 1000) / LOOK_MS; left > 0; left--) this.#step();
    return (this.bytes - before) / seconds;
  }

  #step(): void {
    this.#nowMs += LOOK_MS;
    const ours = this.rate.rateBytesPerSec;
    const wanted = ours + this.others;
    const line = this.lineBytesPerSec;
    this.#queueMs += (wanted / line - 1) * LOOK_MS;
    this.#queueMs = Math.min(LONGEST_QUEUE_MS, Math.max(0, this.#queueMs));
    const carried = this.#queueMs > 0 ? line * (ours / wanted) : ours;
    this.bytes += (carried * LOOK_MS) / 1000;
    this.#arriving += (carried - this.#arriving) * (LOOK_MS / LAG_MS);
    this.rate.look({
      nowMs: this.#nowMs,
      delayMs: BASE_MS + this.#queueMs + this.serverMs,
      isAnswered: true,
      arrivingBytesPerSec: this.#arriving,
    });
  }
}

suite('a rate that yields', () => {
  test('alone, it uses nine tenths of the line', () => {
    const line = new SimulatedLine();
    line.run(15);
    assert.ok(line.run(120) > 0.9 * LINE);
  });

  test('it leaves the line to those who fill its queue, for as long as they do', () => {
    const line = new SimulatedLine();
    line.run(30);
    line.others = LINE;
    line.run(5);
    assert.equal(line.rate.state, 'paused');
    assert.equal(line.rate.rateBytesPerSec, LOWEST_BYTES_PER_SEC);
    assert.ok(line.run(600) < 0.02 * LINE);
    line.others = 0;
    line.run(15);
    assert.ok(line.run(60) > 0.85 * LINE);
  });

  test('those who nearly fill the line without a queue keep nearly all of it', () => {
    const line = new SimulatedLine();
    line.run(30);
    line.others = 0.97 * LINE;
    line.run(10);
    assert.ok(line.run(60) < 0.12 * LINE);
  });

  test('it leaves the line to those who keep its queue short', () => {
    const rate = new YieldingRate();
    let nowMs = 0;
    const look = (queueMs: number, share: number): void => {
      nowMs += LOOK_MS;
      const arrivingBytesPerSec = Math.min(rate.rateBytesPerSec, LINE * share);
      rate.look({ nowMs, delayMs: BASE_MS + queueMs, isAnswered: true, arrivingBytesPerSec });
    };
    for (let count = 0; count < 400; count++) look(rate.rateBytesPerSec > LINE ? 100 : 0, 1);
    assert.equal(rate.state, 'cruising');
    for (let count = 0; count < 40; count++) look(0, 0.5);
    assert.equal(rate.state, 'cruising', 'a slow server leaves no queue');
    for (let count = 0; count < 20; count++) look(10, 0.5);
    assert.equal(rate.state, 'paused');
  });

  test('it finds out that the line has become faster, and slower', () => {
    const line = new SimulatedLine();
    line.run(30);
    line.lineBytesPerSec = 10 * LINE;
    line.run(180);
    assert.ok(line.run(30) > 8 * LINE);
    line.lineBytesPerSec = 5 * LINE;
    line.run(600);
    assert.ok(line.run(60) > 0.8 * line.lineBytesPerSec);
  });

  test('a server that is slow now and then does not take the line away for ever', () => {
    const line = new SimulatedLine();
    const runTenSeconds = (): number => {
      line.serverMs = 0;
      const quick = line.run(8.5);
      line.serverMs = 100;
      return 0.85 * quick + 0.15 * line.run(1.5);
    };
    for (let count = 0; count < 360; count++) runTenSeconds();
    const rates = Array.from({ length: 60 }, runTenSeconds);
    assert.ok(rates.reduce((sum, rate) => sum + rate, 0) / rates.length > 0.6 * LINE);
  });

  test('a question without an answer shows the queue before its answer comes', () => {
    const rate = new YieldingRate();
    let nowMs = 0;
    const look = (delayMs: number, isAnswered: boolean): number =>
      rate.look({ nowMs: (nowMs += 150), delayMs, isAnswered, arrivingBytesPerSec: 1e6 });
    for (let count = 0; count < 20; count++) look(20, true);
    const before = rate.rateBytesPerSec;
    look(60, false);
    assert.equal(rate.queueMs, 0, 'it may still come in time');
    for (let waitedMs = 150; waitedMs < 6_000; waitedMs += 150) look(waitedMs, false);
    assert.ok(rate.rateBytesPerSec < before);
    assert.equal(rate.state, 'paused');
  });

  test('the delay so far of a question on a long line is not its shortest', () => {
    const rate = new YieldingRate();
    for (let nowMs = 0; nowMs < 5_000; nowMs += 650) {
      for (let waitedMs = 50; waitedMs < 600; waitedMs += 50)
        rate.look({ nowMs: nowMs + waitedMs, delayMs: waitedMs, isAnswered: false, arrivingBytesPerSec: 1e6 });
      rate.look({ nowMs: nowMs + 600, delayMs: 600, isAnswered: true, arrivingBytesPerSec: 1e6 });
    }
    assert.equal(rate.queueMs, 0);
    assert.equal(rate.state, 'rising');
  });
});
