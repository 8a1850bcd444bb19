import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import * as fc from 'fast-check';
import { formatPublisherAddress, parsePublisherAddress } from '../../../src/index/address.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { absoluteSource } from '../../../src/subscription/source/absolute-source.ts';
import { formatSource, parseSource, type Source } from '../../../src/subscription/source/source.ts';
import { throwsOnlyOwnErrors } from '../../index/fixtures.ts';
import { sourceKey } from '../../../src/subscription/subscription.ts';
import { failsWith } from '../../nix/fixtures.ts';

const HEX = '77ff84905a91936367c01360803104f92432fcd904a43511876df5cdf3e7e548';
const MAGNET = `magnet:?xs=urn:btpk:${HEX}&s=666f6f626172`;
const MIRROR = `https://cache.example.org/maps/?xs=urn:btpk:${HEX}&s=666f6f626172`;
const PATH = '/nix/store/00000000000000000000000000000000-hello-2.12';

suite('parseSource', () => {
  const cases: readonly (readonly [text: string, source: Source])[] = [
    [MAGNET, { kind: 'publisher', address: parsePublisherAddress(MAGNET), root: undefined }],
    [`${MAGNET}#desktop`, { kind: 'publisher', address: parsePublisherAddress(MAGNET), root: 'desktop' }],
    [MIRROR, { kind: 'publisher', address: parsePublisherAddress(MIRROR), root: undefined }],
    [`${MIRROR}#nixos-25.11`, { kind: 'publisher', address: parsePublisherAddress(MIRROR), root: 'nixos-25.11' }],
    [PATH, { kind: 'store-path', path: parseStorePath(PATH) }],
    [
      'https://channels.nixos.org/nixos-25.11/store-paths.xz',
      list('https://channels.nixos.org/nixos-25.11/store-paths.xz'),
    ],
    ['HTTP://localhost:80/list?release=1', list('HTTP://localhost:80/list?release=1')],
    ['https://example.org/main.tar.gz#hello', installable('https://example.org/main.tar.gz#hello')],
    ['nixpkgs#hello', installable('nixpkgs#hello')],
    [
      '.#nixosConfigurations.x.config.system.build.toplevel',
      installable('.#nixosConfigurations.x.config.system.build.toplevel'),
    ],
    ['/home/me/flake#x', installable('/home/me/flake#x')],
    ['git+https://example.org/x?ref=main#y', installable('git+https://example.org/x?ref=main#y')],
    ['/run/current-system', { kind: 'path', path: '/run/current-system' }],
    [`${PATH}.drv^out,dev`, { kind: 'store-path', path: parseStorePath(`${PATH}.drv`), outputs: ['out', 'dev'] }],
    [`${PATH}#x`, installable(`${PATH}#x`)],
    ['./nix/store/x', { kind: 'path', path: './nix/store/x' }],
    ['./paths.txt', { kind: 'path', path: './paths.txt' }],
    ['..', { kind: 'path', path: '..' }],
  ];
  for (const [text, source] of cases) {
    test(`reads and writes ${text}`, () => {
      assert.deepEqual(parseSource(` ${text}\n`), source);
      assert.equal(formatSource(source), text);
    });
  }

  test('a path below a store path stands for it, and nothing else in the store is accepted', () => {
    for (const text of [`${PATH}/`, `${PATH}/bin/hello`, `/${PATH}`, `/nix/../nix/store/${PATH.slice(11)}/.`])
      assert.deepEqual(parseSource(text), { kind: 'store-path', path: parseStorePath(PATH) });
    assert.deepEqual(parseSource(`${PATH}.drv^*`), { kind: 'store-path', path: parseStorePath(`${PATH}.drv`) });
    assert.throws(() => parseSource('/nix/store/foo'), failsWith('STORE_PATH_INVALID', /nix\/store\/foo/));
    assert.throws(() => parseSource(`${PATH}^out`), failsWith('USAGE', /not a \.drv file/));
  });

  test('with a file, everything is an attribute', () => {
    for (const text of ['stdenv', '.', 'a.b.c', 'nixpkgs#hello', PATH]) {
      const source = parseSource(text, { file: './default.nix' });
      assert.deepEqual(source, { kind: 'attribute', file: './default.nix', attribute: text });
      assert.equal(formatSource(source), text);
    }
    for (const file of ['', '-', '--help', 'a\nb']) {
      assert.throws(() => parseSource('stdenv', { file }), failsWith('USAGE', /is not a Nix file/));
    }
  });

  test('refuses anything else, and names the forms', () => {
    for (const [text, reason] of [
      ['', /it is empty/],
      [' \n', /it is empty/],
      ['nixpkgs', /neither a # nor a slash/],
      ['paths.txt', /neither a # nor a slash/],
      ['~/profile', /neither a # nor a slash/],
      ['file:///x', /neither a # nor a slash/],
      ['00000000000000000000000000000000', /neither a # nor a slash/],
      ['--impure#x', /begins with a dash/],
      ['/a\nb', /control character/],
      ['http://', /not a URL/],
      [`${MAGNET}#`, /"" is not the name of a root/],
      [`${MAGNET}#a b`, /"a b" is not the name of a root/],
      [`${MAGNET}#a#b`, /"a#b" is not the name of a root/],
    ] as const) {
      assert.throws(() => parseSource(text), failsWith('USAGE', reason), text);
      assert.throws(() => parseSource(text), failsWith('USAGE', /a source is PUBLISHER#ROOT .* nixpkgs#hello/), text);
    }
    assert.throws(() => parseSource('-x', { file: 'a' }), failsWith('USAGE', /begins with a dash/));
  });

  test('refuses a malformed publisher as an address', () => {
    for (const text of ['magnet:?xt=urn:btih:00', 'https://example.org/?xs=urn:btpk:77#x']) {
      assert.throws(() => parseSource(text), failsWith('ADDRESS_INVALID', /is not the address of a hash map/));
    }
  });

  test('parse reads back the output of format', () => {
    const word = fc.stringMatching(/^[a-zA-Z0-9._/?=&+-]{0,12}$/);
    const anyAddress = fc
      .record({
        key: fc.stringMatching(/^[0-9a-f]{64}$/),
        salt: fc.string({ maxLength: 16 }),
        baseUrl: fc.option(fc.webUrl()),
      })
      .map(({ key, salt, baseUrl }) => {
        const base = baseUrl === null ? {} : { baseUrl: new URL(baseUrl).href };
        return parsePublisherAddress(formatPublisherAddress({ publicKeyHex: key, salt, ...base }));
      });
    const anySource: fc.Arbitrary<Source> = fc.oneof(
      fc
        .tuple(anyAddress, fc.option(fc.stringMatching(/^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,9}$/), { nil: undefined }))
        .map(([address, root]) => ({ kind: 'publisher', address, root }) as const),
      fc
        .webUrl({ withQueryParameters: true })
        .filter((url) => !url.includes('xs='))
        .map(list),
      word.map((tail) => ({ kind: 'path', path: `/home/${tail}` }) as const),
      fc
        .tuple(fc.stringMatching(/^[a-z.][a-z0-9:/.?=]{0,9}$/), word)
        .filter(([flake]) => !/^(?:magnet|https?):/.test(flake))
        .map(([flake, name]) => installable(`${flake}#${name}`)),
      fc
        .tuple(word, fc.stringMatching(/^[a-zA-Z0-9."^#]{1,9}$/))
        .map(([file, attribute]) => ({ kind: 'attribute', file: `/${file}`, attribute }) as const),
    );
    fc.assert(
      fc.property(anySource, (source) => {
        const file = source.kind === 'attribute' ? source.file : undefined;
        assert.deepEqual(parseSource(formatSource(source), { file }), source);
      }),
    );
  });

  test('garbage is refused with a NarswarmError, or reads back the same', () => {
    const anyText = fc.oneof(
      fc.string(),
      fc.webUrl({ withFragments: true }),
      fc.string().map((text) => MAGNET + text),
    );
    fc.assert(
      fc.property(anyText, (text) =>
        throwsOnlyOwnErrors(() => {
          const source = parseSource(text);
          assert.deepEqual(parseSource(formatSource(source)), source);
        }),
      ),
    );
  });
});

suite('absoluteSource', () => {
  const cwd = '/home/me/work';
  for (const [text, expected] of [
    ['./paths.txt', '/home/me/work/paths.txt'],
    ['../result', '/home/me/result'],
    ['.', '/home/me/work'],
    ['.#hello', '/home/me/work#hello'],
    ['.#', '/home/me/work#'],
    ['#hello', '/home/me/work#hello'],
    ['?dir=sub#hello', '/home/me/work?dir=sub#hello'],
    ['../x#y', '/home/me/x#y'],
    ['./sub/?dir=a/../b#y.z', '/home/me/work/sub?dir=a/../b#y.z'],
    ['path:./sub#y', 'path:/home/me/work/sub#y'],
    ['path:sub#y', 'path:/home/me/work/sub#y'],
    ['path:#y', 'path:/home/me/work#y'],
    ['path:/x#y', 'path:/x#y'],
    [' nixpkgs#hello ', 'nixpkgs#hello'],
    ['git+file:./x#y', 'git+file:./x#y'],
    ['/run/current-system', '/run/current-system'],
    [PATH, PATH],
    [`${MIRROR}#x`, `${MIRROR}#x`],
    ['https://example.org/list', 'https://example.org/list'],
  ] as const) {
    test(`makes ${expected} of ${text}`, () => {
      assert.deepEqual(absoluteSource(text, { cwd }), { source: expected, file: undefined });
      assert.deepEqual(absoluteSource(expected, { cwd: '/elsewhere' }), { source: expected, file: undefined });
    });
  }

  test('makes a file absolute, except those that Nix finds itself', () => {
    for (const [file, expected] of [
      ['default.nix', '/home/me/work/default.nix'],
      ['../x', '/home/me/x'],
      ['/x.nix', '/x.nix'],
      ['<nixpkgs>', '<nixpkgs>'],
      ['https://example.org/x.tar.gz', 'https://example.org/x.tar.gz'],
    ]) {
      assert.deepEqual(absoluteSource(' ./attribute', { cwd, file }), { source: './attribute', file: expected });
    }
  });

  test('refuses a folder that would mean something else', () => {
    assert.throws(() => absoluteSource('./list', { cwd: '/a#b' }), failsWith('USAGE', /makes it a flake/));
    for (const odd of ['/a#b', '/a?b', '/a%20b']) {
      assert.throws(() => absoluteSource('.#x', { cwd: odd }), failsWith('USAGE', /cannot be named/));
    }
  });
});

function list(url: string): Source {
  return { kind: 'list', url };
}

function installable(text: string): Source {
  return { kind: 'installable', installable: text };
}

test('the label of a publisher stays in a source, and another one begins nothing anew', () => {
  const address = `magnet:?xs=urn:btpk:${'ab'.repeat(32)}&s=6c6162`;
  const labelled = `${address}&dn=the%20lab#desktop`;
  assert.equal(absoluteSource(labelled, { cwd: '/' }).source, labelled);
  const keys = [`${address}#desktop`, labelled, `magnet:?dn=x&${address.slice('magnet:?'.length)}#desktop`];
  assert.deepEqual(
    keys.map((source) => sourceKey({ source })),
    keys.map(() => `${address}#desktop`),
  );
});
