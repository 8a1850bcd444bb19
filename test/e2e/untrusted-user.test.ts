/** A real Nix daemon that does not trust its user: its refusals are reported before the download. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import { ALONE, assertFailure, FIXTURE_ROOT, fixtureKey, Lab, requisites, type Run } from '../support/lab.ts';
import { startNixDaemon } from '../support/nix-daemon.ts';

const OTHER_KEY = 'other-1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=';

describe('a user whom the Nix daemon', () => {
  let lab: Lab;
  let cache: HttpCache;
  let key: string;
  before(async () => {
    lab = await Lab.open();
    cache = lab.use(await startHttpCache(await lab.fixtureCache()));
    key = await fixtureKey();
  });
  after(() => lab[Symbol.asyncDispose]());

  const startDaemon = (settings: readonly string[]): Promise<Record<string, string>> => startNixDaemon(lab, settings);

  const dryRun = (env: Record<string, string>, ...flags: string[]): Promise<Run> =>
    lab.run(
      ['fetch', FIXTURE_ROOT, '--dry-run', '--from', cache.url, ...ALONE, '--store', lab.path('store'), ...flags],
      {
        env,
      },
    );
  const SAYS = /does not trust this user.*signature by fixture-1: add the key to trusted-public-keys/;

  test('does not trust is told that its keys are ignored', async () => {
    const env = await startDaemon(['trusted-users =', 'trusted-public-keys =']);
    const named = await dryRun(env, '--trusted-public-key', key);
    assert.equal(named.status, 0, named.stderr);
    assert.match(String(named.event('warning')['message']), SAYS);
    const configured = await dryRun({ ...env, NIX_CONFIG: `extra-trusted-public-keys = ${key}` });
    assert.match(String(configured.event('warning')['message']), SAYS);
    const own = `trusted-users = *\nextra-trusted-public-keys = ${key}`; // the daemon does not read it
    const mistaken = await dryRun({ ...env, NIX_CONFIG: own });
    assert.match(String(mistaken.event('warning')['message']), SAYS);
  });

  test('trusts, or whose keys the daemon has itself, is told nothing', async () => {
    for (const settings of [
      ['trusted-users = *', 'trusted-public-keys ='],
      ['trusted-users =', `trusted-public-keys = ${key}`],
    ]) {
      const { events, stderr } = await dryRun(await startDaemon(settings), '--trusted-public-key', key);
      assert.ok(!events.some(({ event }) => event === 'warning'), stderr + JSON.stringify(events));
    }
  });

  test('does not trust cannot skip signatures; others can, and do not serve such paths', async () => {
    const env = await startDaemon(['trusted-users =', 'trusted-public-keys =']);
    assertFailure(await dryRun(env, '--no-check-sigs'), 8, 'NIX_FAILED', /does not trust this user.*trusted-users/);
    assert.equal((await dryRun({}, '--no-copy')).status, 4, 'nothing unsigned without the flag');

    const store = lab.path('store');
    const target = await lab.folder('target');
    const from = ['--from', cache.url, ...ALONE, '--store', store, '--to', target];
    const fetched = await lab.run(['fetch', FIXTURE_ROOT, '--no-check-sigs', ...from]);
    assert.equal(fetched.status, 0, fetched.stderr);
    assert.ok(requisites(target, FIXTURE_ROOT).length > 1);
    const publish = [
      'publish',
      '--once',
      '--store',
      store,
      '--key',
      lab.path('key'),
      '--trusted-public-key',
      OTHER_KEY,
    ];
    const { leftOut, records } = (await lab.run(publish)).event('built');
    assert.deepEqual([leftOut, records], [2, 1], 'but what is content-addressed, which needs no signature');
  });
});
