import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { CONFIG_KEYS } from '../../src/config/keys.ts';
import { parseConfig } from '../../src/config/schema.ts';
import { NarswarmError } from '../../src/errors.ts';

const FILE = '/etc/narswarm/config.toml';

suite('the config file', () => {
  test('returns values as written, with their lines; a list may be one string', () => {
    const { values, subscriptions } = parseConfig(
      'from = "https://c"\n\npeer = ["h:1", "[::1]:2"]\nport = 6881\ndht = false\nmax-size = "50G"\nkeep-generations = 0',
      FILE,
    );
    assert.deepEqual(Object.fromEntries(values), {
      from: { written: ['https://c'], where: `${FILE}:1` },
      peer: { written: ['h:1', '[::1]:2'], where: `${FILE}:3` },
      port: { written: '6881', where: `${FILE}:4` },
      dht: { written: false, where: `${FILE}:5` },
      'max-size': { written: '50G', where: `${FILE}:6` },
      'keep-generations': { written: '0', where: `${FILE}:7` },
    });
    assert.deepEqual(subscriptions, []);
    assert.equal(parseConfig('', FILE).values.size, 0);
  });

  test('returns subscriptions with their defaults, in the order of the file', () => {
    const text =
      '[subscriptions.b]\nsource = "/run/current-system"\n[subscriptions.24]\nsource = "x"\nfile = "/f"\nimport = true\nto = "/mnt"\nsources = true\npublish = true\n';
    const off = { import: false, sources: false, ready: false, publish: false };
    const on = { import: true, sources: true, ready: false, publish: true };
    assert.deepEqual(parseConfig(text, FILE).subscriptions, [
      { name: 'b', source: '/run/current-system', ...off, where: `${FILE}:1` },
      { name: '24', source: 'x', file: '/f', to: '/mnt', ...on, where: `${FILE}:3` },
    ]);
  });

  test('returns the profile and the running path of a subscription', () => {
    const text = '[subscriptions.a]\nsource = "/x"\nimport = true\nprofile = "/p"\nswitch-to = "/run/current-system"\n';
    const [subscription] = parseConfig(text, FILE).subscriptions;
    assert.deepEqual([subscription?.profile, subscription?.switchTo], ['/p', '/run/current-system']);
  });

  const refused: readonly (readonly [text: string, line: number, says: RegExp])[] = [
    ['[subscriptions.a]\nsource = "/x"\nprofile = "/p"', 3, /profile.*Expected import = true/],
    [
      '[subscriptions.a]\nsource = "/x"\nimport = true\nto = "ssh-ng://h"\nprofile = "/p"',
      5,
      /profile.*Expected a store on this machine/,
    ],
    ['[subscriptions.a]\nsource = "/x"\nswitch-to = "result"', 3, /switch-to.*Expected an absolute path/],
    ['[subscriptions.a]\nsource = "/x"\nimport = true\nprofile = "p"', 4, /profile.*Expected an absolute path/],
    ['max-sise = "50G"', 1, /no key "max-sise": did you mean max-size\?/],
    ['# max-size\n\nmaxSize = "50G"', 3, /did you mean max-size\?/],
    ['trusted_public_keys = []', 1, /did you mean trusted-public-key\?/],
    ['stoer = "/x"', 1, /did you mean store\?/],
    ['prot = 1', 1, /did you mean port\?/],
    ['no-lan = true', 1, /there is no key "no-lan": write lan = false$/],
    ['colour = "blue"', 1, /no key "colour": narswarm config lists all keys/],
    ['toString = 1', 1, /no key "toString"/],
    ['port = 1\n__proto__ = { port = 99999 }', 2, /unsafe/],
    ['[subscriptions.constructor]\nsource = ""', 1, /unsafe/],
    ['\nport = 99999', 2, /port: Expected a port/],
    ['port = "x"', 1, /port: Expected a port/],
    ['port = 1.5', 1, /port: Expected a port/],
    ['port = true', 1, /port: Expected a number/],
    ['max-size = "50 apples"', 1, /max-size: Expected a size such as/],
    ['max-download-rate = "0"', 1, /max-download-rate: Expected a rate above 0/],
    ['\nmax-wan-upload-rate = ["1MB/s", "25:00-06:00 1MB/s"]', 2, /max-wan-upload-rate: Expected \[DAY\[-DAY\]\]/],
    ['max-upload-rate = 5', 1, /max-upload-rate: Expected a text in quotes, or a list/],
    ['valid-for = "soon"', 1, /valid-for: Expected a duration such as/],
    ['[subscriptions.a]\nsource = "/x"\nready = true', 3, /Expected import = true beside it, and no to/],
    [
      '[subscriptions.a]\nsource = "/x"\nimport = true\nto = "/mnt"\nready = true',
      5,
      /a rebuild takes what it needs from the Nix store of this machine/,
    ],
    ['port = 1\nvalid-for = "0d"', 2, /valid-for: Expected a duration of a second or more/],
    ['recompress = "zstd:20"', 1, /recompress: Allowed are zstd and zstd:1 to zstd:19/],
    ['valid-for = "999ms"', 1, /valid-for: Expected a duration of a second or more/],
    ['peer-timeout = "0s"', 1, /peer-timeout: Expected a duration above 0/],
    ['publisher-timeout = "0.1ms"', 1, /publisher-timeout: Expected a duration above 0/],
    ['listen = "999.1.1.1"', 1, /listen: Expected an IP address/],
    ['listen = "nonsense host"', 1, /listen: Expected an IP address/],
    ['valid-for = 8', 1, /valid-for: Expected a text in quotes/],
    ['until = 06:00:00', 1, /until: Expected a text in quotes/],
    ['until = "25:00"', 1, /until: Expected a time of day such as 06:00/],
    ['keep-generations = -1', 1, /keep-generations: Expected a whole number/],
    ['dht = "yes"', 1, /dht: Expected true or false, without quotes/],
    ['scope = "everyone"', 1, /scope: Expected one of off, lan, cohort, public/],
    ['store = "cache"', 1, /store: Expected an absolute path/],
    ['store = "~/cache"', 1, /store: Expected an absolute path/],
    ['listen = ""', 1, /listen: .*empty/],
    [`salt = "${'x'.repeat(65)}"`, 1, /at most 64 bytes/],
    ['from = [\n  "https://good",\n\n  "s3://bad"\n]', 4, /from: s3:\/\/bad is not an upstream/],
    ['from = ["https://good", 1]', 1, /from: Expected a text/],
    ['publisher = "magnet:?xs=1"', 1, /publisher: .*not the address of a hash map/],
    ['trusted-public-key = "x"', 1, /trusted-public-key: /],
    ['peer = "nowhere"', 1, /peer: "nowhere" is not HOST:PORT/],
    ['port = 1\nport = 2', 2, /not valid TOML.*column/],
    ['port =\n', 1, /not valid TOML/],
    [
      '[subscriptions.a]\nsource = "/x"\nimports = true',
      3,
      /no key "imports" in a subscription: did you mean import\?/,
    ],
    ['[subscriptions.a]\nsource = "/x"\ncolour = 1', 3, /the keys are source, file, import/],
    [
      '[subscriptions.a]\nsource = "/x"\n\nmax-size = "1G"',
      4,
      /no key "max-size" in a subscription: it applies to the whole file; put it above the first \[table\]/,
    ],
    ['port = 1\n[subscriptions.a]\nimport = true', 2, /the subscription a has no source/],
    ['[subscriptions.a]\nsource = "/x"\nimport = "yes"', 3, /import of the subscription a: Expected true or false/],
    ['[subscriptions.a]\nsource = ""', 2, /source of the subscription a: .*empty/],
    ['[subscriptions.a]\nsource = "/nix/store/foo"', 2, /source of the subscription a: "\/nix\/store\/foo" is not a/],
    ['[subscriptions.a]\nsource = ".#x"', 2, /source of the subscription a: .*absolute/],
    ['[subscriptions.a]\nsource = "/x"\nfile = "./default.nix"', 3, /file of the subscription a: .*absolute/],
    ['[subscriptions.a]\nsource = "/x"\nto = "/mnt"', 3, /to of the subscription a: Expected import = true beside it/],
    ['[subscriptions.a]\nto = "/mnt"\nsource = "/x"\nimport = false', 2, /Expected import = true beside it/],
    ['[subscriptions."../a"]\nsource = "/x"', 1, /Expected a name of/],
    ['[[subscriptions]]\nsource = "/x"', 1, /Expected tables/],
    ['[subscriptions]\na = ["x"]', 2, /Expected a table/],
    ['subscriptions = { a = { source = 1 } }', 1, /source of the subscription a: Expected a text/],
    ['\nvalid-for = "x"\nport = 99999', 2, /valid-for/],
  ];
  for (const [text, line, says] of refused) {
    test(`refuses ${JSON.stringify(text.slice(0, 60))}`, () => {
      assert.throws(
        () => parseConfig(text, FILE),
        (error) => {
          assert.ok(error instanceof NarswarmError, String(error));
          assert.equal(error.code, 'USAGE');
          assert.match(error.message, says);
          assert.ok(error.message.startsWith(`${FILE}:${line}: `), error.message);
          assert.doesNotMatch(error.message, /\n/);
          return true;
        },
      );
    });
  }

  test('accepts the shortest durations, and addresses of both kinds', () => {
    const sound = ['valid-for = "1s"', 'peer-timeout = "1ms"', 'listen = "::"', 'listen = "127.0.0.1"'];
    for (const text of sound) assert.equal(parseConfig(text, FILE).values.size, 1, text);
  });

  test('a path that does not depend on the working folder is not relative', () => {
    const text =
      '[subscriptions.a]\nsource = "hello"\nfile = "<nixpkgs>"\n[subscriptions.b]\nsource = "nixpkgs#a"\n[subscriptions.c]\nsource="hello"\nfile="channel:nixos-unstable"';
    assert.equal(parseConfig(text, FILE).subscriptions.length, 3);
  });

  test('a subscription accepts its keys in one spelling only', () => {
    assert.ok(!(CONFIG_KEYS as readonly string[]).includes('subscriptions'));
  });
});
