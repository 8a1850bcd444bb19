import assert from 'node:assert/strict';
import { test } from 'node:test';
import { makeOutput } from '../../../src/cli/output.ts';
import { warningSentence, warningsTo } from '../../../src/cli/words/warnings.ts';
import { NarswarmError } from '../../../src/errors.ts';
import { asError, factsOf, type Warning } from '../../../src/warning.ts';

const error = new NarswarmError('HTTP_FAILED', 'it broke', { facts: { url: 'http://cache' } });
const failure = { reason: 'it broke' };
const [path, storeHash, infoHash] = ['/nix/store/x-y', 'x'.repeat(32), 'a'.repeat(40)];

test('warnings name the thing, what happened and the way out', () => {
  const words: readonly (readonly [Warning, string])[] = [
    [{ kind: 'failed', error }, 'it broke'],
    [{ kind: 'served-elsewhere', storeDir: '/s' }, 'a daemon of another machine or container serves /s, too'],
    [
      { kind: 'served-twice', storeDir: '/s', pid: '7' },
      'another narswarm daemon (process 7) serves /s, too: stop one of them, or give this one another --store',
    ],
    [
      { kind: 'other-store-dir', cache: 'http://cache', theirs: '/a', ours: '/b' },
      'http://cache is not asked: it is a cache for the store directory /a, and ours is /b',
    ],
    [
      { kind: 'no-cache-info', cache: 'http://cache', isLocal: false },
      'http://cache has no nix-cache-info, so it is asked after the other caches',
    ],
    [
      { kind: 'no-cache-info', cache: 'file:///mnt', isLocal: true },
      'file:///mnt has no nix-cache-info: check that it exists and is mounted',
    ],
    [
      { kind: 'unchecked-contents', error, of: 'store' },
      'it broke; until then, NARs that were not imported are not served',
    ],
    [
      { kind: 'lying-peer', peer: '10.0.0.1:7', path },
      `10.0.0.1:7 sent wrong bytes for ${path}; it is not asked again`,
    ],
    [
      { kind: 'other-description', failure, source: 'http://cache' },
      'it broke; using the description by http://cache instead',
    ],
    [{ kind: 'other-description', failure, source: undefined }, 'it broke; trying it again by its contents'],
    [{ kind: 'peers-again', failures: [failure, failure] }, 'it broke; it broke; trying peers again'],
    [{ kind: 'kept-map', error, created: '2026-01-01' }, 'it broke; using the kept edition of 2026-01-01'],
    [
      { kind: 'member-map', error, created: '2026-01-01' },
      'it broke; using the edition of 2026-01-01, which a peer holds',
    ],
    [{ kind: 'failed-seed', infoHash, error: asError('no file') }, `cannot seed ${infoHash}: no file`],
    [
      { kind: 'repeated', first: { kind: 'failed', error: asError('the cache is away') }, count: 23 },
      '23 more warnings like this one: the cache is away',
    ],
    [
      { kind: 'nothing-evicted', obstacle: { kind: 'lost-root', path, keeper: 'laptop' } },
      `nothing is evicted, since kept paths may need it: the subscription laptop’s ${path} has no narinfo in the store: fetch it again, or stop keeping it`,
    ],
    [
      { kind: 'nothing-evicted', obstacle: { kind: 'unreadable-narinfo', storeHash } },
      `nothing is evicted, since kept paths may need it: ${storeHash}.narinfo cannot be read: run narswarm verify --repair`,
    ],
  ];
  for (const [warning, sentence] of words) assert.equal(warningSentence(warning), sentence);
});

test('with --json, facts are plain values, and an error has its code', () => {
  const facts = factsOf({ kind: 'asked-last', cache: 'http://cache', error });
  assert.deepEqual(facts, {
    kind: 'asked-last',
    cache: 'http://cache',
    error: { code: 'HTTP_FAILED', reason: 'it broke', facts: { url: 'http://cache' } },
  });
});

test('a running process whose program was updated says to restart it', async () => {
  const gone: string = './replaced-chunk.ts';
  const missing = await import(gone).then(
    () => assert.fail(),
    (thrown: unknown) => asError(thrown),
  );
  const told = warningSentence({ kind: 'failed-seed', infoHash, error: missing });
  assert.match(told, /^cannot seed a+: narswarm was updated or removed while this process ran.* restart it/);
});

test('people hear of a lying peer once, and not of each NAR that it sent', () => {
  const said: string[] = [];
  const warn = warningsTo({ ...makeOutput({}), warn: (text) => void said.push(text) });
  const wrong = (origins: readonly string[]): Warning => {
    const text = `wrong bytes of ${origins.join(' and ')}`;
    return { kind: 'fetched-again', error: new NarswarmError('HASH_MISMATCH', text, { facts: { origins } }), path };
  };
  warn({ kind: 'lying-peer', peer: 'liar:1', path });
  warn({ kind: 'lying-peer', peer: 'liar:1', path }); // of another NAR, which was on its way
  warn(wrong(['liar:1']));
  warn(wrong(['liar:1', 'other:1']));
  assert.equal(said.length, 2);
  assert.match(said[0] ?? '', /^liar:1 sent wrong bytes/);
  assert.match(said[1] ?? '', /^wrong bytes of liar:1 and other:1/);
});

test('a replaced program is mentioned once, however much of it is needed', () => {
  const told: string[] = [];
  const warn = warningsTo({ ...makeOutput({}), warn: (text) => void told.push(text) });
  const gone = Object.assign(new Error('Cannot find module'), { code: 'MODULE_NOT_FOUND' });
  for (const each of [gone, gone, error, error, gone]) warn({ kind: 'failed', error: each });
  assert.equal(told.length, 3);
  assert.match(told[0] ?? '', /restart it/);
});
