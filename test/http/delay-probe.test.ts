import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { DelayProbe } from '../../src/http/delay-probe.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { Lab } from '../support/lab.ts';

const LIMIT = { timeout: 180_000 };

async function openCache(lab: Lab): Promise<HttpCache> {
  const dir = await lab.folder('cache');
  await writeFile(join(dir, 'nix-cache-info'), 'StoreDir: /nix/store\n');
  return startHttpCache(dir);
}

suite('the delay of a line', () => {
  test('is told again and again, and grows while there is no answer', LIMIT, async () => {
    await using lab = await Lab.open();
    await using cache = await openCache(lab);
    const answered = Promise.withResolvers<void>();
    const late = Promise.withResolvers<void>();
    const waits: number[] = [];
    let answers = 0;
    await using _probe = new DelayProbe({
      http: undefined,
      urls: () => [`${cache.url}/nix-cache-info`],
      isWanted: () => true,
      onDelay: (delayMs, isAnswered) => {
        if (isAnswered) {
          if (++answers === 5) answered.resolve();
        } else if (answers >= 5) {
          waits.push(delayMs);
          if (waits.length === 4) late.resolve();
        }
      },
      onBlind: () => assert.fail('there are answers'),
    });
    await answered.promise;
    const gate = Promise.withResolvers<void>();
    cache.faults = [{ kind: 'hold', until: gate.promise }];
    await late.promise;
    gate.resolve();
    assert.deepEqual(
      waits,
      waits.toSorted((a, b) => a - b),
    );
  });

  test('is measured by another server if one fails', LIMIT, async () => {
    await using lab = await Lab.open();
    await using broken = await openCache(lab);
    await using cache = await openCache(lab);
    broken.faults = [{ kind: 'status' }];
    const blind = Promise.withResolvers<void>();
    const answered = Promise.withResolvers<void>();
    await using _probe = new DelayProbe({
      http: { backoffMs: 1 },
      urls: () => [broken, cache].map(({ url }) => `${url}/nix-cache-info`),
      isWanted: () => true,
      onDelay: (_, isAnswered) => isAnswered && answered.resolve(),
      onBlind: () => blind.resolve(),
    });
    await blind.promise;
    await answered.promise;
  });

  test('is asked for only while it is wanted, but for three questions at the beginning', LIMIT, async () => {
    await using lab = await Lab.open();
    await using cache = await openCache(lab);
    const fourth = Promise.withResolvers<void>();
    let looks = 0;
    let answers = 0;
    await using _probe = new DelayProbe({
      http: undefined,
      urls: () => [`${cache.url}/nix-cache-info`],
      isWanted: () => {
        if (answers >= 3) looks++;
        return looks > 10;
      },
      onDelay: (_, isAnswered) => {
        if (isAnswered && ++answers === 4) fourth.resolve();
      },
      onBlind: () => undefined,
    });
    await fourth.promise;
    assert.ok(looks > 10);
  });
});
