import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';

import { rateAt } from '../../src/bytes/rate-schedule.ts';
import { parseRates } from '../../src/config/rates.ts';
import { NarswarmError } from '../../src/errors.ts';

/** 2 November 2026 is a Monday. */
const at = (time: string, day = 2): Date =>
  new Date(2026, 10, day, ...(time.split(':').map(Number) as [number, number]));
const MB = 1e6;

suite('rates by the time', () => {
  test('a single rate always applies', () => {
    for (const text of ['5MB/s', '5 MB', ' 5mb/s ']) assert.equal(rateAt(parseRates(text), at('03:00')), 5 * MB);
    assert.equal(rateAt(parseRates('unlimited'), at('03:00')), undefined);
    assert.equal(rateAt([], at('03:00')), undefined);
  });

  test('a window over midnight belongs to the day on which it begins', () => {
    const rates = parseRates('5MB/s, Fri 22:00-06:00 unlimited');
    const seen = (time: string, day: number) => rateAt(rates, at(time, day));
    assert.equal(seen('21:59', 6), 5 * MB);
    assert.equal(seen('22:00', 6), undefined);
    assert.equal(seen('05:59', 7), undefined);
    assert.equal(seen('06:00', 7), 5 * MB);
    assert.equal(seen('05:59', 6), 5 * MB);
    assert.equal(seen('22:00', 7), 5 * MB);
  });

  test('in the nights in which the clock changes the wall clock counts', () => {
    const zone = process.env['TZ'];
    process.env['TZ'] = 'Europe/Berlin';
    try {
      const seen = (text: string, time: string): number | undefined => rateAt(parseRates(text), new Date(time));
      const morning = '1MB/s, 02:30-06:00 unlimited';
      assert.equal(seen(morning, '2026-03-29T00:59:59Z'), 1 * MB); // 01:59:59
      assert.equal(seen(morning, '2026-03-29T01:00:00Z'), undefined); // 03:00, an hour on
      const early = '1MB/s, 02:00-03:00 unlimited';
      for (const time of ['2026-10-25T00:30:00Z', '2026-10-25T01:30:00Z']) assert.equal(seen(early, time), undefined); // 02:30, twice
      for (const time of ['2026-10-24T23:59:59Z', '2026-10-25T02:00:00Z']) assert.equal(seen(early, time), 1 * MB);
      const night = 'Sat 22:00-06:00 5MB/s, 22:00-06:00 unlimited, Sat 22:00-06:00 2MB/s';
      assert.equal(seen(night, '2026-10-25T04:59:59Z'), 2 * MB); // 05:59:59 of a night of nine hours
      assert.equal(seen(night, '2026-10-25T05:00:00Z'), undefined); // in no window
    } finally {
      if (zone === undefined) delete process.env['TZ'];
      else process.env['TZ'] = zone;
    }
  });

  const cases: readonly (readonly [rates: string, time: string, day: number, rate: number | undefined])[] = [
    ['5MB/s, 22:00-06:00 unlimited', '12:00', 2, 5 * MB],
    ['5MB/s, 22:00-06:00 unlimited', '23:00', 2, undefined],
    ['22:00-06:00 unlimited, 5MB/s', '23:00', 2, undefined], // a limit with a time comes before one without
    ['08:00-18:00 1MB/s', '07:59', 2, undefined], // outside of all windows, no limit
    ['08:00-18:00 1MB/s', '08:00', 2, 1 * MB],
    ['08:00-18:00 1MB/s', '18:00', 2, undefined],
    ['8:00-18:00 1MB/s, 12:00-13:00 2MB/s', '12:30', 2, 2 * MB], // the last window that holds
    ['12:00-13:00 2MB/s, 8:00-18:00 1MB/s', '12:30', 2, 1 * MB],
    ['1MB/s, Sat-Sun 10MB/s', '12:00', 2, 1 * MB],
    ['1MB/s, Sat-Sun 10MB/s', '12:00', 7, 10 * MB],
    ['1MB/s, Sat-Sun 10MB/s', '23:59', 8, 10 * MB],
    ['1MB/s, Sun-Mon 10MB/s', '12:00', 2, 10 * MB],
    ['1MB/s, Mon-Fri 08:00-18:00 500kB/s', '12:00', 6, 0.5 * MB],
    ['1MB/s, mon-fri 08:00-18:00 500kB/s', '12:00', 7, 1 * MB],
    ['1MB/s, 20:00-24:00 UNLIMITED', '23:59', 2, undefined],
    ['1MB/s, 20:00-24:00 unlimited', '00:00', 3, 1 * MB],
  ];
  for (const [rates, time, day, rate] of cases)
    test(`${rates}: at ${time} of the ${day}th`, () => assert.equal(rateAt(parseRates(rates), at(time, day)), rate));

  const wrong: readonly (readonly [text: string, says: RegExp])[] = [
    ['', /rate above 0/],
    ['0', /rate above 0/],
    ['fast', /rate above 0/],
    ['5MB/s, fast', /not "fast"/],
    ['5MB/s,', /not ""/],
    ['22:00-06:00', /not "22:00-06:00"/],
    ['25:00-06:00 1MB/s', /not "25:00-06:00 1MB\/s"/],
    ['22:00-06:00 5', /not "22:00-06:00 5"/],
    ['24:30-06:00 1MB/s', /up to 24:00/],
    ['24:00-06:00 1MB/s', /first before 24:00/],
    ['06:00-06:00 1MB/s', /two different times/],
    ['5MB/s, 2MB/s', /one rate without a time/],
    ['Xyz 22:00-06:00 1MB/s', /not "Xyz 22:00-06:00 1MB\/s"/],
  ];
  for (const [text, says] of wrong)
    test(`refuses ${JSON.stringify(text)}`, () =>
      assert.throws(() => parseRates(text), { code: 'USAGE', message: says }));

  test('garbage is refused with an error of our own', () => {
    fc.assert(
      fc.property(fc.stringMatching(/^[0-9:, kMGB/sunlimtedSatFri-]{0,40}$/), (text) => {
        try {
          for (const rate of parseRates(text).map(({ rateBytesPerSec }) => rateBytesPerSec))
            assert.ok(rate === undefined || rate > 0);
        } catch (error) {
          if (!(error instanceof NarswarmError)) throw error;
        }
      }),
    );
  });
});
