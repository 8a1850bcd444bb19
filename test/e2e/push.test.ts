/** One deploy host and several servers with an sshd: what is pushed reaches all of them. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { existsSync } from 'node:fs';
import { Lab, type Run } from '../support/lab.ts';
import { Lan, type Host } from '../support/namespaces.ts';
import { makeSshUser, SshHost, type SshUser } from '../support/ssh-host.ts';

const PATHS = 4;

suite('a push', { concurrency: 2 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  let user: SshUser;
  before(async () => {
    lab = await Lab.open();
    [made, user] = await Promise.all([lab.closure([600_000, 20_000]), makeSshUser(lab)]);
  });
  after(() => lab[Symbol.asyncDispose]());

  function push(deploy: Host, ...args: readonly string[]): Promise<Run> {
    return lab.run(['push', made.root, ...args], {
      wrapper: deploy.wrapper,
      env: { NIX_REMOTE: `local?root=${made.buildStore}`, NIX_SSHOPTS: user.sshOptions },
    });
  }

  test('two servers get the closure', async () => {
    await using lan = Lan.open();
    const deploy = lan.host('deploy');
    const trustedKeys = [made.publicKey];
    const servers = await Promise.all(
      ['a', 'b'].map((name) => SshHost.start(lab, lan.host(name), { user, trustedKeys })),
    );
    const run = await push(deploy, ...servers.map(({ name }) => name));
    assert.equal(run.status, 0, run.stderr);
    assert.deepEqual(run.event('pushed'), { ...run.event('pushed'), hosts: 2, complete: 2 });
    for (const server of servers) {
      assert.equal(server.requisites(made.root).length, PATHS);
      assert.ok(!existsSync(server.incoming), 'what was imported is left');
    }
  });
});
