/** The daemon as the first substituter of the machine, by the NixOS module. */
import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import ports from '../../nix/ports.json' with { type: 'json' };
import { evaluate, type Evaluated } from './module-cases.ts';
import { LIBS } from './nix-eval.ts';

const configuration = (text: string): string => `{ services.narswarm = { enable = true; ${text} }; }`;

const CASES = {
  bare: configuration(''),
  noDaemon: configuration('scope = "off";'),
  oldNix: '{ nix.package = pkgs.nix_2_8; services.narswarm.enable = true; }',
  noNix: '{ nix.enable = false; services.narswarm.enable = true; }',
  own: `{ nix.settings = { fallback = false; connect-timeout = 60; substituters = [ "https://cache.example" ]; };
    services.narswarm.enable = true; }`,
} as const;

const UPSTREAM = 'https://cache.nixos.org/';
const LOCAL = `http://127.0.0.1:${ports.substituter}`;

for (const [title, lib] of LIBS) {
  suite(`the substituter of the NixOS module, ${title}`, () => {
    let seen: Readonly<Record<keyof typeof CASES, Evaluated>>;
    before(() => {
      seen = evaluate(CASES, lib);
    });
    const substituters = (name: keyof typeof CASES): unknown => seen[name].nix['substituters'];

    test('is the first one, and its loss is harmless', () => {
      const { nix, refusals, warnings, services } = seen.bare;
      assert.deepEqual([refusals, warnings], [[], []]);
      assert.deepEqual(nix['substituters'], [LOCAL, UPSTREAM]);
      assert.deepEqual([nix['fallback'], nix['connect-timeout']], [true, 15]);
      assert.ok(!('trusted-public-keys' in nix), 'signatures are those of the caches');
      assert.ok('narswarm' in services);
    });

    test('an old Nix, which its loss would break, is not told of it', () => {
      assert.match(seen.oldNix.warnings.join(), /Nix 2\.8\.1 fails when a substituter is gone/);
    });

    test('leaves the settings that the machine has chosen', () => {
      const { nix } = seen.own;
      assert.deepEqual(nix['substituters'], [LOCAL, 'https://cache.example', UPSTREAM]);
      assert.deepEqual([nix['fallback'], nix['connect-timeout']], [false, 60]);
    });

    for (const name of ['noDaemon', 'noNix', 'oldNix'] as const) {
      test(`changes nothing in nix.conf: ${name}`, () => {
        assert.deepEqual(substituters(name), [UPSTREAM]);
        assert.ok(!('fallback' in seen[name].nix) && !('connect-timeout' in seen[name].nix));
      });
    }
  });
}
