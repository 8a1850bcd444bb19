/** What `narswarm status` shows of the daemon that serves a store. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { ALONE, Lab, type CliEvent, type Run } from '../support/lab.ts';
import { until } from '../support/update-lab.ts';

describe('status of the daemon', () => {
  let lab: Lab;
  let made: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([40_000, 30_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const status = (store: string): Promise<Run> => lab.run(['status', '--store', store]);

  test('none runs, in a store, in a plain cache, and without either', async () => {
    for (const store of [made.cacheDir, lab.path('none')]) {
      assert.deepEqual((await status(store)).event('daemon'), { event: 'daemon', state: 'none' });
      const { stdout } = await lab.runPlain(['status', '--store', store]);
      assert.equal(stdout, 'daemon: none serves this store\n');
    }
  });

  test('one that runs tells its ports, its members and its hash maps; one that hangs costs a second', async () => {
    const publisher = await lab.publisher(made, ALONE);
    const store = lab.path('store');
    await cp(made.cacheDir, store, { recursive: true });
    const args = [
      'daemon',
      '--store',
      store,
      ...ALONE,
      '--substituter-port',
      '0',
      '--publisher',
      publisher.mirror,
      '--peer',
      publisher.peer,
    ];
    const { process: daemon, ready } = await lab.service([...args, '--trusted-public-key', made.publicKey]);
    const { seq, records } = await daemon.event('followed');
    let facts: CliEvent = { event: '' };
    await until(async () => {
      facts = (await status(store)).event('daemon');
      return (facts['members'] as unknown[]).length > 0;
    }, daemon);
    assert.deepEqual(
      [facts['state'], facts['pid'], facts['port'], facts['scope'], facts['storeDir']],
      ['running', daemon.pid, ready['port'], 'lan', store],
    );
    const [map] = facts['maps'] as { address: string; edition: { seq: number; records: number } }[];
    assert.deepEqual([map?.address, map?.edition.seq, map?.edition.records], [publisher.mirror, seq, records]);
    const [member] = facts['members'] as { address: string; isNeighbour: boolean }[];
    assert.deepEqual([member?.address, member?.isNeighbour], [publisher.peer, true]);
    const { stdout } = await lab.runPlain(['status', '--store', store]);
    assert.match(
      stdout,
      new RegExp(
        `^daemon: offers \\d+ NARs on port ${String(ready['port'])} \\(scope lan, process ${daemon.pid}\\); started `,
      ),
    );
    const [url] = ready['substituters'] as string[];
    assert.deepEqual(facts['substituters'], ready['substituters']);
    assert.ok(stdout.includes(`  for Nix   ${url}\n`), stdout);
    assert.match(stdout, new RegExp(`^  member    ${publisher.peer}: `, 'm'));
    assert.match(
      stdout,
      new RegExp(`^  hash map  \\S+: edition ${String(seq)} with ${String(records)} NARs, made `, 'm'),
    );

    const { process: second } = await lab.service([...args, '--trusted-public-key', made.publicKey]);
    assert.equal((await status(store)).event('daemon')['pid'], daemon.pid, 'a second one does not answer for it');
    await second.stop();
    assert.equal((await status(store)).event('daemon')['pid'], daemon.pid);

    process.kill(daemon.pid, 'SIGSTOP');
    const silent = await status(store);
    process.kill(daemon.pid, 'SIGCONT');
    assert.deepEqual(silent.event('daemon'), { event: 'daemon', state: 'silent', pid: daemon.pid });
    assert.equal(silent.status, 0);
    await daemon.stop('SIGKILL');
    assert.equal((await status(store)).event('daemon')['state'], 'none', 'what it has left is no daemon');
  });
});
