import assert from 'node:assert/strict';
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { readEnvironment, variableOf } from '../../src/config/environment.ts';
import { CONFIG_KEYS, KEYS } from '../../src/config/keys.ts';
import { configured, loadConfig, subscriptionNamed } from '../../src/config/load.ts';
import type { Surroundings } from '../../src/config/locations.ts';
import { parseConfig } from '../../src/config/schema.ts';

suite('loading the configuration', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-config-'));
  });
  after(() => rm(dir, { recursive: true }));

  const around = (env: Surroundings['env'] = {}): Surroundings => ({ env, isRoot: false, home: dir });

  test('the environment overrides the file, key by key', async () => {
    const file = join(dir, 'a.toml');
    await writeFile(file, 'max-size = "1G"\nport = 1\npeer = "h:1"\ndht = false\n');
    const config = await loadConfig({ file, around: around({ NARSWARM_MAX_SIZE: '2G', NARSWARM_DHT: '1' }) });
    assert.deepEqual(config.values.get('max-size'), { written: '2G', source: 'env', where: 'NARSWARM_MAX_SIZE' });
    assert.deepEqual(config.values.get('port'), { written: '1', source: 'config', where: `${file}:2` });
    assert.deepEqual([config.path, config.exists], [file, true]);
    assert.equal(configured(config, 'max-size'), 2e9);
    assert.equal(configured(config, 'port'), 1);
    assert.equal(configured(config, 'dht'), true);
    assert.deepEqual(configured(config, 'peer'), [{ host: 'h', port: 1 }]);
    assert.equal(configured(config, 'until'), undefined);
  });

  test('a named file must exist, the default one need not', async () => {
    const config = await loadConfig({ around: around() });
    assert.deepEqual([config.path, config.exists], [join(dir, '.config/narswarm/config.toml'), false]);
    const file = join(dir, 'none.toml');
    const missing = { code: 'USAGE', message: /there is no .*none\.toml, the config file of --config/ };
    await assert.rejects(loadConfig({ file, around: around() }), missing);
    const variable = { code: 'USAGE', message: /none\.toml, the config file of NARSWARM_CONFIG/ };
    await assert.rejects(loadConfig({ around: around({ NARSWARM_CONFIG: file }) }), variable);
    await assert.rejects(loadConfig({ file: dir, around: around() }), {
      code: 'USAGE',
      message: /cannot read .*EISDIR/,
    });
  });

  test('splits lists at white space, reads four spellings of booleans, and ignores empty variables', () => {
    const values = readEnvironment({
      NARSWARM_FROM: ' https://a \n https://b ',
      NARSWARM_LAN: '0',
      NARSWARM_DHT: 'true',
      NARSWARM_STORE: '',
      NARSWARM_DEBUG: '1',
      NARSWARM_CONFIG: '/x',
      NARSWARM_DHT_PORT: '6881',
    });
    assert.deepEqual(Object.fromEntries(values), {
      from: ['https://a', 'https://b'],
      lan: false,
      dht: true,
      'dht-port': '6881',
    });
    assert.equal(variableOf('trusted-public-key'), 'NARSWARM_TRUSTED_PUBLIC_KEY');
  });

  test('names a malformed variable', () => {
    const malformed = {
      NARSWARM_DHT: 'yes',
      NARSWARM_MAX_SIZE: 'much',
      NARSWARM_FROM: 'https://a b',
      NARSWARM_SCOPE: 'all',
      NARSWARM_KEEP_GENERATIONS: '-1',
    };
    for (const [name, value] of Object.entries(malformed))
      assert.throws(() => readEnvironment({ [name]: value }), { code: 'USAGE', message: new RegExp(`^${name}: `) });
  });

  test('refuses commas between the items of a list, and accepts them inside an item', () => {
    const commas = ['http://a,http://b', 'http://a, http://b', 'http://c http://a,http://b'];
    const refused = { code: 'USAGE', message: /^NARSWARM_\w+: Expected spaces between the items of a list/ };
    for (const text of commas) assert.throws(() => readEnvironment({ NARSWARM_FROM: text }), refused, text);
    assert.throws(() => readEnvironment({ NARSWARM_PEER: 'a:1,b:2' }), refused);
    const one = readEnvironment({ NARSWARM_FROM: 'http://a/x,y', NARSWARM_SALT: 'a,b' });
    assert.deepEqual(Object.fromEntries(one), { from: ['http://a/x,y'], salt: 'a,b' });
  });

  test('knows a file that a module has written', async () => {
    const written = join(dir, 'store/abc-config.toml');
    await mkdir(join(dir, 'store'));
    await writeFile(written, '');
    const link = join(dir, 'linked.toml');
    await symlink(written, link);
    assert.equal((await loadConfig({ file: link, around: around() })).isOfModule, false);
    const earlier = process.env['NIX_STORE_DIR'];
    process.env['NIX_STORE_DIR'] = join(dir, 'store');
    try {
      assert.equal((await loadConfig({ file: link, around: around() })).isOfModule, true);
    } finally {
      if (earlier === undefined) delete process.env['NIX_STORE_DIR'];
      else process.env['NIX_STORE_DIR'] = earlier;
    }
  });

  test('lists the existing subscriptions if one is unknown', async () => {
    const file = join(dir, 'b.toml');
    await writeFile(file, '[subscriptions.one]\nsource = "/x"\n[subscriptions.two]\nsource = "/y"\n');
    const config = await loadConfig({ file, around: around() });
    assert.equal(subscriptionNamed(config, 'two').source, '/y');
    const unknown = { code: 'USAGE', message: /there is no subscription three in .*: it has one, two/ };
    assert.throws(() => subscriptionNamed(config, 'three'), unknown);
  });

  test('the example is accepted, has every key, and explains each', async () => {
    const url = new URL('../../fixtures/config/example.toml', import.meta.url);
    const text = await readFile(url, 'utf8');
    const { values, subscriptions } = parseConfig(text, 'example.toml');
    assert.deepEqual([...values.keys()].toSorted(), CONFIG_KEYS.toSorted());
    assert.deepEqual(
      new Set(
        subscriptions.flatMap((one) =>
          Object.entries(one).flatMap(([key, value]) => (value === undefined ? [] : [key])),
        ),
      ),
      new Set([
        'name',
        'where',
        'source',
        'file',
        'import',
        'to',
        'profile',
        'switchTo',
        'sources',
        'ready',
        'publish',
      ]),
    );
    for (const key of CONFIG_KEYS) assert.ok(KEYS[key].description.length > 0);
  });
});
