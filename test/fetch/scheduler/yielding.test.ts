/** A fetch in the background notices that the line is full by the delay of small questions. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { LOWEST_BYTES_PER_SEC } from '../../../src/bytes/yielding-rate.ts';
import { RateLimits } from '../../../src/bytes/rate-limits.ts';
import { Workplace } from '../../../src/fetch/workplace.ts';
import { parseUpstream } from '../../../src/http/upstream.ts';
import { parsePublicKey } from '../../../src/nix/signature.ts';
import { startHttpCache } from '../../support/http-cache.ts';
import { Lab } from '../../support/lab.ts';
import { failOnWarning } from '../../support/no-warnings.ts';
import { WrittenCache } from '../../support/written-cache.ts';

const LIMIT = { timeout: 240_000 };
const NAR_BYTES = 600_000;

/** Fetches a path whose NAR comes slowly. The questions after its first bytes are answered once it has paused. */
async function fetchBeside(
  isNear: boolean,
  signal: AbortSignal,
): Promise<{ states: ReadonlySet<string>; rate: number }> {
  await using lab = await Lab.open();
  const written = await WrittenCache.create(await lab.folder('cache'), 'yielding-1');
  const path = await written.add('path', { contents: randomBytes(NAR_BYTES / 2).toString('hex') });
  await using cache = await startHttpCache(written.dir);
  const gate = Promise.withResolvers<void>();
  cache.faults = [{ kind: 'slow', match: /\/nar\//, rateBytesPerSec: 100_000 }];
  const limits = new RateLimits({}, () => isNear).forBackground();
  const { yielding } = limits;
  assert.ok(yielding);
  await using workplace = await Workplace.open({
    storeDir: await lab.folder('store'),
    keys: [parsePublicKey(written.publicKey)],
    network: undefined,
    limits,
    onWarning: failOnWarning,
  });
  const states = new Set<string>();
  let rate = Infinity;
  const over = new AbortController();
  const watched = (async () => {
    for (; !over.signal.aborted && yielding.state !== 'paused'; await sleep(20)) states.add(yielding.state);
    states.add(yielding.state);
    rate = yielding.rateBytesPerSec ?? Infinity;
    gate.resolve();
  })();
  const { missing } = await workplace.prefetch(
    {
      roots: [path.info.storePath],
      publishers: [],
      upstreams: [parseUpstream(cache.url)],
      trustedPublicKeys: [],
      copy: false,
      publisherTimeoutMs: 1_000,
    },
    {
      tell: ({ type }) => {
        if (type === 'nar-bytes' && cache.faults.length === 1)
          cache.faults.unshift({ kind: 'hold', match: /nix-cache-info/, until: gate.promise });
      },
      signal,
    },
  );
  over.abort();
  await watched;
  assert.deepEqual(missing, []);
  return { states, rate };
}

test('a fetch that yields leaves the line to others while questions are answered late', LIMIT, async (t) => {
  const { states, rate } = await fetchBeside(false, t.signal);
  assert.ok(states.has('paused'));
  assert.equal(rate, LOWEST_BYTES_PER_SEC);
});

test('bytes of the local network never yield', LIMIT, async (t) => {
  const { states, rate } = await fetchBeside(true, t.signal);
  assert.deepEqual([...states], ['rising']);
  assert.equal(rate, Infinity);
});
