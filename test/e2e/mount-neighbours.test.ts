/** `narswarm mount` of a closure that no cache can give: its NARs, of neighbours or of the file store, list it. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { readNarInfos, type Lab } from '../support/lab.ts';
import { openLanLab } from '../support/lan-lab.ts';
import { DEAD_CACHE, fullUser, LanUser, startHolder } from '../support/lan-user.ts';
import { lacksFuse, lookWell } from '../support/mounted.ts';
import { Lan } from '../support/namespaces.ts';

suite('a mounted closure without any cache', { skip: lacksFuse() }, () => {
  let lab: Lab;
  let made: MadeClosure;

  before(async () => {
    ({ lab, made } = await openLanLab([600_000, 60_000], 'cache.nixos.org'));
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Mounts the closure for a user, and fails unless all of its paths are listed. */
  async function assertLists(user: LanUser, store = user.store): Promise<void> {
    const dir = await lab.folder('mount');
    await using mounted = user.start('mount', dir, made.root, '--store', store);
    await mounted.event('mounted');
    // The host has mounts of its own.
    const listed = await lookWell('nsenter', '-m', '-t', String(mounted.pid), 'ls', '-LlR', dir);
    const infos = [...(await readNarInfos(made.cacheDir)).values()];
    for (const { storePath } of infos) assert.ok(listed.includes(storePath.slice('/nix/store/'.length)), listed);
    assert.match(listed, / 600000 /);
    assert.equal((await mounted.stop()).status, 0);
  }

  test('is listed from the NARs of a neighbour', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    await startHolder(lab, lan.host('holder'), { made });
    await assertLists(await LanUser.of(lab, lan.host('client'), { made, cache: DEAD_CACHE }));
  });

  test('is listed from the NARs of its file store', async () => {
    await using stack = new AsyncDisposableStack();
    const lan = stack.use(Lan.open());
    const full = await fullUser(lab, lan.host('alone'), { made });
    const user = await LanUser.of(lab, full.host, { made, cache: DEAD_CACHE });
    await assertLists(user, full.store);
  });
});
