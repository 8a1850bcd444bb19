import assert from 'node:assert/strict';
import { test } from 'node:test';
import * as fc from 'fast-check';
import { isNarswarmError } from '../../src/errors.ts';
import { narHashOf, fileHashOf } from '../../src/nix/hash.ts';
import { extraOf, formatNarInfo, isSafeNarUrl, parseNarInfo, withExtra } from '../../src/nix/narinfo.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import { storePathFromBaseName } from '../../src/nix/store-path.ts';
import { failsWith, LEAF, NOTE, readFixture, readNarInfo, TOP } from './fixtures.ts';

const TEXT = readNarInfo(TOP);
const INFO = parseNarInfo(TEXT);

/** TEXT with another value in the line of this key; undefined removes the line. */
function alter(key: string, value: string | undefined): string {
  const line = new RegExp(`^${key}: .*\n`, 'm');
  assert.match(TEXT, line);
  return TEXT.replace(line, () => (value === undefined ? '' : `${key}: ${value}\n`));
}

test('reads a narinfo that Nix wrote', () => {
  const [leaf, note, top] = [`${LEAF}-leaf-1.0`, `${NOTE}-note.txt`, `${TOP}-top+1.0_x=?`];
  assert.deepEqual(INFO, {
    storePath: `/nix/store/${top}`,
    url: 'nar/06i2rc85q35w9jaah6vxw7wcvqg60cmyy4mrd29h73c9f6adfbrw.nar.xz',
    compression: 'xz',
    fileHash: '06i2rc85q35w9jaah6vxw7wcvqg60cmyy4mrd29h73c9f6adfbrw',
    fileSize: 256,
    narHash: '0ky74bw6aag09an9wyl7vjxcdvbkv3yc0x2mwp4gkmav4as9nglx',
    narSize: 280,
    references: [leaf, note, top],
    deriver: '6zi9rlwbhxxxg1mabr6b59kyw1b0ksw3-top+1.0_x=?.drv',
    signatures: ['fixture-1:SiWWikqCZF+vBQ0qcQe87TA72lT4V8ugUB/yqwANUx0Ke22mVPVuopm2S9UXXYDxqk4j/gTC5s4SfxTsSdrRCA=='],
    extra: [],
  });
  assert.equal(parseNarInfo(readNarInfo(NOTE)).ca?.split(':')[0], 'text');
});

test('writes the same bytes as Nix', () => {
  for (const storeHash of [TOP, LEAF, NOTE]) {
    const text = readNarInfo(storeHash);
    assert.equal(formatNarInfo(parseNarInfo(text)), text);
  }
  assert.match(readNarInfo(LEAF), /^References: $/m);
});

const digest = fc.uint8Array({ minLength: 32, maxLength: 32 });
const baseName = fc
  .tuple(
    fc.uint8Array({ minLength: 20, maxLength: 20 }),
    fc.stringMatching(/^[a-zA-Z0-9+\-_?=][a-zA-Z0-9+\-._?=]{0,20}$/),
  )
  .map(([hash, name]) => `${encodeNix32(hash)}-${name}`);
const size = fc.integer({ min: 1, max: Number.MAX_SAFE_INTEGER });
const value = fc.string({ unit: 'grapheme', maxLength: 20 }).filter((text) => !/\p{Cc}/u.test(text));
const word = value.filter((text) => text !== '');
const anyNarInfo: fc.Arbitrary<NarInfo> = fc.record(
  {
    storePath: baseName.map((name) => storePathFromBaseName(name)),
    url: word,
    compression: word,
    fileHash: digest.map(fileHashOf),
    fileSize: size,
    narHash: digest.map(narHashOf),
    narSize: size,
    references: fc.array(baseName, { maxLength: 4 }),
    deriver: baseName,
    signatures: fc.array(value, { maxLength: 3 }),
    ca: word,
    extra: fc.array(fc.tuple(fc.constantFrom('InfoHash', 'Pieces', 'System'), value), { maxLength: 3 }),
  },
  {
    requiredKeys: ['storePath', 'url', 'compression', 'narHash', 'narSize', 'references', 'signatures', 'extra'],
    noNullPrototype: true,
  },
);

test('parse reads back the output of format', () => {
  fc.assert(fc.property(anyNarInfo, (info) => assert.deepEqual(parseNarInfo(formatNarInfo(info)), info)));
});

test('garbage gives NARINFO_INVALID and nothing else', () => {
  const lines = TEXT.split('\n');
  const line = fc.oneof(
    fc.constantFrom(...lines),
    fc.string(),
    fc.tuple(fc.constantFrom(...lines), fc.nat(60), fc.string()).map(([text, cut, tail]) => text.slice(0, cut) + tail),
  );
  fc.assert(
    fc.property(
      fc.oneof(
        fc.string(),
        fc.array(line, { maxLength: 12 }).map((texts) => `${texts.join('\n')}\n`),
      ),
      (text) => {
        try {
          parseNarInfo(text);
        } catch (error) {
          assert.ok(failsWith('NARINFO_INVALID')(error), String(error));
        }
      },
    ),
  );
});

test('refuses every prefix of a narinfo', () => {
  for (let length = 0; length < TEXT.length; length++) {
    const isWholeLines = TEXT[length - 1] === '\n' && length >= TEXT.indexOf('References');
    if (!isWholeLines) assert.throws(() => parseNarInfo(TEXT.slice(0, length)), failsWith('NARINFO_INVALID'));
  }
  assert.throws(() => parseNarInfo(TEXT.slice(0, -1)), failsWith('NARINFO_INVALID', /may be cut short/));
});

test('requires the lines that Nix requires', () => {
  for (const key of ['StorePath', 'URL', 'NarHash', 'NarSize']) {
    assert.throws(
      () => parseNarInfo(alter(key, undefined)),
      failsWith('NARINFO_INVALID', new RegExp(`${key} is missing`)),
    );
  }
});

test('accepts a narinfo without its optional lines', () => {
  const bare = ['Compression', 'FileHash', 'FileSize', 'References', 'Deriver', 'Sig'].reduce(
    (text, key) => text.replace(new RegExp(`^${key}: .*\n`, 'm'), ''),
    TEXT,
  );
  const { storePath, url, narHash, narSize } = INFO;
  const expected = {
    storePath,
    url,
    compression: 'bzip2',
    narHash,
    narSize,
    references: [],
    signatures: [],
    extra: [],
  };
  assert.deepEqual(parseNarInfo(bare), expected);
});

test('ignores the placeholder values that Nix ignores', () => {
  assert.equal(parseNarInfo(alter('Compression', '')).compression, 'bzip2');
  assert.equal(parseNarInfo(alter('Compression', 'none')).compression, 'none');
  for (const [key, text, field] of [
    ['FileSize', '0', 'fileSize'],
    ['Deriver', '', 'deriver'],
    ['Deriver', 'unknown-deriver', 'deriver'],
    ['Sig', 'x\nCA: ', 'ca'],
  ] as const) {
    assert.equal(field in parseNarInfo(alter(key, text)), false, `${key}: ${text}`);
  }
});

test('reads hashes in any spelling and writes them in nix32', () => {
  const hex = '5cac4f980fedc3d3f1f99b4be3472c9b30d56523e632d151237ec9309048bda9';
  const nix32 = '1adx92831jby4d8x2cp64djxac4v5i3y6jwvz7qx7hzd1yc4zb2w';
  for (const text of [`sha256:${hex}`, `sha256-${Buffer.from(hex, 'hex').toString('base64')}`, nix32]) {
    assert.equal(parseNarInfo(alter('FileHash', text)).fileHash, nix32);
    assert.equal(parseNarInfo(alter('NarHash', text)).narHash, nix32);
    assert.match(formatNarInfo(parseNarInfo(alter('NarHash', text))), new RegExp(`^NarHash: sha256:${nix32}$`, 'm'));
  }
});

test('ignores a FileHash of another algorithm; NarHash must be SHA-256', () => {
  const sha512 = readFixture('hashes.txt').split('\n').at(-2)?.split(' ')[1];
  assert.equal('fileHash' in parseNarInfo(alter('FileHash', `sha512:${sha512}`)), false);
  assert.throws(() => parseNarInfo(alter('NarHash', `sha512:${sha512}`)), failsWith('NARINFO_INVALID', /NarHash/));
});

test('ignores malformed values of unsigned lines', () => {
  const noSizes = ['', '-1', '1.5', '1e3', '0x10', ' 1', '1 ', '9007199254740992', 'many'];
  for (const [field, key, values] of [
    ['fileHash', 'FileHash', ['sha512:00', 'sha257:00', '', '\x1b[2J']],
    ['fileSize', 'FileSize', noSizes],
    ['deriver', 'Deriver', ['x.drv', '../x', 'a\rb']],
  ] as const)
    for (const text of values) assert.equal(field in parseNarInfo(alter(key, text)), false, `${key}: ${text}`);
  for (const line of ['X: a\0b', 'X: \x1b[2J', 'a b: c', ': c', 'X:c', 'Sig: a\rb', 'CA: text\0'])
    assert.deepEqual(parseNarInfo(`${TEXT}${line}\n`), INFO, line);
});

test('names the line and keeps the cause', () => {
  assert.throws(
    () => parseNarInfo(alter('NarHash', 'sha256:x')),
    (error) => {
      assert.ok(isNarswarmError(error, 'NARINFO_INVALID'));
      assert.match(error.message, /^corrupt narinfo: NarHash: "sha256:x" is .* \(line 6\)$/);
      assert.equal(error.facts.line, 6);
      return isNarswarmError(error.cause, 'HASH_INVALID');
    },
  );
});

const MALFORMED: readonly (readonly [what: string, text: string, message: RegExp])[] = [
  ['an empty text', '', /may be cut short/],
  ['an empty line', `${TEXT}\n`, /expected "Key: value" \(line 11\)/],
  ['CRLF', TEXT.replaceAll('\n', '\r\n'), /CRLF/],
  ['a line without a colon', `${TEXT}x\n`, /expected "Key: value"/],
  ['no space after the colon', TEXT.replace('NarSize: ', 'NarSize:'), /expected "Key: value"/],
  ['a control character in what is signed', alter('URL', 'nar/\x1b[2J'), /control character/],
  ['second References', `${TEXT}References: ${LEAF}-x\n`, /second References \(line 11\)/],
  ['a page of HTML', '<!doctype html>\n<p style="color: red">\n', /it is a web page.*login page/],
  ['a page of HTML without a last newline', '<html>log in</html>', /it is a web page/],
  ['an empty URL', alter('URL', ''), /URL: it is empty/],
  ['a relative StorePath', alter('StorePath', `${TOP}-x`), /StorePath: .* is not a store path/],
  ['a reference that is a full path', alter('References', `/nix/store/${LEAF}-x`), /References: /],
  ['a reference with ..', alter('References', `${LEAF}-..`), /References: /],
  ['NarSize 0', alter('NarSize', '0'), /NarSize: no NAR has 0 bytes/],
  ['more than 4 MiB', `${TEXT}Pieces: ${'a'.repeat(4 * 1024 * 1024)}\n`, /longer than 4194304/],
];
for (const [what, text, message] of MALFORMED) {
  test(`refuses ${what}`, () => assert.throws(() => parseNarInfo(text), failsWith('NARINFO_INVALID', message)));
}

test('refuses a NarSize that is not a safe positive integer', () => {
  for (const text of ['', '-1', '1.5', '1e3', '0x10', ' 1', '1 ', '9007199254740992', 'many'])
    assert.throws(
      () => parseNarInfo(alter('NarSize', text)),
      failsWith('NARINFO_INVALID', /NarSize: .* is not a size/),
    );
});

test('takes the last of repeated keys, as Nix does; two content addresses count as none', () => {
  const last = parseNarInfo(`${TEXT}URL: nar/a\nCompression: zstd\nFileSize: 7\nCA: text:a\nCA: text:b\n`);
  assert.deepEqual(last, { ...INFO, url: 'nar/a', compression: 'zstd', fileSize: 7 });
  assert.deepEqual(parseNarInfo(TEXT.replace(/^References: .*$/m, 'References:')).references, []);
  assert.deepEqual(parseNarInfo(`${TEXT}Sig: a:b\nSig:  c \n`).signatures.slice(1), ['a:b', ' c ']);
  assert.deepEqual(parseNarInfo(`${TEXT}X: 1\nY: \nX: 2\n`).extra, [
    ['X', '1'],
    ['Y', ''],
    ['X', '2'],
  ]);
});

test('accepts a large added field', () => {
  assert.equal(extraOf(parseNarInfo(`${TEXT}Pieces: ${'a'.repeat(4_000_000)}\n`), 'Pieces')?.length, 4_000_000);
});

test('format refuses a value that would break its line', () => {
  for (const broken of [{ url: 'a\nSig: x' }, { signatures: ['a\r'] }, { extra: [['a: b', 'c']] as const }]) {
    assert.throws(() => formatNarInfo({ ...INFO, ...broken }), failsWith('NARINFO_INVALID', /cannot be a line/));
  }
});

test('added fields can be set, replaced in place and removed', () => {
  const two = withExtra(withExtra(INFO, 'InfoHash', 'a'), 'Pieces', 'b');
  assert.equal(extraOf(two, 'InfoHash'), 'a');
  assert.equal(extraOf(INFO, 'InfoHash'), undefined);
  assert.deepEqual(withExtra(two, 'InfoHash', '').extra, [
    ['InfoHash', ''],
    ['Pieces', 'b'],
  ]);
  assert.deepEqual(withExtra(two, 'InfoHash', undefined).extra, [['Pieces', 'b']]);
  const repeated = parseNarInfo(`${TEXT}X: 1\nY: 2\nX: 3\n`);
  assert.deepEqual(withExtra(repeated, 'X', '4').extra, [
    ['X', '4'],
    ['Y', '2'],
  ]);
});

test('an added field cannot imitate a known field or add a line', () => {
  for (const [key, text] of [
    ['Sig', 'a:b'],
    ['NarHash', 'x'],
    ['a b', 'x'],
    ['a:', 'x'],
    ['', 'x'],
    ['X', 'a\nSig: b'],
    ['X', '\0'],
  ] as const) {
    assert.throws(() => withExtra(INFO, key, text), failsWith('NARINFO_INVALID'), key);
  }
});

test('the URLs that caches write are safe', () => {
  for (const url of [
    INFO.url,
    'a.nar',
    '..a/b..',
    'nar/a.nar?hash=b',
    'nar/a%20b+c.nar.zst',
    '%c3%a9',
    'a/b:c',
    '...',
  ]) {
    assert.equal(isSafeNarUrl(url), true, url);
  }
});

const UNSAFE_URLS: Readonly<Record<string, readonly string[]>> = {
  'nothing at all': [''],
  'an absolute path': ['/', '/etc/passwd', '//host/x'],
  'an empty segment': ['a//b', 'a/'],
  'a dot segment': ['.', './a', 'a/.', '.?x'],
  'a way up': ['..', '../a', 'a/../../b', 'a/..', '..?x', 'a/..#x', 'nar/x?/../../y'],
  'a scheme': ['http://host/x', 'file:x', 'HTTPS:x', 'a:b'],
  'a backslash': ['a\\b', '..\\a'],
  'what is not printable ASCII': ['a\0', 'a\n', 'a\t/b', ' a', 'a ', 'é', '\x7f'],
  'an escaped dot, slash or percent sign': ['%2e%2e/a', '.%2E/a', 'a%2fb', 'a%5Cb', '%252e'],
  'an escaped control character': ['a%00', 'a%0a', 'a%1F', 'a%7f'],
  'a broken escape': ['a%', 'a%zz', 'a%2'],
};
for (const [what, urls] of Object.entries(UNSAFE_URLS)) {
  test(`a URL with ${what} is unsafe`, () => {
    for (const url of urls) assert.equal(isSafeNarUrl(url), false, JSON.stringify(url));
  });
}

test('a safe URL stays below the cache that it is resolved against', () => {
  const piece = fc.constantFrom('.', '..', '/', '\\', '%2e', '%2f', '%', ':', '?', '#', 'a', 'http:', '\t', ' ', '@');
  const base = 'http://cache.example/x/y/';
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 8 }), (pieces) => {
      const url = pieces.join('');
      if (isSafeNarUrl(url)) assert.ok(new URL(url, base).href.startsWith(base), url);
    }),
    { numRuns: 2000 },
  );
});
