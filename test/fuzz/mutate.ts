import type { Random } from './random.ts';

/** Limit on the size of inputs, however often they are mutated. */
const MAX_INPUT_BYTES = 64 * 1024;
/** Numbers at the edges of the types that parsers use. */
const INTEGERS = [
  0, 1, 127, 128, 255, 256, 0x7f_ff, 0xff_ff, 0x0f_ff_ff_ff, 0x7f_ff_ff_ff, 0x80_00_00_00, 0xff_ff_ff_ff,
];
const DIGITS = ['-1', '0', '00', '1e9', '0x10', '4294967296', '9007199254740993', '18446744073709551616', 'NaN', ''];

type Mutation = (bytes: Buffer, random: Random, corpus: readonly Buffer[], words: readonly string[]) => Buffer;

const flipBit: Mutation = (bytes, random) => {
  const at = random.below(bytes.length);
  bytes[at] = bytes[at]! ^ (1 << random.below(8));
  return bytes;
};

const setByte: Mutation = (bytes, random) => {
  bytes[random.below(bytes.length)] = random.below(256);
  return bytes;
};

const setInteger: Mutation = (bytes, random) => {
  if (bytes.length < 4) return bytes;
  bytes.writeUInt32BE(random.pick(INTEGERS), random.below(bytes.length - 3));
  return bytes;
};

const truncate: Mutation = (bytes, random) => bytes.subarray(0, random.below(bytes.length));

const remove: Mutation = (bytes, random) => {
  const [start, end] = range(bytes, random);
  return Buffer.concat([bytes.subarray(0, start), bytes.subarray(end)]);
};

const repeat: Mutation = (bytes, random) => {
  const [start, end] = range(bytes, random);
  const times = 1 + random.below(random.below(8) === 0 ? 200 : 3);
  const part = bytes.subarray(start, end);
  return Buffer.concat([bytes.subarray(0, end), ...Array.from({ length: times }, () => part), bytes.subarray(end)]);
};

const splice: Mutation = (bytes, random, corpus) => {
  const other = random.pick(corpus);
  const [start, end] = range(other, random);
  const at = random.below(bytes.length);
  const overwritten = random.below(2) * (end - start);
  return Buffer.concat([bytes.subarray(0, at), other.subarray(start, end), bytes.subarray(at + overwritten)]);
};

const insertWord: Mutation = (bytes, random, _, words) => {
  const at = random.below(bytes.length);
  return Buffer.concat([bytes.subarray(0, at), Buffer.from(random.pick(words)), bytes.subarray(at)]);
};

/** Replaces digits by another number: sizes, counts, the lengths of bencoding. */
const changeNumber: Mutation = (bytes, random) => {
  const text = bytes.toString('latin1');
  const numbers = [...text.matchAll(/\d+/g)];
  if (numbers.length === 0) return bytes;
  const { index, 0: digits } = random.pick(numbers);
  const other = random.below(2) === 0 ? random.pick(DIGITS) : String(random.below(1 + Number(digits.slice(0, 9)) * 2));
  return Buffer.from(text.slice(0, index) + other + text.slice(index + digits.length), 'latin1');
};

const MUTATIONS: readonly Mutation[] = [
  flipBit,
  setByte,
  setInteger,
  truncate,
  remove,
  repeat,
  splice,
  insertWord,
  changeNumber,
];

/**
 * Makes one input: a sound one from the corpus with one to four mutations, sometimes bytes at random.
 *
 * @param words tokens of the format, to be inserted
 */
export function makeInput(random: Random, corpus: readonly Buffer[], words: readonly string[]): Buffer {
  if (random.below(64) === 0) return Buffer.from(Array.from({ length: random.below(256) }, () => random.below(256)));
  let bytes = Buffer.from(random.pick(corpus));
  for (let count = 1 + random.below(4); count > 0 && bytes.length > 0; count--)
    bytes = Buffer.from(random.pick(MUTATIONS)(bytes, random, corpus, words).subarray(0, MAX_INPUT_BYTES));
  return bytes;
}

/** Picks a random part of the bytes, mostly a short one. */
function range(bytes: Buffer, random: Random): [start: number, end: number] {
  const start = random.below(bytes.length + 1);
  const most = random.below(4) === 0 ? bytes.length - start : Math.min(16, bytes.length - start);
  return [start, start + random.below(most + 1)];
}
