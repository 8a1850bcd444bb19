import assert from 'node:assert/strict';
import { test } from 'node:test';
import { namesOf, shortener } from '../../../src/cli/words/publisher-names.ts';
import { parsePublisherAddress } from '../../../src/index/address.ts';

const keyOf = (digits: string): string => digits.padEnd(64, '0');
const magnetOf = (digits: string, rest = ''): string => `magnet:?xs=urn:btpk:${keyOf(digits)}${rest}`;
const namesOfTexts = (...texts: string[]): string[] => [...namesOf(texts.map(parsePublisherAddress)).values()];
const hex = (text: string): string => Buffer.from(text).toString('hex');

test('a publisher has the first eight digits of its key for a name, or as many as tell the keys apart', () => {
  assert.deepEqual(namesOfTexts(magnetOf('3f9a1c2d77')), ['3f9a1c2d…']);
  assert.deepEqual(namesOfTexts(magnetOf('3f9a1c2d77'), magnetOf('3f9a1c2d78'), magnetOf('aa')), [
    '3f9a1c2d77…',
    '3f9a1c2d78…',
    'aa000000…',
  ]);
});

test('a name comes before the digits: that of the user, then the salt, then the host of the mirror', () => {
  const salt = `&s=${hex('lab')}`;
  const mirror = `https://cache.example.org/map?xs=urn:btpk:${keyOf('a1')}`;
  assert.deepEqual(namesOfTexts(`${mirror}${salt}&dn=mine`), ['mine']);
  assert.deepEqual(namesOfTexts(`${mirror}${salt}`), ['lab']);
  assert.deepEqual(namesOfTexts(mirror), ['cache.example.org']);
  assert.deepEqual(namesOfTexts(magnetOf('a1'), mirror), ['cache.example.org'], 'one hash map in two forms');
});

test('no two publishers have one name, and none can take the digits of another', () => {
  const salt = `&s=${hex('lab')}`;
  assert.deepEqual(namesOfTexts(magnetOf('a1', salt), magnetOf('b1', salt)), ['a1000000…', 'b1000000…']);
  assert.deepEqual(namesOfTexts(magnetOf('a1', `&s=${hex('b1000000')}`), magnetOf('b1')), ['a1000000…', 'b1000000…']);
  assert.deepEqual(namesOfTexts(magnetOf('a1'), magnetOf('a1', `&s=${hex('a b')}`)), ['a1000000…', 'a%20b@a1000000…']);
  assert.deepEqual(namesOfTexts(magnetOf('a1', '&dn=b%1b[2J')), ['a1000000…'], 'and it is a name');
});

test('addresses of known publishers are shortened wherever they are in a text, and others stay', () => {
  const known = `${magnetOf('a1')}&s=${hex('lab')}`;
  const shorten = shortener([parsePublisherAddress(known)]);
  const mirror = `http://10.0.0.7:16276/?xs=urn:btpk:${keyOf('a1')}&s=${hex('lab')}`;
  assert.equal(shorten(`${known}#desktop`), 'lab#desktop');
  assert.equal(shorten(`${mirror}: it is silent; ${known}, too`), 'lab: it is silent; lab, too');
  assert.equal(shorten(`(magnet:?dn=x&xs=urn:btpk:${keyOf('A1')}&s=${hex('lab')})`), '(lab)');
  assert.equal(shorten(magnetOf('a1')), magnetOf('a1'), 'another hash map of that key');
  assert.equal(shorten(magnetOf('b1')), magnetOf('b1'));
});

test('an address in a command line that can be pasted stays', () => {
  const known = magnetOf('a1');
  const text = `run narswarm subscribe mirror '${known}#desktop'`;
  assert.equal(shortener([parsePublisherAddress(known)])(text), text);
});

test('a long word of a stranger takes little processor time', () => {
  const text = `${'http://'.repeat(100_000)}xs=urn:btpk:`;
  const before = process.cpuUsage();
  assert.equal(shortener([parsePublisherAddress(magnetOf('aa'))])(text), text);
  const { user } = process.cpuUsage(before); // 1 s, and much longer without a bound
  assert.ok(user < 8e6, `${user} µs`);
});
