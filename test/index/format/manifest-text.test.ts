import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { formatManifestText, parseManifestText } from '../../../src/index/format/manifest-text.ts';
import type { Manifest } from '../../../src/index/format/manifest-text.ts';
import { failsWith, TOP } from '../../nix/fixtures.ts';
import { anyManifest, FIXTURES, KEY } from '../fixtures.ts';

const SHA256 = '1'.repeat(52);
const TEXT = readFileSync(new URL('manifest', FIXTURES), 'utf8')
  .replace(/Sig: .*\n$/, '')
  .replace(/^Records:/m, `Previous: 41 ${SHA256}\n$&`);
const MANIFEST = parse(TEXT);

function parse(text: string): Manifest {
  return parseManifestText(text).manifest;
}

/** Returns TEXT with one line replaced. */
function altered(key: string, value: string): string {
  const line = new RegExp(`^${key}: .*$`, 'm');
  assert.match(TEXT, line);
  return TEXT.replace(line, () => `${key}: ${value}`);
}

test('parse reads back the output of format, with the key', () => {
  const publicKeyHex = Buffer.from(KEY.publicKey).toString('hex');
  fc.assert(
    fc.property(anyManifest(), (manifest) => {
      const text = formatManifestText(manifest, KEY.publicKey);
      assert.deepEqual(parseManifestText(text), { manifest, publicKeyHex });
    }),
  );
});

test('refuses another version, with the way out', () => {
  for (const key of ['Narswarm', 'PieceLengthVersion']) {
    assert.throws(() => parse(altered(key, '3')), failsWith('INDEX_INVALID', /: update narswarm$/));
  }
  const older = altered('PieceLengthVersion', '1');
  assert.throws(() => parse(older), failsWith('INDEX_INVALID', /of an older narswarm: update it at the publisher$/));
  const strange = `Narswarm: 2\nNews: all of it\n`;
  assert.throws(() => parse(strange), failsWith('INDEX_INVALID', /update narswarm/));
});

test('skips unknown keys, even repeated ones', () => {
  assert.deepEqual(parse(`${TEXT}Mirror: x\nMirror: x\nMirror: \n`), MANIFEST);
});

test('requires every unrepeatable key, exactly once', () => {
  const keys = 'Narswarm Salt PieceLengthVersion Seq Created Expires StoreDir Records PrefixLength PublicKey'.split(
    ' ',
  );
  for (const key of keys) {
    const line = new RegExp(`^${key}: .*\n`, 'm').exec(TEXT)?.[0] ?? '';
    const missing = TEXT.replace(line, '');
    assert.throws(() => parse(missing), failsWith('INDEX_INVALID', new RegExp(`: ${key} is missing`)));
    assert.throws(() => parse(TEXT + line), failsWith('INDEX_INVALID', new RegExp(`a second ${key}`)));
  }
});

test('requires another value for each repeated key', () => {
  for (const key of ['Root', 'Peer', 'Tracker', 'Previous', 'Shard']) {
    const line = new RegExp(`^${key}: .*\n`, 'm').exec(TEXT)?.[0] ?? '';
    assert.throws(() => parse(TEXT + line), failsWith('INDEX_INVALID', new RegExp(`repeats a ${key}`)));
    assert.notDeepEqual(parse(TEXT.replaceAll(new RegExp(`^${key}: .*\n`, 'gm'), '')), MANIFEST);
  }
});

const SHARDS_OF_ONE = altered('PrefixLength', '1').replace(/^Shard: .*\n/m, '');

test('reads values strictly', () => {
  const malformed: Record<string, readonly string[]> = {
    Narswarm: ['', '0', '1.0', '01', 'one'],
    PieceLengthVersion: ['', '0', '-1'],
    Salt: ['6', 'zz', 'ff', '61 ', '61'.repeat(65)],
    Seq: ['0', '-1', '1.5', '+1', '01', '1e3', '0x10', '', '9007199254740993'],
    Created: [
      '2026-01-31',
      '2026-01-31T03:00:00',
      '2026-01-31T03:00:00.000Z',
      '2026-02-30T03:00:00Z',
      '+002026-01-31T03:00:00Z',
      '2026-01-31T25:00:00Z',
      '',
    ],
    Expires: ['2026-02-30T03:00:00Z', 'never'],
    StoreDir: ['', 'nix/store', '/nix/store/', '/'],
    Root: [
      'top',
      'top ',
      `.top /nix/store/${TOP}-top`,
      `-top /nix/store/${TOP}-top`,
      `a/b /nix/store/${TOP}-top`,
      `${'a'.repeat(129)} /nix/store/${TOP}-top`,
      'top /nix/store/x',
      `top /gnu/store/${TOP}-top`,
      `top /nix/store/${TOP}-top/bin`,
    ],
    Peer: [
      '',
      'host',
      'host:',
      'host:0',
      'host:65536',
      'host:6881 ',
      'a b:1',
      'u@host:1',
      '2001:db8::1:6881',
      '[host]:1',
      'host:06881',
    ],
    Tracker: [
      '',
      'tracker.example.org',
      'file:///etc/passwd',
      'javascript:alert(1)',
      'udp://a b',
      'http://[/',
      'http://',
    ],
    Previous: [
      '',
      '41',
      `x ${SHA256}`,
      `0 ${SHA256}`,
      `41 ${SHA256.slice(1)}`,
      `41 ${SHA256} more`,
      `41 ${'e'.repeat(52)}`,
    ],
    Records: ['-1', '1.5', '', '03'],
    PrefixLength: ['-1', '3', ''],
    Shard: [
      '',
      `all 1009`,
      `all 0 ${SHA256}`,
      `all 01 ${SHA256}`,
      `all -1 ${SHA256}`,
      `all 1009 ${SHA256.slice(1)}`,
      `all 1009 2${SHA256.slice(1)}`,
      `all 1009 ${'e'.repeat(52)}`,
      `x 1009 ${SHA256}`,
      `all 1009 ${SHA256} more`,
      `all 99999999999999999 ${SHA256}`,
    ],
  };
  for (const [key, values] of Object.entries(malformed)) {
    for (const value of values) {
      const refused = failsWith('INDEX_INVALID', new RegExp(`narswarm can use: ${key}: `));
      assert.throws(() => parse(altered(key, value)), refused, `${key}: ${value}`);
    }
  }
});

test('requires ended lines of "Key: value" without control characters', () => {
  for (const line of ['Salt', 'Key:value', ': x', 'A key: x', 'Mirror: \u0007', 'Mirror: x\r', '\u2028', '']) {
    assert.throws(() => parse(`${TEXT}${line}\n`), failsWith('INDEX_INVALID', /expected "Key: value"/), line);
  }
  assert.throws(() => parseManifestText(TEXT.slice(0, -1)), failsWith('INDEX_INVALID', /last line has no end/));
  assert.throws(() => parse(`\uFEFF${TEXT}`), failsWith('INDEX_INVALID', /expected "Key: value"/));
});

function parseShards(...names: readonly string[]): readonly string[] {
  const lines = names.map((name, index) => `Shard: ${name} ${index + 1} ${SHA256}\n`);
  return parse(SHARDS_OF_ONE + lines.join('')).shards.map(({ prefix }) => prefix);
}

test('requires shards with prefixes of the given length, in order, each once', () => {
  assert.deepEqual(parseShards('0', 'a', 'z'), ['0', 'a', 'z']);
  assert.throws(() => parseShards('a', '0'), failsWith('INDEX_INVALID', /not in order/));
  assert.throws(() => parseShards('a', 'a'), failsWith('INDEX_INVALID', /is repeated/));
  for (const name of ['all', '00', 'e', '/', '.', 'A']) {
    assert.throws(() => parseShards(name), failsWith('INDEX_INVALID', /a prefix of 1 nix32/), name);
  }
});

test('requires a manifest to expire after it was created', () => {
  for (const expires of ['2026-01-31T03:00:00Z', '2026-01-30T03:00:00Z']) {
    assert.throws(() => parse(altered('Expires', expires)), failsWith('INDEX_INVALID', /expires before it was/));
  }
});

test('refuses two roots of one name', () => {
  const root = `Root: top /nix/store/${TOP}-other\n`;
  assert.throws(() => parse(TEXT + root), failsWith('INDEX_INVALID', /two roots have the same name/));
});

test('requires earlier editions in order, and no more than a few', () => {
  const text = (seqs: readonly number[]): string =>
    TEXT.replace(/^Previous: .*$/m, seqs.map((seq) => `Previous: ${seq} ${SHA256}`).join('\n'));
  assert.deepEqual(
    parse(text([41, 40, 7])).previous?.map(({ seq }) => seq),
    [41, 40, 7],
  );
  for (const seqs of [[42], [43], [7, 41]])
    assert.throws(() => parse(text(seqs)), failsWith('INDEX_INVALID', /previous editions are not in order/));
  const many = Array.from({ length: 17 }, (_, index) => 41 - index);
  assert.throws(() => parse(text(many)), failsWith('INDEX_INVALID', /17 lines of Previous, more than 16/));
});
