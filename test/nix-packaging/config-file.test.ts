/** The program accepts the sound config files that the NixOS module writes, and refuses the wrong ones. */
import assert from 'node:assert/strict';
import { writeFile } from 'node:fs/promises';
import { after, before, suite, test } from 'node:test';
import { Lab, type Run } from '../support/lab.ts';
import { evaluate, type Evaluated } from './module-cases.ts';

const CASES = {
  desktop: './nix/examples/desktop.nix',
  publisher: './nix/examples/publisher.nix',
  builder: './nix/examples/builder.nix',
  full: `{
    services.narswarm = {
      enable = true;
      substituter = { port = 8080; listen = [ "127.0.0.1" "192.0.2.7" ]; };
      subscriptions."x.y-z_1" = { source = "stdenv"; file = "/etc/nixos/default.nix"; import = true; to = "ssh-ng://server"; sources = true; };
      settings = {
        from = [ "https://cache.nixos.org" ];
        dht-bootstrap = [ "192.0.2.1:6881" ];
        peer = [ "192.0.2.7:6881" "[2001:db8::1]:6881" ];
        listen = "0.0.0.0";
        lan = false;
        max-download-rate = "10MB/s";
        peer-timeout = "90s";
        keep-generations = 3;
        salt = "desktops";
        hint = [ "192.0.2.9:6881" ];
        valid-for = "14d";
      };
    };
  }`,
  without: '{ services.narswarm = { enable = true; substituter.enable = false; }; }',
  malformed: '{ services.narswarm = { enable = true; cacheSize = "plenty"; }; }',
} as const;

suite('the config file of the NixOS module', () => {
  let lab: Lab;
  let seen: Readonly<Record<keyof typeof CASES, Evaluated>>;
  before(async () => {
    lab = await Lab.open();
    seen = evaluate(CASES);
  });
  after(() => lab[Symbol.asyncDispose]());

  /** Runs the command of checkConfig. */
  async function check(name: keyof typeof CASES): Promise<Run> {
    const file = lab.path('config.toml');
    await writeFile(file, seen[name].toml);
    return lab.run(['--config', file, 'config']);
  }

  for (const name of ['desktop', 'publisher', 'builder', 'full', 'without'] as const) {
    test(`accepts ${name}`, async () => {
      const run = await check(name);
      assert.equal(run.status, 0, `${run.stderr}\n${seen[name].toml}`);
    });
  }

  test('refuses a malformed size', async () => {
    const run = await check('malformed');
    assert.equal(run.status, 2, run.stdout);
    assert.match(run.stderr, /max-size.*Expected a size/);
  });
});
