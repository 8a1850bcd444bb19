/** The modules for Home Manager and nix-darwin, evaluated with the options of these that they set. None has run. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import ports from '../../nix/ports.json' with { type: 'json' };
import units from '../../nix/units.json' with { type: 'json' };
import { LIBS, nixEval, tryNixEval } from './nix-eval.ts';

type Section = Readonly<Record<string, unknown>>;

interface Home {
  readonly services: Readonly<Record<string, { Unit: Section; Service: Section; Install?: Section }>>;
  readonly sockets: Readonly<Record<string, { Socket: Section }>>;
  readonly timers: Readonly<Record<string, { Timer: Section }>>;
  readonly files: readonly string[];
  readonly settings: Section;
  readonly refusals: readonly string[];
}
interface Darwin {
  readonly daemons: Readonly<Record<string, { command: string; serviceConfig: Section }>>;
  readonly users: { readonly users: Readonly<Record<string, Section>>; readonly knownUsers: readonly string[] };
  readonly nix: Section;
  readonly settings: Section;
  readonly refusals: readonly string[];
}

const expression = (config: string, lib = ''): string =>
  `import ./nix/tests/other-modules-eval.nix { nixpkgsLib = ${JSON.stringify(lib)}; config = { ${config} }; }`;

for (const [title, lib] of LIBS) {
  suite(`the modules for Home Manager and nix-darwin, ${title}`, () => {
    const evaluated = (config: string): { home: Home; darwin: Darwin } =>
      nixEval(expression(config, lib)) as { home: Home; darwin: Darwin };

    test('Home Manager: enable alone makes a daemon, an update and its timer', () => {
      const { services, sockets, timers, files, settings, refusals } = evaluated('').home;
      assert.deepEqual([settings, refusals, files], [{}, [], ['narswarm/config.toml']]);
      const { narswarm: daemon, 'narswarm-update': update } = services;
      assert.match(String(daemon?.Service['ExecStart']), /\/bin\/narswarm --config \S+ daemon$/);
      assert.match(String(update?.Service['ExecStart']), /\/bin\/narswarm --config \S+ update$/);
      assert.partialDeepStrictEqual(daemon?.Service, { ...units.filters, ...units.daemon });
      assert.partialDeepStrictEqual(update?.Service, { ...units.filters, ...units.update });
      assert.deepEqual(daemon?.Install, { WantedBy: ['default.target'] });
      assert.deepEqual(update?.Install, undefined);
      for (const { Service } of Object.values(services)) assert.ok(!('DynamicUser' in Service), 'it is of the system');
      assert.deepEqual(timers['narswarm-update']?.Timer, units.timer);
      assert.deepEqual(sockets['narswarm']?.Socket, { ...units.socket, ListenStream: ['127.0.0.1:16275'] });
    });

    test('nix-darwin: enable alone makes two daemons of a user of their own, and the substituter', () => {
      const { daemons, users, nix, settings, refusals } = evaluated('').darwin;
      assert.deepEqual([settings, refusals], [{ store: '/var/lib/narswarm/store' }, []]);
      assert.match(String(daemons['narswarm']?.command), /\/bin\/narswarm --config \S+ daemon$/);
      assert.match(String(daemons['narswarm-update']?.command), /\/bin\/narswarm --config \S+ update$/);
      for (const { serviceConfig } of Object.values(daemons)) assert.equal(serviceConfig['UserName'], '_narswarm');
      const calendar = daemons['narswarm-update']?.serviceConfig['StartCalendarInterval'];
      assert.deepEqual(calendar, [{ Hour: 2, Minute: 0 }]);
      assert.deepEqual([Object.keys(users.users), users.knownUsers], [['_narswarm'], ['_narswarm']]);
      assert.deepEqual(nix['substituters'], [`http://127.0.0.1:${ports.substituter}`]);
      assert.equal(nix['fallback'], true);
    });

    test('with scope off there is only the update, and no substituter', () => {
      const { home, darwin } = evaluated('scope = "off";');
      assert.deepEqual([home, darwin].map(namesOf), [['narswarm-update'], ['narswarm-update']]);
      assert.deepEqual(darwin.nix, {});
    });

    test('an update may start only by hand', () => {
      const { home, darwin } = evaluated('update.startAt = [ ];');
      assert.deepEqual(home.timers, {});
      assert.ok(!('StartCalendarInterval' in (darwin.daemons['narswarm-update']?.serviceConfig ?? {})));
    });

    test('share the checks of the NixOS module', () => {
      const { home, darwin } = evaluated('scope = "cohort"; settings.dht = false;');
      for (const { refusals } of [home, darwin]) assert.match(refusals.join(), /scope "cohort" announces in the DHT/);
      const { status, stderr } = tryNixEval(expression('settings.max-sise = "50G";', lib));
      assert.notEqual(status, 0);
      assert.match(stderr, /max-sise/);
    });
  });
}

function namesOf(evaluated: Home | Darwin): string[] {
  return Object.keys('services' in evaluated ? evaluated.services : evaluated.daemons);
}
