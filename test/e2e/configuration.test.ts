/** The config file, the environment and the commands that show and change them, in real processes. */
import assert from 'node:assert/strict';
import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { after, describe, test } from 'node:test';
import { openFixtureLab } from '../support/fixture-lab.ts';
import { ALONE, assertFailure, FIXTURE_ROOT } from '../support/lab.ts';

const { lab, cache, key } = await openFixtureLab();
after(() => lab[Symbol.asyncDispose]());

describe('configuration', { concurrency: 4 }, () => {
  const configFile = async (text: string): Promise<string> => {
    const file = lab.path('config.toml');
    await writeFile(file, text);
    return file;
  };

  test('publish takes its store, keys and key file from the config file, and key shows the same address', async () => {
    const [store, keyFile] = [await lab.fixtureCache(), lab.path('key')];
    const text = `store = "${store}"\ntrusted-public-key = "${key}"\nkey = "${keyFile}"\nsalt = "lab"\nfrom = "${cache.url}"\n`;
    const env = { NARSWARM_CONFIG: await configFile(text) };
    const published = await lab.run(['publish', '--once'], { env });
    assert.equal(published.status, 0, published.stderr);
    const shown = await lab.run(['key'], { env });
    assert.equal(shown.event('key')['created'], false);
    assert.equal(shown.event('key')['address'], published.event('published')['address']);
    assert.match(String(shown.event('key')['address']), /&s=6c6162$/);
  });

  test('publish without a named store publishes the default one', async () => {
    assertFailure(await lab.run(['publish', '--once']), 7, 'STORE_CORRUPT', /state\/store is not a binary cache/);
  });

  test('--no-upstream overrides the caches of the config file, and contradicts those of a flag', async () => {
    const config = ['--config', await configFile(`from = "${cache.url}"\ntrusted-public-key = "${key}"\n`)];
    const fetch = ['fetch', FIXTURE_ROOT, '--no-copy', ...ALONE];
    const store = lab.path('store');
    const done = await lab.run([...config, ...fetch, '--store', store]);
    assert.equal(done.status, 0, done.stderr);
    const again = await lab.run([...fetch, ...config, '--store', store, '--no-upstream']);
    assert.equal(again.status, 0, again.stderr);
    const both = await lab.run([...fetch, ...config, '--no-upstream', '--from', cache.url]);
    assertFailure(both, 2, 'USAGE', /--no-upstream asks no cache and --from names one/);
  });

  test('a message names the file from which the option that it names has its value', async () => {
    const file = await configFile(`from = "${cache.url}"\nrequire = 2\n`);
    const fetch = [
      'fetch',
      FIXTURE_ROOT,
      '--no-copy',
      '--trusted-public-key',
      key,
      '--store',
      lab.path('store'),
      ...ALONE,
    ];
    const run = await lab.runPlain([...fetch, '--config', file]);
    assert.equal(run.status, 4, run.stderr);
    assert.match(run.stderr, /--require asks for 2.* \(--require comes from \S*config\.toml-\d+:2\)\n$/);
    const flag = await lab.runPlain([...fetch, '--config', file, '--require', '2']);
    assert.doesNotMatch(flag.stderr, /comes from/);
  });

  test('a fetch beside the daemon does not take its port', async () => {
    const taken = `port = ${cache.port}\n`;
    const config = ['--config', await configFile(`${taken}from = "${cache.url}"\ntrusted-public-key = "${key}"\n`)];
    const fetch = ['fetch', FIXTURE_ROOT, '--no-copy', '--seed-for', '1ms', ...ALONE, '--store', lab.path('store')];
    const run = await lab.run([...fetch, ...config]);
    assert.equal(run.status, 0, run.stderr);
    const daemon = await lab.run(['daemon', '--store', lab.path('store'), ...ALONE, ...config]);
    assertFailure(daemon, 9, 'LISTEN_FAILED', new RegExp(`127.0.0.1:${cache.port}`));
  });

  test('a malformed file or variable ends a command before it begins', async () => {
    const file = await configFile('\nport = "many"\n');
    const fetch = ['fetch', FIXTURE_ROOT, '--store', lab.path('store')];
    assertFailure(await lab.run([...fetch, '--config', file]), 2, 'USAGE', /config\.toml-\d+:2: port: Expected a port/);
    const env = { NARSWARM_DHT: 'maybe' };
    assertFailure(await lab.run(fetch, { env }), 2, 'USAGE', /NARSWARM_DHT: Expected true, false, 1 or 0/);
    assertFailure(await lab.run([...fetch, '--config', lab.path('none')]), 2, 'USAGE', /there is no .*none/);
    const off = ['daemon', '--config', await configFile('scope = "off"')];
    assertFailure(await lab.run(off), 2, 'USAGE', /--scope off \(.*:1\) serves nobody/);
    const keyFile = lab.path('unmade');
    const published = await configFile(`scope = "off"\npublish = true\nkey = "${keyFile}"\n`);
    const update = ['update', '--store', lab.path('store'), '--config', published];
    assertFailure(await lab.run(update), 2, 'USAGE', /--scope off \(.*:1\) serves nobody and --publish \(.*:2\)/);
    await assert.rejects(stat(keyFile), { code: 'ENOENT' });
  });

  test('flags that make no sense are refused, and nothing is created', async () => {
    const keyFile = lab.path('unmade');
    const once = ['publish', '--once', '--store', await lab.fixtureCache(), '--key', keyFile];
    assertFailure(await lab.run([...once, '--valid-for', '0d']), 2, 'USAGE', /--valid-for.*a second or more/);
    await assert.rejects(stat(keyFile), { code: 'ENOENT' });
    const fetch = ['fetch', FIXTURE_ROOT, '--store', lab.path('store')];
    assertFailure(await lab.run([...fetch, '--peer-timeout', '0s']), 2, 'USAGE', /--peer-timeout.*above 0/);
    assertFailure(await lab.run([...fetch, '--publisher-timeout', '0s']), 2, 'USAGE', /--publisher-timeout.*above 0/);
    assertFailure(await lab.run([...fetch, '--listen', 'nonsense host']), 2, 'USAGE', /--listen.*an IP address/);
    assertFailure(await lab.run(['dht', '--listen', '999.1.1.1']), 2, 'USAGE', /--listen.*an IP address/);
  });

  test('subscribe, subscriptions and unsubscribe work together', async () => {
    const text = '# mine\nscope = "lan"\n';
    const file = await configFile(text);
    const config = ['--config', file];
    const cwd = await lab.folder('flake');
    const added = await lab.run(
      ['subscribe', 'system', '.#system', '--import', '--to', '/mnt', '--switch-to', '/run/x', ...config],
      { cwd },
    );
    assert.equal(added.status, 0, added.stderr);
    const attribute = ['subscribe', 'stdenv', 'stdenv', '-f', './default.nix', '--sources', '--publish', ...config];
    assert.equal((await lab.run(attribute, { cwd })).status, 0);
    const listed = await lab.run(['subscriptions', ...config]);
    const off = {
      import: false,
      to: null,
      profile: null,
      switchTo: null,
      sources: false,
      ready: false,
      publish: false,
    };
    assert.deepEqual(listed.events, [
      {
        event: 'subscription',
        name: 'system',
        source: `${cwd}#system`,
        file: null,
        ...off,
        import: true,
        to: '/mnt',
        switchTo: '/run/x',
        where: `${file}:4`,
      },
      {
        event: 'subscription',
        name: 'stdenv',
        source: 'stdenv',
        file: join(cwd, 'default.nix'),
        ...off,
        sources: true,
        publish: true,
        where: `${file}:10`,
      },
    ]);
    const plain = await lab.runPlain(['subscriptions', ...config]);
    assert.match(
      plain.stdout,
      /^system +\S+#system +import to \/mnt, switch to \/run\/x\nstdenv +-f \S+\/default\.nix stdenv +sources, publish\n$/,
    );

    const taken = await lab.run(['subscribe', 'system', '/run/current-system', ...config]);
    assertFailure(taken, 2, 'USAGE', /:4 has a subscription system: replace it with --replace/);
    const replaced = await lab.run(['subscribe', 'system', '/run/current-system', '--replace', ...config]);
    assert.equal(replaced.event('subscribed')['replaced'], true);
    const unknown = await lab.run(['unsubscribe', 'sistem', ...config]);
    assertFailure(unknown, 2, 'USAGE', /no subscription sistem in .*: did you mean system\? \(it has system, stdenv\)/);
    for (const name of ['system', 'stdenv']) assert.equal((await lab.run(['unsubscribe', name, ...config])).status, 0);
    assert.equal(await readFile(file, 'utf8'), text);
    assert.match(
      (await lab.runPlain(['subscriptions', ...config])).stderr,
      /no subscriptions in .*add one with narswarm subscribe/,
    );
  });

  test('subscribe refuses a source that an update could not read', async () => {
    const config = ['--config', await configFile('')];
    assertFailure(await lab.run(['subscribe', '../x', '/x', ...config]), 2, 'USAGE', /"\.\.\/x" is not a name/);
    assertFailure(await lab.run(['subscribe', 'x', '', ...config]), 2, 'USAGE', /source/);
    assertFailure(await lab.run(['subscribe', 'x', '/x', '--to', '/mnt', ...config]), 2, 'USAGE', /--import/);
    const folder = await lab.folder('plain');
    const neither = /neither a list of store paths nor a link .* a #, as .*#default/;
    assertFailure(await lab.run(['subscribe', 'x', folder, ...config]), 2, 'USAGE', neither);
    const invalid = await lab.run(['subscribe', 'x', '/nix/store/foo', ...config]);
    assertFailure(invalid, 2, 'STORE_PATH_INVALID', /"\/nix\/store\/foo" is not a store path/);
    await mkdir(join(folder, basename(FIXTURE_ROOT), 'etc'), { recursive: true });
    await symlink(folder, join(folder, 'link'));
    await writeFile(join(folder, 'list'), '');
    const sound = [join(folder, 'none'), join(folder, 'link'), join(folder, 'list'), `${FIXTURE_ROOT}/etc`];
    for (const [index, path] of [...sound, join(folder, basename(FIXTURE_ROOT), 'etc'), folder + '#x'].entries())
      assert.equal((await lab.run(['subscribe', `sound-${index}`, path, ...config])).status, 0, path);
  });

  test('a config file in the Nix store is left to NixOS', async () => {
    const dir = await lab.folder('etc');
    await mkdir(join(dir, 'store'));
    await writeFile(join(dir, 'store', 'made.toml'), '', { mode: 0o444 });
    await symlink('store/made.toml', join(dir, 'config.toml'));
    const run = await lab.run(['subscribe', 'x', '/run/current-system', '--config', join(dir, 'config.toml')]);
    assertFailure(run, 2, 'USAGE', /config\.toml is read-only: .*services\.narswarm\.subscriptions/);
  });

  test('config shows every value and where it came from, without passwords', async () => {
    const file = await configFile(
      'from = ["https://me:secret@cache.example.org/x"]\nport = 6881\n[subscriptions.a]\nsource = "/x"\n',
    );
    const env = { NARSWARM_MAX_SIZE: '50G' };
    const run = await lab.run(['config', '--no-dht', '--config', file], { env });
    const setting = (name: string): unknown[] => {
      const found = run.events.find((event) => event['key'] === name);
      return [found?.['value'], found?.['source'], found?.['where']];
    };
    assert.deepEqual(setting('from'), [['https://cache.example.org/x'], 'file', `${file}:1`]);
    assert.deepEqual(setting('port'), ['6881', 'file', `${file}:2`]);
    assert.deepEqual(setting('max-size'), ['50G', 'environment', 'NARSWARM_MAX_SIZE']);
    assert.deepEqual(setting('dht'), [false, 'flag', '--no-dht']);
    assert.deepEqual(setting('lan'), [null, 'default', '']);
    assert.deepEqual(run.event('config')['subscriptions'], ['a']);
    const plain = await lab.runPlain(['config', '--config', file], { env });
    assert.match(plain.stdout, /^store +\S+\/state\/store +default$/m);
    assert.match(plain.stdout, /^max-size +50G +NARSWARM_MAX_SIZE$/m);
    assert.doesNotMatch(plain.stdout, /secret/);
  });
});
