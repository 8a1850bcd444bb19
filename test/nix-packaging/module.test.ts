/**
 * The NixOS module, evaluated by the real Nix: with a stub of nixpkgs' lib, and with the real one if it is found
 * (NIXPKGS_LIB, or <nixpkgs>).
 */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { before, suite, test } from 'node:test';
import { parse } from 'smol-toml';
import units from '../../nix/units.json' with { type: 'json' };
import { evaluate, service, type Evaluated } from './module-cases.ts';
import { LIBS, TOP } from './nix-eval.ts';

const configuration = (text: string): string => `{ services.narswarm = { enable = true; ${text} }; }`;

/** README's NixOS lines for neighbours and for every night, unchanged. */
const [ofNeighbours = '', ofNight = ''] = Array.from(
  readFileSync(`${TOP}README.md`, 'utf8').matchAll(/```nix\n(services\..*?)```/gs),
  ([, lines = '']) => lines,
);

const CASES = {
  neighbours: `{ ${ofNeighbours} }`,
  night: `{ ${ofNight} }`,
  desktop: './nix/examples/desktop.nix',
  publisher: './nix/examples/publisher.nix',
  builder: './nix/examples/builder.nix',
  hook: './nix/examples/upgrade-hook.nix',
  bare: configuration(''),
  disabled: '{ services.narswarm.settings.port = 1; }',
  off: configuration('scope = "off";'),
  byHand: configuration('update.startAt = [ ];'),
  timer: configuration('update = { startAt = "03:30"; randomizedDelaySec = "5m"; persistent = false; };'),
  unchecked: configuration('checkConfig = false;'),
  merged: configuration('subscriptions.a.source = "/run/current-system"; donations = [ pkgs.jq ];'),
  donations: configuration('donations = [ pkgs.hello pkgs.hello pkgs.gtk pkgs.nodejs_22 pkgs.nodejs_24 ];'),
  noDht: configuration('settings = { port = 6881; dht = false; lan = false; };'),
  shut: configuration('openFirewall = false;'),
  shutByHand: `{ networking.firewall.interfaces.eth0 = { allowedTCPPorts = [ 16277 ]; allowedTCPPortRanges = [ ]; };
    services.narswarm = { enable = true; openFirewall = false; }; }`,
  cohortByHand: `{ networking.firewall.allowedTCPPortRanges = [ { from = 16000; to = 17000; } ];
    services.narswarm = { enable = true; scope = "cohort"; }; }`,
  cohortShut: configuration('scope = "cohort"; openFirewall = false;'),
  listening: configuration('substituter = { port = 1234; listen = [ "192.0.2.7" "::1" "fd00::7" ]; };'),
  onlyIPv6: configuration('substituter.listen = [ "::1" ];'),
  elsewhere: configuration('storeDir = "/srv/nars"; netrcFile = "/etc/nix/netrc";'),
  noFirewall: `{ networking.firewall.enable = false;
    services.narswarm = { enable = true; scope = "cohort"; settings.port = 0; }; }`,
} as const;

/** Configurations that contradict themselves, each with its refusal. */
const CONTRADICTIONS: Readonly<Record<string, readonly [text: string, says: RegExp]>> = {
  'a firewall with port 0': ['settings.port = 0;', /settings\.port = 0/],
  'a firewall with DHT port 0': [
    'scope = "cohort"; openFirewall = true; settings.dht-port = 0;',
    /settings\.dht-port = 0/,
  ],
  'a scope beyond the local network behind a firewall': [
    'scope = "cohort";',
    /Add services\.narswarm\.openFirewall = true; \(TCP 16277 16278-16284, UDP 16277 6771 5353\)/,
  ],
  'scope off, published': ['scope = "off"; publish = true; keyFile = "/k";', /scope "off".*publish/],
  'scope off with peers': ['scope = "off"; settings.peer = [ "192.0.2.7:6881" ];', /scope "off".*settings\.peer/],
  'scope off with ports': [
    'scope = "off"; openFirewall = true; settings = { port = 1; dht-port = 1; };',
    /scope "off".*openFirewall/,
  ],
  'scope cohort without DHT': [
    'scope = "cohort"; openFirewall = true; settings.dht = false;',
    /scope "cohort".*settings\.dht = false/,
  ],
  'scope public without DHT': ['openFirewall = true; settings = { scope = "public"; dht = false; };', /scope "public"/],
  'publish without a key': ['publish = true;', /needs a key.*narswarm key --file/],
  'a published subscription of no publisher': [
    'subscriptions.lab = { source = "/run/current-system"; publish = true; };',
    /subscription lab says publish/,
  ],
  'two keys': ['keyFile = "/a"; settings.key = "/b";', /keyFile and services\.narswarm\.settings\.key/],
  'a key in the Nix store': ['keyFile = "/nix/store/x.key";', /\/nix\/store\/x\.key is for a secret/],
  'a key by a relative path': ['keyFile = "x.key";', /x\.key is for a secret/],
  'a file store elsewhere': ['settings.store = "/srv/narswarm";', /settings\.store.*services\.narswarm\.storeDir/],
  'a netrc in the Nix store': ['netrcFile = "/nix/store/netrc";', /\/nix\/store\/netrc is for a secret/],
  'a file store that the units cannot see': ['storeDir = "/home/me/nars";', /storeDir is \/home\/me\/nars/],
  'a malformed name': ['subscriptions."../x".source = "/run/current-system";', /\.\.\/x is not a valid name/],
  'a store to import into, and no import': [
    'subscriptions = { lab = { source = "/x"; to = "/mnt"; }; sound = { source = "/x"; to = "/mnt"; import = true; }; };',
    /subscription lab has .to.*import = true/,
  ],
  'a donation without a known path': ['donations = [ pkgs.unknown ];', /path of unknown is not known/],
};

/** Configurations that are refused before any assertion is evaluated. */
const ERRORS: Readonly<Record<string, string>> = {
  'an unknown scope': 'scope = "everyone";',
  'two scopes': 'scope = "lan"; settings.scope = "cohort";',
  'an unknown option': 'openFireWall = true;',
  'a subscription without a source': 'subscriptions.a = { };',
  'an unknown key of a subscription': 'subscriptions.a = { source = "/run/current-system"; improt = true; };',
};

for (const [title, lib] of LIBS) {
  suite(`the NixOS module, ${title}`, () => {
    let seen: Readonly<Record<keyof typeof CASES, Evaluated>>;
    let others: Readonly<Record<string, Evaluated>>;
    before(() => {
      seen = evaluate(CASES, lib);
      const texts = Object.entries(CONTRADICTIONS).map(([name, [text]]) => [name, text] as const);
      const all = [...texts, ...Object.entries(ERRORS)].map(([name, text]) => [name, configuration(text)]);
      others = evaluate(Object.fromEntries(all) as Record<string, string>, lib);
    });

    test('sets nothing if it is not enabled', () => {
      const { services, timers, etc, nix } = seen.disabled;
      assert.deepEqual([services, timers, etc], [{}, {}, {}]);
      assert.deepEqual(nix, { substituters: ['https://cache.nixos.org/'] });
    });

    test('the examples evaluate without a failed assertion', () => {
      for (const { refusals, warnings } of [
        seen.desktop,
        seen.publisher,
        seen.builder,
        seen.hook,
        seen.bare,
        seen.noDht,
      ])
        assert.deepEqual([refusals, warnings], [[], []]);
    });

    test('README’s lines for neighbours make a machine that fetches its own system and shares it', () => {
      const { refusals, warnings, toml, services, allowedTCPPorts } = seen.neighbours;
      assert.deepEqual([refusals, warnings], [[], []]);
      const source = '/etc/nixos#nixosConfigurations.desktop.config.system.build.toplevel';
      const system = { source, import: true, sources: false, ready: false, publish: false };
      assert.deepEqual(structuredClone(parse(toml)), { subscriptions: { system } });
      assert.deepEqual(Object.keys(services).toSorted(), ['narswarm', 'narswarm-update']);
      assert.deepEqual(allowedTCPPorts, [16_277]);
    });

    test('README’s lines for every night make a machine that gives and takes', () => {
      const { refusals, warnings, toml, services, timers, allowedTCPPorts } = seen.night;
      assert.deepEqual([refusals, warnings], [[], []]);
      const { subscriptions, ...rest } = parse(toml);
      assert.deepEqual(rest, { 'max-size': '50G', until: '06:00' });
      assert.deepEqual(Object.keys(subscriptions as object), ['desktop']);
      assert.deepEqual(Object.keys(services).toSorted(), ['narswarm', 'narswarm-update']);
      assert.deepEqual(timers['narswarm-update']?.timerConfig, units.timer);
      assert.deepEqual(allowedTCPPorts, [16_277, 16_276]);
    });

    test('the config file has the names of the options', () => {
      assert.equal(seen.bare.toml, '');
      const { subscriptions, ...rest } = parse(seen.desktop.toml);
      assert.deepEqual(rest, { 'max-size': '50G', until: '06:00' });
      const { desktop } = subscriptions as Record<string, Record<string, unknown>>;
      const { source, ...flags } = desktop ?? {};
      assert.match(String(source), /^magnet:\?xs=urn:btpk:[0-9a-f]{64}#desktop$/);
      assert.deepEqual(flags, { import: true, publish: false, ready: false, sources: false });
    });

    test('units and people use the same config file', () => {
      const file = seen.desktop.etc['narswarm/config.toml'] ?? '';
      assert.match(file, /-narswarm-config\.toml$/, 'it is not the one that the program has checked');
      for (const name of ['narswarm', 'narswarm-update'])
        assert.ok(String(service(seen.desktop, name).serviceConfig['ExecStart']).includes(` --config ${file} `));
      assert.match(seen.unchecked.etc['narswarm/config.toml'] ?? '', /-narswarm\.toml$/);
    });

    test('daemon and update are confined, and the update has a low priority', () => {
      const { serviceConfig: daemon } = service(seen.desktop, 'narswarm');
      const { serviceConfig: update, restartIfChanged } = service(seen.desktop, 'narswarm-update');
      for (const config of [daemon, update]) {
        assert.partialDeepStrictEqual(config, { ...units.system, ...units.filters });
        assert.ok(!('MemoryDenyWriteExecute' in config), 'V8 cannot run');
      }
      assert.match(String(daemon['ExecStart']), /\/bin\/narswarm --config \S+ daemon$/);
      assert.match(String(update['ExecStart']), /\/bin\/narswarm --config \S+ update$/);
      assert.partialDeepStrictEqual(daemon, units.daemon);
      assert.match(String(daemon['ExecReload']), /kill -HUP/);
      assert.partialDeepStrictEqual(update, units.update);
      assert.equal(restartIfChanged, false);
      assert.equal(service(seen.desktop, 'narswarm').environment['NIX_REMOTE'], 'daemon');
      assert.deepEqual(seen.desktop.nix['extra-allowed-users'], ['narswarm']);
    });

    test('systemd keeps the HTTP port open, except that of a publisher, which answers late', () => {
      const { narswarm, ...rest } = seen.bare.sockets;
      assert.deepEqual(rest, {});
      assert.deepEqual(narswarm?.wantedBy, ['sockets.target']);
      assert.deepEqual(narswarm?.socketConfig, { ...units.socket, ListenStream: ['127.0.0.1:16275'] });
      const { ListenStream } = seen.listening.sockets['narswarm']?.socketConfig ?? {};
      assert.deepEqual(ListenStream, ['192.0.2.7:1234', '[fd00::7]:1234']);
      for (const { sockets } of [seen.off, seen.publisher, seen.onlyIPv6, seen.disabled]) assert.deepEqual(sockets, {});
      assert.equal(service(seen.bare, 'narswarm').stopIfChanged, false);
      assert.deepEqual(service(seen.bare, 'narswarm').wantedBy, ['multi-user.target'], 'it serves neighbours, too');
    });

    test('the timer runs at night, and makes up for a missed time once', () => {
      assert.deepEqual(seen.bare.timers['narswarm-update']?.timerConfig, units.timer);
      assert.deepEqual(seen.timer.timers['narswarm-update']?.timerConfig, {
        OnCalendar: '03:30',
        RandomizedDelaySec: '5m',
        Persistent: false,
      });
      assert.deepEqual(seen.byHand.timers, {});
    });

    test('the publisher’s key reaches the units as a credential', () => {
      for (const name of ['narswarm', 'narswarm-update']) {
        const { serviceConfig, environment } = service(seen.publisher, name);
        const file = '/var/lib/secrets/narswarm-publisher.key';
        assert.deepEqual(serviceConfig['LoadCredential'], [`publisher-key:${file}`]);
        assert.equal(environment['NARSWARM_KEY'], '%d/publisher-key');
        assert.ok(!('LoadCredential' in service(seen.desktop, name).serviceConfig));
      }
      assert.ok(!seen.publisher.toml.includes('secrets'), 'the config file is for all to read');
    });

    test('passwords of caches reach the units as a credential', () => {
      for (const name of ['narswarm', 'narswarm-update']) {
        const { serviceConfig } = service(seen.elsewhere, name);
        assert.deepEqual(serviceConfig['LoadCredential'], ['netrc:/etc/nix/netrc']);
      }
    });

    test('a file store elsewhere belongs to a user that stays', () => {
      const { toml, users, tmpfiles, services, refusals } = seen.elsewhere;
      assert.deepEqual([parse(toml)['store'], refusals], ['/srv/nars', []]);
      assert.deepEqual(Object.keys(users), ['groups', 'users']);
      assert.deepEqual(tmpfiles, {
        narswarm: { '/srv/nars': { d: { user: 'narswarm', group: 'narswarm', mode: '0750' } } },
      });
      for (const { serviceConfig, unitConfig } of Object.values(services)) {
        assert.deepEqual(serviceConfig['ReadWritePaths'], ['/srv/nars']);
        assert.deepEqual(unitConfig['RequiresMountsFor'], ['/srv/nars']);
      }
      assert.deepEqual([seen.bare.users, seen.bare.tmpfiles], [{}, {}]);
    });

    test('the firewall admits the local network by default, and others only if told to', () => {
      const beside = { from: 16_278, to: 16_284 };
      const opened = ({ allowedTCPPorts, allowedTCPPortRanges, allowedUDPPorts }: Evaluated): object => ({
        tcp: allowedTCPPorts,
        ranges: allowedTCPPortRanges,
        udp: allowedUDPPorts,
      });
      assert.deepEqual(opened(seen.bare), { tcp: [16_277], ranges: [beside], udp: [6771, 5353] });
      assert.deepEqual(opened(seen.desktop), { tcp: [16_277, 16_276], ranges: [beside], udp: [6771, 5353] });
      assert.deepEqual(opened(seen.publisher), { tcp: [16_277, 16_276], ranges: [beside], udp: [16_277, 6771, 5353] });
      assert.deepEqual(opened(seen.noDht), { tcp: [6881], ranges: [beside], udp: [] });
      for (const { allowedTCPPorts, allowedUDPPorts } of [seen.shut, seen.off, seen.cohortShut, seen.disabled])
        assert.deepEqual([allowedTCPPorts, allowedUDPPorts], [[], []]);
    });

    test('a closed firewall causes a warning, unless the port is opened by hand', () => {
      assert.match(seen.shut.warnings.join(), /neighbours get no NARs.*openFirewall = true; \(TCP 16277 /);
      for (const { warnings, refusals } of [seen.shutByHand, seen.cohortByHand, seen.cohortShut, seen.noFirewall])
        assert.deepEqual([warnings, refusals], [[], []]);
    });

    test('with scope off there is only the update', () => {
      assert.deepEqual(Object.keys(seen.off.services), ['narswarm-update']);
      assert.deepEqual(seen.off.refusals, []);
    });

    test('donated store paths are no dependency of the system', () => {
      const { subscriptions } = parse(seen.donations.toml) as { subscriptions: Record<string, { source: string }> };
      const names = Object.keys(subscriptions).toSorted();
      assert.equal(names.length, 4);
      for (const name of ['donation-hello', 'donation-gtk_']) assert.ok(names.includes(name), names.join(' '));
      assert.equal(names.filter((name) => /^donation-[0-9a-z]{32}-nodejs-2[24]$/.test(name)).length, 2);
      for (const { source } of Object.values(subscriptions)) assert.match(source, /^\/nix\/store\/[0-9a-z]{32}-/);
      assert.deepEqual(seen.donations.context, [], 'the system would build what it donates');
      const merged = parse(seen.merged.toml) as { subscriptions: object };
      assert.deepEqual(Object.keys(merged.subscriptions).toSorted(), ['a', 'donation-jq']);
    });

    test('an upgrade can wait for the update', () => {
      const { serviceConfig } = service(seen.hook, 'nixos-upgrade');
      assert.match(String(serviceConfig['ExecStartPre']), /^-.*systemctl start narswarm-update\.service$/);
    });

    for (const [name, [, says]] of Object.entries(CONTRADICTIONS)) {
      test(`refuses ${name}`, () => {
        const refusals = others[name]?.refusals ?? [];
        assert.equal(refusals.length, 1, refusals.join('\n'));
        assert.match(refusals[0] ?? '', says);
      });
    }

    for (const name of Object.keys(ERRORS)) {
      test(`gives an error for ${name}`, () => assert.equal(others[name]?.error, true));
    }
  });
}
