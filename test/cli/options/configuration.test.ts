/** Defaults < config file < environment < flags, on commands with the options of the real ones. */
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, suite, test } from 'node:test';
import { Command } from 'commander';
import { configure, originOf, placeOf, Program, type OriginOf } from '../../../src/cli/options/configuration.ts';
import {
  addKeys,
  addNetwork,
  addPeers,
  networkOptions,
  type NetworkFlags,
} from '../../../src/cli/options/shared-options.ts';
import type { PlaceOf } from '../../../src/cli/options/places.ts';
import type { NetworkOptions } from '../../../src/swarm/network.ts';

suite('origins of a command’s options', () => {
  let dir: string;
  let file: string;
  const known = new Set(Object.keys(process.env));
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-options-'));
    file = join(dir, 'config.toml');
  });
  after(() => rm(dir, { recursive: true }));
  afterEach(() => {
    for (const name of Object.keys(process.env)) if (!known.has(name)) delete process.env[name];
  });

  /** Parses a command line under a config file; `args` begins with the name of the command. */
  const parsed = async (
    toml: string,
    args: readonly string[],
  ): Promise<{ options: NetworkFlags; from: OriginOf; place: PlaceOf }> => {
    await writeFile(file, toml);
    const root = new Program('narswarm').option('--config <file>').hook('preAction', (_, action) => configure(action));
    const command = addKeys(
      addPeers(addNetwork(new Command(args[0]).option('--store <dir>', '', '/default'), { scope: 'lan' })),
    );
    root.addCommand(
      command
        .option('--publish')
        .option('--file <file>')
        .action(() => {}),
    );
    await root.parseAsync([...args, '--config', file], { from: 'user' });
    return { options: command.opts(), from: originOf(command), place: (option) => placeOf(command, option) };
  };
  const network = async (toml: string, ...flags: string[]): Promise<NetworkOptions> => {
    const { options, from } = await parsed(toml, ['daemon', ...flags]);
    return networkOptions(options, options.scope ?? 'lan', from);
  };

  test('flags override variables, the config file and defaults, in this order', async () => {
    const none = await parsed('', ['daemon']);
    assert.deepEqual(
      [none.options, none.from('store')],
      [
        { store: '/default', dht: true, lan: true, scope: 'lan' },
        { source: 'default', where: '' },
      ],
    );
    const toml = '# comment\nstore = "/file"\nmax-download-rate = "1MB/s"\n';
    const config = await parsed(toml, ['daemon']);
    assert.partialDeepStrictEqual(config.options, { store: '/file', maxDownloadRate: [{ rateBytesPerSec: 1e6 }] });
    assert.deepEqual(config.from('store'), { source: 'config', where: `${file}:2` });
    process.env['NARSWARM_STORE'] = '/env';
    const env = await parsed(toml, ['daemon']);
    assert.partialDeepStrictEqual(env.options, { store: '/env', maxDownloadRate: [{ rateBytesPerSec: 1e6 }] });
    assert.deepEqual(env.from('store'), { source: 'env', where: 'NARSWARM_STORE' });
    const flag = await parsed(toml, ['daemon', '--store', '/flag', '--no-dht']);
    assert.partialDeepStrictEqual(flag.options, {
      store: '/flag',
      maxDownloadRate: [{ rateBytesPerSec: 1e6 }],
      dht: false,
    });
    assert.deepEqual(flag.from('store'), { source: 'cli', where: '--store' });
    assert.deepEqual(flag.from('dht'), { source: 'cli', where: '--no-dht' });
  });

  test('a value that is no flag has a place, of an option or of a key that the command has not', async () => {
    const toml = 'store = "/file"\nrequire = 2\ndht = false\nport = 6881\n';
    const { place } = await parsed(toml, ['fetch']);
    assert.deepEqual(place('--store'), { where: `${file}:1` });
    assert.deepEqual(place('--require'), { where: `${file}:2` });
    assert.deepEqual([place('--no-dht'), place('--dht')], [{ where: `${file}:3` }, undefined]);
    assert.deepEqual([place('--port'), place('--scope'), place('--version')], [undefined, undefined, undefined]);
    assert.equal((await parsed(toml, ['fetch', '--store', '/flag'])).place('--store'), undefined);
    process.env['NARSWARM_STORE'] = '/env';
    assert.deepEqual((await parsed(toml, ['fetch'])).place('--store'), { where: 'NARSWARM_STORE' });
  });

  test('lists are replaced, not added to', async () => {
    const toml = 'peer = ["a:1", "b:2"]';
    const { options } = await parsed(toml, ['fetch']);
    assert.deepEqual(options.peer, [
      { host: 'a', port: 1 },
      { host: 'b', port: 2 },
    ]);
    const { options: flagged } = await parsed(toml, ['fetch', '--peer', 'c:3']);
    assert.deepEqual(flagged.peer, [{ host: 'c', port: 3 }]);
    assert.deepEqual((await parsed('peer = []', ['fetch'])).options.peer, []);
  });

  test('a boolean can be turned on and off', async () => {
    assert.equal((await parsed('dht = false', ['fetch'])).options.dht, false);
    assert.equal((await parsed('dht = false', ['fetch', '--dht'])).options.dht, true);
    assert.equal((await parsed('lan = true', ['fetch', '--no-lan'])).options.lan, false);
    process.env['NARSWARM_LAN'] = '0';
    assert.equal((await parsed('', ['fetch'])).options.lan, false);
  });

  test('ports of the config file apply to services only', async () => {
    const toml = 'port = 6881\ndht-port = 6882';
    for (const name of ['daemon', 'publish'])
      assert.partialDeepStrictEqual((await parsed(toml, [name])).options, { port: 6881, dhtPort: 6882 });
    const { options } = await parsed(toml, ['fetch']);
    assert.deepEqual([options.port, options.dhtPort], [undefined, undefined]);
    process.env['NARSWARM_PORT'] = '7000';
    assert.partialDeepStrictEqual((await parsed(toml, ['fetch'])).options, { port: 7000 });
  });

  test('a key of the config file sets no option of another meaning', async () => {
    const toml = 'publish = true\npeer = "a:1"\nkey = "/key"';
    assert.ok(!('publish' in (await parsed(toml, ['subscribe'])).options));
    assert.partialDeepStrictEqual((await parsed(toml, ['update'])).options, { publish: true });
    assert.equal((await parsed(toml, ['torrent'])).options.peer, undefined);
    assert.partialDeepStrictEqual((await parsed(toml, ['key'])).options, { file: '/key' });
    assert.ok(!('file' in (await parsed(toml, ['subscribe'])).options));
  });

  test('contradicting settings of one origin are refused, with the origin', async () => {
    const usage = (message: RegExp): object => ({ code: 'USAGE', message });
    await assert.rejects(
      network('', '--scope', 'cohort', '--no-dht'),
      usage(/^--scope cohort announces .* --no-dht forbids/),
    );
    await assert.rejects(
      network('scope = "cohort"\ndht = false'),
      usage(/--scope cohort \(.*config\.toml:1\) .*--no-dht \(.*config\.toml:2\)/),
    );
    await assert.rejects(
      network('', '--scope', 'off', '--peer', 'a:1'),
      usage(/^--scope off talks .* --peer names one/),
    );
    await assert.rejects(network('scope = "off"\npeer = "a:1"'), usage(/--peer \(.*config\.toml:2\)/));
    await assert.rejects(
      network('scope = "off"\npublish = true'),
      usage(/--scope off \(.*config\.toml:1\) serves nobody and --publish \(.*config\.toml:2\)/),
    );
    await assert.rejects(network('scope = "off"', '--publish'), usage(/serves nobody and --publish signs/));
  });

  test('an update with --scope off may sign a hash map for the daemon', async () => {
    assert.partialDeepStrictEqual(await network('publish = true', '--scope', 'off'), { scope: 'off' });
    assert.partialDeepStrictEqual(await network('', '--scope', 'off', '--publish'), { scope: 'off' });
  });

  test('a flag that means less sharing overrides the config file', async () => {
    assert.partialDeepStrictEqual(await network('scope = "cohort"', '--no-dht'), { scope: 'cohort', dht: false });
    const { scope, peers } = await network('peer = "a:1"', '--scope', 'off');
    assert.deepEqual([scope, peers], ['off', []]);
    process.env['NARSWARM_DHT'] = 'false';
    assert.partialDeepStrictEqual(await network('scope = "public"'), { scope: 'public', dht: false });
  });

  test('a flag does not silently undo a restriction of the config file', async () => {
    await assert.rejects(network('dht = false', '--scope', 'cohort'), {
      code: 'USAGE',
      message: /--no-dht \(.*config\.toml:1\)/,
    });
    await assert.rejects(network('scope = "off"', '--peer', 'a:1'), {
      code: 'USAGE',
      message: /--scope off \(.*config\.toml:1\)/,
    });
    assert.partialDeepStrictEqual(await network('dht = false', '--scope', 'cohort', '--dht'), { dht: true });
  });

  test('a command without options of the config file does not read it', async () => {
    await writeFile(file, 'nonsense');
    const root = new Program('narswarm').option('--config <file>').hook('preAction', (_, action) => configure(action));
    let ran = false;
    root.addCommand(
      new Command('demo').action(() => {
        ran = true;
      }),
    );
    await root.parseAsync(['demo', '--config', file], { from: 'user' });
    assert.ok(ran);
    await assert.rejects(parsed('nonsense', ['fetch']), {
      code: 'USAGE',
      message: /config\.toml:1: this is not valid TOML/,
    });
  });
});
