/** Machines that start together: a peer that has nothing yet is asked again. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, Lab, mirrorOf } from '../support/lab.ts';

suite('a cohort that starts together', () => {
  test('a peer that lacked the NARs is asked again once it has them', async () => {
    await using lab = await Lab.open();
    const made = await lab.closure([1_200_000, 20_000, 5_000]);
    const trust = ['--trusted-public-key', made.publicKey];
    const published = await lab.run([
      'publish',
      '--once',
      '--store',
      made.cacheDir,
      '--key',
      lab.path('key'),
      '--root',
      `lab=${made.root}`,
      ...trust,
    ]);
    const event = published.event('published');
    await using mirror = await startHttpCache(String(event['dir']));
    await using cache = await startHttpCache(made.cacheDir);
    const publisher = mirrorOf(String(event['address']), mirror.url);

    const seederStore = await lab.folder('seeder');
    const daemon = await lab.service(['daemon', '--store', seederStore, ...trust, ...ALONE]);
    const fetch = ['fetch', 'lab', '--publisher', publisher, '--no-upstream', '--no-copy', ...trust, ...ALONE];
    const waiting = lab.start([
      ...fetch,
      '--store',
      await lab.folder('client'),
      '--peer',
      `127.0.0.1:${String(daemon.ready['port'])}`,
      '--peer-timeout',
      '40s',
    ]);
    await waiting.event('plan');
    const filled = await lab.run([
      'fetch',
      made.root,
      '--store',
      seederStore,
      '--no-copy',
      '--from',
      cache.url,
      '--publisher',
      publisher,
      ...trust,
      ...ALONE,
    ]);
    assert.equal(filled.status, 0, filled.stderr);

    const run = await waiting.end();
    assert.equal(run.status, 0, run.stderr);
    const bytes = run.event('done')['bytes'] as { peers: number; upstream: number };
    assert.ok(bytes.peers > 1_200_000 && bytes.upstream === 0);
  });
});
