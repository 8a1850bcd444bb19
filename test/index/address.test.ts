import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { formatPublisherAddress, MAX_SALT_BYTES, parsePublisherAddress, saltBytes } from '../../src/index/address.ts';
import { failsWith } from '../nix/fixtures.ts';
import { throwsOnlyOwnErrors } from './fixtures.ts';

/** The key of the test vectors in BEP 44, and their salt, `foobar`. */
const HEX = '77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548';
const ADDRESS = { publicKey: new Uint8Array(Buffer.from(HEX, 'hex')), publicKeyHex: HEX, salt: 'foobar' };
const MAGNET = `magnet:?xs=urn:btpk:${HEX}&s=666f6f626172`;
const withSalt = (hex: string) => `magnet:?xs=urn:btpk:${HEX}&s=${hex}`;
const invalid = (reason: RegExp) => failsWith('ADDRESS_INVALID', reason);

test('reads and writes the magnet links of BEP 46', () => {
  assert.deepEqual(parsePublisherAddress(MAGNET), ADDRESS);
  assert.equal(formatPublisherAddress(ADDRESS), MAGNET);
});

test('without s the salt is empty', () => {
  const bare = `magnet:?xs=urn:btpk:${HEX}`;
  assert.deepEqual(parsePublisherAddress(bare), { ...ADDRESS, salt: '' });
  assert.deepEqual(parsePublisherAddress(`${bare}&s=`), { ...ADDRESS, salt: '' });
  assert.equal(formatPublisherAddress({ ...ADDRESS, salt: '' }), bare);
});

test('reads and writes the URL of an HTTP mirror', () => {
  const query = `?xs=urn:btpk:${HEX}&s=666f6f626172`;
  for (const [text, baseUrl] of [
    ['https://cache.example.org/maps/desktop', 'https://cache.example.org/maps/desktop'],
    ['https://cache.example.org/maps//', 'https://cache.example.org/maps'],
    ['http://[2001:db8::1]:8080/', 'http://[2001:db8::1]:8080'],
    ['http://cache.example.org', 'http://cache.example.org'],
  ] as const) {
    const address = parsePublisherAddress(`${text}${query}&utm=1#top`);
    assert.deepEqual(address, { ...ADDRESS, baseUrl });
    assert.equal(formatPublisherAddress(address), `${baseUrl}/${query}`);
  }
});

test('accepts hex in capitals, and ignores other parameters and surrounding space', () => {
  const loud = ` magnet:?tr=x&xs=urn:btpk:${HEX.toUpperCase()}&s=666F6F626172\n`;
  assert.deepEqual(parsePublisherAddress(loud), ADDRESS);
});

test('keeps the label of the user, which is no part of the address', () => {
  const labelled = parsePublisherAddress(`${withSalt('666f6f626172')}&dn=the%20lab`);
  assert.deepEqual(labelled, { ...ADDRESS, label: 'the lab' });
  assert.deepEqual(parsePublisherAddress(formatPublisherAddress(labelled)), ADDRESS);
});

test('refuses anything else, and shows both forms', () => {
  for (const [text, reason] of [
    ['', /is not a URL/],
    [HEX, /is not a URL/],
    ['magnet:?s=00', /xs is not a public key/],
    [`magnet:?xs=urn:btpk:${HEX.slice(1)}`, /xs is not a public key/],
    [`magnet:?xs=urn:btpk:${HEX}0`, /xs is not a public key/],
    [`magnet:?xs=urn:btih:${HEX}`, /xs is not a public key/],
    [`magnet:?xt=urn:btpk:${HEX}`, /xs is not a public key/],
    [`${MAGNET}&xs=urn:btpk:${HEX}`, /more than one xs/],
    [`${MAGNET}&s=00`, /more than one s:/],
    [withSalt('6'), /s is not the hex/],
    [withSalt('zz'), /s is not the hex/],
    [withSalt('ff'), /s is not the hex/],
    [withSalt('61'.repeat(65)), /s is not the hex/],
    [`ftp://example.org/?xs=urn:btpk:${HEX}`, /scheme ftp:/],
  ] as const) {
    assert.throws(() => parsePublisherAddress(text), invalid(reason), text);
    assert.throws(() => parsePublisherAddress(text), invalid(/expected magnet:\?xs=.* or https:\/\/<host>/), text);
  }
});

test('a salt has at most 64 bytes of UTF-8', () => {
  assert.equal(saltBytes('ä'.repeat(32)).length, MAX_SALT_BYTES);
  assert.equal(parsePublisherAddress(`magnet:?xs=urn:btpk:${HEX}&s=${'61'.repeat(64)}`).salt.length, 64);
  for (const salt of [`${'ä'.repeat(32)}x`, '\uD800']) {
    assert.throws(() => saltBytes(salt), invalid(/at most 64 bytes/));
    assert.throws(() => formatPublisherAddress({ ...ADDRESS, salt }), invalid(/at most 64 bytes/));
  }
});

test('parse reads back the output of format', () => {
  const anyAddress = fc
    .record(
      {
        publicKey: fc.uint8Array({ minLength: 32, maxLength: 32 }),
        salt: fc.string({ unit: 'binary', maxLength: 16 }),
        baseUrl: fc.webUrl().map((url) => new URL(url).href.replace(/\/+$/, '')),
      },
      { requiredKeys: ['publicKey', 'salt'], noNullPrototype: true },
    )
    .map((parts) => Object.assign(parts, { publicKeyHex: Buffer.from(parts.publicKey).toString('hex') }));
  fc.assert(
    fc.property(anyAddress, (address) => {
      assert.deepEqual(parsePublisherAddress(formatPublisherAddress(address)), address);
    }),
  );
});

test('refuses garbage with a NarswarmError', () => {
  const almost = fc.string().map((text) => MAGNET + text);
  const anyText = fc.oneof(fc.string(), fc.webUrl({ withQueryParameters: true }), almost);
  fc.assert(fc.property(anyText, (text) => throwsOnlyOwnErrors(() => parsePublisherAddress(text))));
});
