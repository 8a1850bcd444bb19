import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { NarswarmError } from '../../../src/errors.ts';
import {
  each,
  formatDuration,
  formatSize,
  one,
  parseAddress,
  parseDuration,
  parsePort,
  parseRequired,
  parseRates,
  parseSize,
} from '../../../src/cli/words/values.ts';

const isRefused = { name: 'InvalidArgumentError', exitCode: 1 } as const;

test('sizes have decimal units, or binary ones with an i, with or without B', () => {
  const sizes = {
    '0': 0,
    '500': 500,
    '500B': 500,
    '10MB': 1e7,
    '10 MB': 1e7,
    '1.5k': 1500,
    '4GiB': 4 * 2 ** 30,
    '1ti': 2 ** 40,
  };
  for (const [text, bytes] of Object.entries(sizes)) assert.equal(parseSize(text), bytes, text);
  for (const text of ['', 'MB', '-1', '1e3', '10XB', '1..5M', '10M M'])
    assert.throws(() => parseSize(text), isRefused, text);
});

test('a rate is a size per second, above 0', () => {
  for (const text of ['10MB/s', '10MB', '10MB/sec', '10MBps'])
    assert.deepEqual(parseRates(text), [{ rateBytesPerSec: 1e7 }], text);
  for (const text of ['0', '0MB/s', 'fast', '10MB/h']) assert.throws(() => parseRates(text), isRefused, text);
});

test('durations have a unit', () => {
  const durations = {
    '200ms': 200,
    '90s': 90_000,
    '1.5m': 90_000,
    '30min': 1_800_000,
    '8h': 28_800_000,
    '2d': 172_800_000,
    '1w': 604_800_000,
    '0s': 0,
  };
  for (const [text, ms] of Object.entries(durations)) assert.equal(parseDuration(text), ms, text);
  for (const text of ['', '10', 's', '-1s', '1y', '1h30m']) assert.throws(() => parseDuration(text), isRefused, text);
});

test('addresses are IP addresses, and localhost', () => {
  for (const address of ['127.0.0.1', '::1', '0.0.0.0']) assert.equal(parseAddress(address), address);
  assert.equal(parseAddress('localhost'), '127.0.0.1');
  for (const text of ['999.1.1.1', 'nonsense host', 'example.org']) assert.throws(() => parseAddress(text), isRefused);
});

test('ports are whole numbers up to 65535', () => {
  assert.deepEqual(['0', '6881', '65535'].map(parsePort), [0, 6881, 65_535]);
  for (const text of ['', '65536', '-1', '1.5', '0x10', '80a']) assert.throws(() => parsePort(text), isRefused, text);
});

test('a number of publishers is 1 or more, whatever else was given', () => {
  assert.deepEqual(['1', '12'].map(parseRequired), [1, 12]);
  for (const text of ['0', '', '-1', '1.5', 'two'])
    assert.throws(() => parseRequired(text), { message: 'Expected a whole number, 1 or more.' }, text);
});

test('a parser reports usage errors to commander, and a bug stays a bug', () => {
  const refuse = (): never => {
    throw new NarswarmError('KEY_INVALID', 'not a key');
  };
  assert.throws(() => one(refuse)('x'), { ...isRefused, message: 'not a key' });
  const defect = new TypeError('defect');
  assert.throws(
    () =>
      one(() => {
        throw defect;
      })('x'),
    defect,
  );
  assert.deepEqual(each(Number)('2', each(Number)('1', undefined)), [1, 2]);
});

test('sizes and durations are short and readable', () => {
  assert.deepEqual([0, 999, 1000, 12_345, 123_456, 1.4e9, 2e13].map(formatSize), [
    '0 B',
    '999 B',
    '1.00 kB',
    '12.3 kB',
    '123 kB',
    '1.40 GB',
    '20.0 TB',
  ]);
  assert.deepEqual([486.666_666_7, 0.4, 999.6, 999_600].map(formatSize), ['487 B', '0 B', '1.00 kB', '1.00 MB']);
  assert.deepEqual([0, 850, 12_345, 245_000, 11_400_000].map(formatDuration), [
    '0 ms',
    '850 ms',
    '12.3 s',
    '4 min 05 s',
    '3 h 10 min',
  ]);
  const fraction = fc.double({ min: 0, max: 1e15, noNaN: true });
  fc.assert(fc.property(fraction, (bytes) => formatSize(bytes).length <= 8));
  fc.assert(fc.property(fc.nat(), (bytes) => formatSize(bytes).length <= 8 && formatDuration(bytes).length <= 14));
});
