import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { configLocation, defaultKeyFile, defaultStoreDir, type Surroundings } from '../../src/config/locations.ts';

suite('places', () => {
  const user = (env: Surroundings['env'] = {}): Surroundings => ({ env, isRoot: false, home: '/home/u' });
  const root = (env: Surroundings['env'] = {}): Surroundings => ({ env, isRoot: true, home: '/root' });

  test('the config file: the flag, the variable, the system’s for root, XDG for others', () => {
    const env = { NARSWARM_CONFIG: '/v', XDG_CONFIG_HOME: '/x' };
    assert.deepEqual(configLocation('f', root(env)), { path: 'f', namedBy: '--config' });
    assert.deepEqual(configLocation(undefined, root(env)), { path: '/v', namedBy: 'NARSWARM_CONFIG' });
    const service = { CONFIGURATION_DIRECTORY: '/etc/a:/etc/b', XDG_CONFIG_HOME: '/x' };
    assert.deepEqual(configLocation(undefined, user(service)), { path: '/etc/a/config.toml' });
    assert.deepEqual(configLocation(undefined, root({ XDG_CONFIG_HOME: '/x' })), { path: '/etc/narswarm/config.toml' });
    assert.deepEqual(configLocation(undefined, user({ XDG_CONFIG_HOME: '/x' })), { path: '/x/narswarm/config.toml' });
    const empty = user({ XDG_CONFIG_HOME: '', NARSWARM_CONFIG: '' });
    assert.deepEqual(configLocation(undefined, empty), { path: '/home/u/.config/narswarm/config.toml' });
  });

  test('the file store and the key: systemd’s folder, the system’s for root, XDG for others', () => {
    const service = { STATE_DIRECTORY: '/var/lib/private/n:/other' };
    for (const around of [user(service), root(service)]) {
      assert.equal(defaultStoreDir(around), '/var/lib/private/n/store');
      assert.equal(defaultKeyFile(around), '/var/lib/private/n/publisher.key');
    }
    assert.equal(defaultStoreDir(root({ XDG_CACHE_HOME: '/c' })), '/var/lib/narswarm/store');
    assert.equal(defaultKeyFile(root()), '/var/lib/narswarm/publisher.key');
    assert.equal(defaultStoreDir(user()), '/home/u/.cache/narswarm');
    assert.equal(defaultStoreDir(user({ XDG_CACHE_HOME: '/c', STATE_DIRECTORY: '' })), '/c/narswarm');
    assert.equal(defaultKeyFile(user({ XDG_CONFIG_HOME: '/x' })), '/x/narswarm/publisher.key');
  });
});
