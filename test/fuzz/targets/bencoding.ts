import bencode from 'bencode';
import { endOfValue } from '../../../src/torrent/bencoding.ts';
import type { FuzzTarget } from '../target.ts';

const SOUND = [
  'd1:ad2:id20:aaaaaaaaaaaaaaaaaaaae1:q4:ping1:t2:aa1:y1:qe',
  'li-3ei0e3:abcd0:leee',
  'd1:md11:ut_metadatai3eee',
];

/** Bencoding (BEP 3): the library decodes everything that our check accepts to its end, and quickly. */
export function bencoding(): FuzzTarget {
  return {
    corpus: SOUND.map((text) => Buffer.from(text)),
    words: ['d', 'l', 'e', 'i', ':', '-', '0:', '999999999:', 'i-0e', '9:__proto__'],
    read(input) {
      let end: number;
      try {
        end = endOfValue(input, 0);
      } catch (error) {
        if (error instanceof RangeError) return;
        throw error;
      }
      bencode.decode(input.subarray(0, end));
    },
  };
}
