/** A publisher that shows different editions to different followers. */
import assert from 'node:assert/strict';
import { cp, readdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { ALONE, FIXTURE_ROOT, fixtureKey, Lab, mirrorOf, type Run } from '../support/lab.ts';
import { Machine } from '../support/update-lab.ts';

describe('two histories of one publisher', () => {
  let lab: Lab;
  let key: string;
  before(async () => {
    lab = await Lab.open();
    key = await fixtureKey();
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Publishes an edition with a root of this name. @returns its mirror, and the way to end it */
  const publish = async (store: string, name: string): Promise<{ mirror: string; end: () => Promise<unknown> }> => {
    const what = ['--store', store, '--root', `${name}=${FIXTURE_ROOT}`, '--trusted-public-key', key];
    const { process, ready } = await lab.service(['publish', ...what, '--key', `${lab.dir}/publisher.key`, ...ALONE]);
    const mirror = mirrorOf(String(ready['address']), `http://127.0.0.1:${String(ready['httpPort'])}`);
    return { mirror, end: () => process.stop() };
  };
  const warned = ({ events }: Run): string[] =>
    events.filter(({ kind }) => kind === 'two-histories').map(({ message }) => String(message));

  test('is found out by a follower that sees both, and is named until its owner was asked', async () => {
    const store = await lab.fixtureCache();
    await (await publish(store, 'first')).end();
    const split = await lab.folder('split');
    await cp(store, split, { recursive: true });
    const ours = await publish(store, 'ours');
    const machine = await Machine.of(lab, { mirror: { source: ours.mirror } }, ['--trusted-public-key', key]);
    const first = await machine.update();
    assert.deepEqual([first.status, warned(first)], [0, []], first.stderr);
    await ours.end();
    const again = await publish(store, 'again');
    await machine.subscribe({ mirror: { source: again.mirror } });
    const next = await machine.update();
    assert.deepEqual([next.status, warned(next)], [0, []], next.stderr);
    await again.end();

    const theirs = await publish(split, 'theirs');
    await machine.subscribe({ mirror: { source: theirs.mirror } });
    const [warning = '', ...more] = warned(await machine.update());
    assert.deepEqual(more, []);
    const [, proof = ''] = /has signed two histories.*manifests in (\S+), then remove/.exec(warning) ?? [];
    assert.deepEqual((await readdir(proof)).toSorted(), ['first', 'second']);
    assert.ok(dirname(proof).startsWith(machine.store));
    const status = (): Promise<Run> =>
      lab.run(['status', '--store', machine.store], { env: { NARSWARM_CONFIG: machine.config } });
    assert.deepEqual(((await status()).event('status')['map'] as { twoHistories: unknown }).twoHistories, proof);
    await rm(proof, { recursive: true });
    assert.deepEqual(((await status()).event('status')['map'] as { twoHistories: unknown }).twoHistories, null);
  });
});
