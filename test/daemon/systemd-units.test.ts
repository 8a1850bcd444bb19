import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { EXIT_STATUSES } from '../../src/errors.ts';
import { systemdUnits, type UnitsOptions } from '../../src/daemon/systemd-units.ts';

const SYSTEM: UnitsOptions = { program: ['/opt/node', '/opt/narswarm/dist/main.js'], user: false };

/** Returns the lines of one unit. */
function lines(options: UnitsOptions, name: string): readonly string[] {
  const unit = systemdUnits(options).find((one) => one.name === name);
  assert.ok(unit !== undefined);
  assert.ok(unit.text.startsWith(`# ${name}\n`));
  return unit.text.split('\n');
}

suite('units of systemd', () => {
  test('the system has a daemon, an update and a timer', () => {
    assert.deepEqual(
      systemdUnits(SYSTEM).map(({ name }) => name),
      ['narswarm.service', 'narswarm-update.service', 'narswarm-update.timer'],
    );
    const daemon = lines(SYSTEM, 'narswarm.service');
    const start = 'ExecStart=/opt/node /opt/narswarm/dist/main.js';
    for (const line of [
      `${start} daemon`,
      'DynamicUser=yes',
      'StateDirectory=narswarm',
      'Environment=CONFIGURATION_DIRECTORY=/etc/narswarm',
      'WantedBy=multi-user.target',
    ])
      assert.ok(daemon.includes(line), line);
    const update = lines(SYSTEM, 'narswarm-update.service');
    for (const line of [`${start} update`, 'IOSchedulingClass=idle', 'Nice=19', 'DynamicUser=yes'])
      assert.ok(update.includes(line), line);
    assert.ok(!update.some((line) => line.startsWith('WantedBy')), 'the timer starts it, not the boot');
    assert.ok(lines(SYSTEM, 'narswarm-update.timer').includes('Persistent=yes'));
  });

  test('services have only the rights that V8, the network and Nix need', () => {
    for (const name of ['narswarm.service', 'narswarm-update.service']) {
      const unit = lines(SYSTEM, name);
      for (const line of ['CapabilityBoundingSet=', 'ProtectSystem=strict', 'NoNewPrivileges=yes', 'PrivateUsers=yes'])
        assert.ok(unit.includes(line), line);
      // V8 writes code; Node lists interfaces by netlink; the file store looks at /proc for processes that are gone.
      assert.ok(!unit.some((line) => /^(MemoryDenyWriteExecute|ProtectProc|ProcSubset)=/.test(line)));
      assert.ok(unit.includes('RestrictAddressFamilies=AF_NETLINK'));
      // After the line that takes @resources away: systemd.exec(5) adds and removes in their order.
      const filters = unit.filter((line) => line.startsWith('SystemCallFilter='));
      assert.equal(filters.at(-1), 'SystemCallFilter=setpriority', 'threads make themselves nice');
    }
  });

  test('units of a user need nothing that only the system’s manager can do', () => {
    const unit = lines({ ...SYSTEM, user: true }, 'narswarm.service');
    for (const line of ['ExecStart=/opt/node /opt/narswarm/dist/main.js daemon', 'WantedBy=default.target'])
      assert.ok(unit.includes(line), line);
    assert.ok(!unit.some((line) => /^(DynamicUser|StateDirectory|Protect|Private|Capability|After)/.test(line)));
    assert.ok(unit.includes('RestrictNamespaces=yes'));
  });

  test('a system unit gets the key as a credential, a user’s unit by its path', () => {
    const keyFile = '/etc/100%/my key';
    const system = lines({ ...SYSTEM, keyFile }, 'narswarm-update.service');
    assert.ok(system.includes('LoadCredential=publisher-key:/etc/100%%/my key'));
    assert.ok(system.includes('Environment=NARSWARM_KEY=%d/publisher-key'));
    const user = lines({ ...SYSTEM, user: true, keyFile }, 'narswarm-update.service');
    assert.ok(user.includes('Environment="NARSWARM_KEY=/etc/100%%/my key"'));
  });

  test('no failure ends a service for good, except a malformed config file', () => {
    const daemon = lines(SYSTEM, 'narswarm.service');
    for (const line of ['StartLimitIntervalSec=0', 'Restart=on-failure', 'RestartPreventExitStatus=2', 'MemoryMax=2G'])
      assert.ok(daemon.includes(line), line);
    const update = lines(SYSTEM, 'narswarm-update.service');
    const others = Object.values(EXIT_STATUSES).map(([status]) => status);
    const [, kept = ''] = /^RestartPreventExitStatus=(.*)$/m.exec(update.join('\n')) ?? [];
    assert.deepEqual(
      others.filter((status) => !kept.split(' ').map(Number).includes(status)),
      [EXIT_STATUSES.OK[0], EXIT_STATUSES.LISTEN[0], EXIT_STATUSES.INTERRUPTED[0]],
    );
  });

  test('units name the group of the Nix daemon, and folders of other programs', () => {
    const options = { ...SYSTEM, group: 'nix-users', path: ['/opt/nix 2/bin', '/usr/bin'], seen: ['/root/x y'] };
    const unit = lines(options, 'narswarm-update.service');
    for (const line of ['SupplementaryGroups=nix-users', 'ProtectHome=tmpfs', 'BindReadOnlyPaths="/root/x y"'])
      assert.ok(unit.includes(line), line);
    const path = unit.find((line) => line.includes('PATH=')) ?? '';
    assert.match(path, /^Environment="PATH=\/opt\/nix 2\/bin:\/nix\/var\/.*:\/usr\/bin:\/sbin:\/bin"$/);
    assert.ok(!lines({ ...options, user: true }, 'narswarm.service').some((line) => /^(Supp|Bind)/.test(line)));
  });

  test('any character in a path stands for itself', () => {
    const program = ['/opt/a b/node', String.raw`/opt/50%/$HOME/"x"\y.js`];
    const unit = lines({ program, user: true }, 'narswarm.service');
    assert.ok(
      unit.includes(String.raw`ExecStart="/opt/a b/node" "/opt/50%%/$$HOME/\"x\"\\y.js" daemon`),
      unit.join('\n'),
    );
  });
});
