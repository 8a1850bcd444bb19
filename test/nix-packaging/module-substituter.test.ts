/** The daemon as the first substituter of the machine, by the NixOS module. */
import assert from 'node:assert/strict';
import { before, suite, test } from 'node:test';
import { parse } from 'smol-toml';
import ports from '../../nix/ports.json' with { type: 'json' };
import { evaluate, type Evaluated } from './module-cases.ts';
import { LIBS } from './nix-eval.ts';

const configuration = (text: string): string => `{ services.narswarm = { enable = true; ${text} }; }`;

const CASES = {
  bare: configuration(''),
  off: configuration('substituter.enable = false;'),
  offInSettings: configuration('settings.substituter = false;'),
  noDaemon: configuration('scope = "off";'),
  oldNix: '{ nix.package = pkgs.nix_2_8; services.narswarm.enable = true; }',
  noNix: '{ nix.enable = false; services.narswarm.enable = true; }',
  own: `{ nix.settings = { fallback = false; connect-timeout = 60; substituters = [ "https://cache.example" ]; };
    services.narswarm.enable = true; }`,
  others: configuration('substituter = { port = 8080; listen = [ "192.0.2.7" "127.0.0.1" ]; }; openFirewall = true;'),
  onlyOthers: configuration('substituter.listen = [ "2001:db8::1" ]; openFirewall = false;'),
  unsaid: configuration('substituter.listen = [ "0.0.0.0" ];'),
  nowhere: configuration('substituter.listen = [ ];'),
  named: configuration('substituter.listen = [ "127.0.0.1" "localhost" "server.lan" ];'),
  ofChance: configuration('substituter.port = 0;'),
  beside: configuration('settings = { substituter-port = 5000; substituter-listen = [ "127.0.0.1" "::1" ]; };'),
  besideListen: configuration('settings.substituter-listen = [ "0.0.0.0" ]; openFirewall = true;'),
  likewise: configuration('substituter.port = 5000; settings.substituter-port = 5000;'),
  ofPeers: configuration('settings.port = 5000; substituter.port = 5000;'),
  ofMaps: configuration(`substituter.port = ${ports.http};`),
  ofUpdates: configuration(`substituter.port = ${ports.beside.to};`),
  ofPeersOff: configuration(`substituter = { enable = false; port = ${ports.peers}; };`),
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

    for (const name of ['off', 'offInSettings', 'noDaemon', 'noNix', 'oldNix'] as const) {
      test(`changes nothing in nix.conf: ${name}`, () => {
        assert.deepEqual(substituters(name), [UPSTREAM]);
        assert.ok(!('fallback' in seen[name].nix) && !('connect-timeout' in seen[name].nix));
      });
    }

    test('its settings are in the config file', () => {
      assert.equal(seen.bare.toml, '');
      assert.deepEqual(structuredClone(parse(seen.off.toml)), { substituter: false });
      const others = { 'substituter-port': 8080, 'substituter-listen': ['192.0.2.7', '127.0.0.1'] };
      assert.deepEqual(structuredClone(parse(seen.others.toml)), others);
    });

    test('Nix uses the address of this machine', () => {
      assert.deepEqual(substituters('others'), ['http://127.0.0.1:8080', UPSTREAM]);
      assert.deepEqual(substituters('unsaid'), [LOCAL, UPSTREAM]);
      assert.deepEqual(substituters('onlyOthers'), [`http://[2001:db8::1]:${ports.substituter}`, UPSTREAM]);
    });

    test('other machines get in only if openFirewall says so', () => {
      assert.deepEqual(seen.others.allowedTCPPorts, [16_277, 8080]);
      assert.deepEqual(seen.unsaid.allowedTCPPorts, [16_277]);
      assert.match(seen.unsaid.warnings.join(), /substituter\.listen.*openFirewall = true; \(TCP 16275\)/);
      assert.deepEqual([seen.onlyOthers.allowedTCPPorts, seen.bare.allowedTCPPorts], [[], [16_277]]);
    });

    test('has one place for its port and addresses, and a port of its own', () => {
      for (const name of ['beside', 'besideListen'] as const)
        assert.match(seen[name].refusals.join(), /set services\.narswarm\.substituter\.port and \.listen instead/);
      for (const name of ['ofPeers', 'ofMaps', 'ofUpdates'] as const)
        assert.match(seen[name].refusals.join(), /is a port for peers or hash maps: choose another one/);
      for (const name of ['likewise', 'ofPeersOff'] as const) assert.deepEqual(seen[name].refusals, []);
    });

    test('needs a fixed port and an address', () => {
      assert.match(seen.ofChance.refusals.join(), /substituter\.port = 0/);
      assert.match(seen.nowhere.refusals.join(), /substituter\.listen is empty/);
      assert.match(seen.named.refusals.join(), /listen: localhost server\.lan is no IP address/);
    });
  });
}
