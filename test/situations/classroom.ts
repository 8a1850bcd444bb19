/**
 * Thirteen machines in a classroom, one of them the cache behind a slow line: a server publishes, three have the closure
 * already, of which one lies, one falls asleep and one is killed, and eight come in the morning. With NixOS' firewall, the
 * ports open that README names, README's commands and nothing else.
 */
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { falsify } from '../support/falsify.ts';
import { mirrorOf, type Run } from '../support/lab.ts';
import { countLines, mb } from './figures.ts';
import { openHouse } from './house.ts';
import { sourcesOf, type Seat } from './seat.ts';
import { formatTable } from './table.ts';

/** A few large NARs, many small ones: 6 MB. */
const BLOBS = [2_500_000, 1_200_000, 600_000, ...Array.from({ length: 40 }, (_, index) => 2_000 * (index + 1))];
const LINE_KBIT = 8_000;
const PORT = 6881;
const HTTP_PORT = 8081;
const PUPILS = 8;

const firewall = { tcp: [PORT], udp: [PORT, 6771] };
const config = `port = ${PORT}\ndht-port = ${PORT}`;

/** @param say called with each line for people */
export async function playClassroom(say: (line: string) => void): Promise<void> {
  await using house = await openHouse(BLOBS, { signer: 'desktop', lineKbit: LINE_KBIT });
  const { made, cacheHost, nix } = house;

  say('the server fetches the closure through the slow line and publishes it');
  const server = await house.seat('server', {
    config: `${config}\nhttp-port = ${HTTP_PORT}`,
    firewall: { tcp: [...firewall.tcp, HTTP_PORT], udp: firewall.udp },
  });
  const { process: publisher, ready } = await server.service(
    'publish',
    '--no-dht',
    '--from',
    nix.substituter,
    '--root',
    `desktop=${made.root}`,
    '--key',
    join(server.dir, 'key'),
  );
  const address = mirrorOf(String(ready['address']), `http://${server.host.ipv4}:${HTTP_PORT}`);
  const fetchArgs = (seat: Seat): string[] => ['fetch', 'desktop', '--publisher', address, '--to', seat.nixStore];
  const fetch = (seat: Seat): Promise<Run> => seat.run(...fetchArgs(seat));

  say('three machines fetch it, too');
  const [liar, sleeper, victim] = await Promise.all(
    ['liar', 'sleeper', 'victim'].map((name) => house.seat(name, { config, firewall })),
  );
  assert.ok(liar && sleeper && victim);
  for (const run of await Promise.all([liar, sleeper, victim].map(fetch))) assert.equal(run.status, 0, run.stderr);
  await falsify(join(liar.store, 'nar'));
  const daemons = await Promise.all(
    [liar, sleeper, victim].map((seat) => seat.service('daemon', '--publisher', address)),
  );

  say(`${PUPILS} machines come; one of the three lies, one falls asleep, one is killed`);
  const pupils: Seat[] = [];
  for (let index = 1; index <= PUPILS; index++) pupils.push(await house.seat(`pupil-${index}`, { config, firewall }));
  const pupilDaemons = await Promise.all(pupils.map((seat) => seat.service('daemon', '--publisher', address)));
  const sentBefore = cacheHost.sentBytes();
  const fetches = pupils.map((seat) => fetch(seat));
  process.kill(daemons[1]?.process.pid ?? 0, 'SIGSTOP');
  setTimeout(() => process.kill(daemons[2]?.process.pid ?? 0, 'SIGKILL'), 300).unref();
  const runs = await Promise.all(fetches);
  const sentForPupils = cacheHost.sentBytes() - sentBefore;

  const witness = await house.seat('witness', { config, firewall });
  const { stdout, stderr } = await witness.runPlain(...fetchArgs(witness));
  say('one more comes later, and sees:');
  for (const line of `${stderr}${stdout}`.trimEnd().split('\n')) say(`  ${line}`);
  say('the same eight with plain Nix, each into a fresh store');
  const beforeNix = cacheHost.sentBytes();
  const plain = await Promise.all(
    pupils.map(async (_, index) => (await house.seat(`plain-${index + 1}`, { firewall })).plainNix(made.root)),
  );
  const sentForNix = cacheHost.sentBytes() - beforeNix;

  const names = new Map([server, liar, sleeper, victim, ...pupils].map((seat) => [seat.host.ipv4, seat.name]));
  names.set(nix.substituter, 'cache');
  const columns = ['cache', 'server', 'liar', 'sleeper', 'victim', 'pupils'];
  say(
    formatTable(
      ['', 'exit', 's', ...columns.map((name) => `${name} kB`), 'plain Nix exit', 's'],
      runs.map((run, index) => {
        const from = new Map<string, number>();
        for (const [source, bytes] of run.status === 0 ? sourcesOf(run) : []) {
          const name = names.get(source) ?? names.get(hostOf(source)) ?? source;
          const column = name.startsWith('pupil') ? 'pupils' : name;
          from.set(column, (from.get(column) ?? 0) + bytes);
        }
        return [
          pupils[index]?.name ?? '',
          String(run.status),
          (run.durationMs / 1000).toFixed(1),
          ...columns.map((name) => String(Math.round((from.get(name) ?? 0) / 1000))),
          String(plain[index]?.status),
          plain[index]?.seconds.toFixed(1) ?? '',
        ];
      }),
    ),
  );
  say(`the slow line carried ${mb(sentForPupils)} MB for narswarm, ${mb(sentForNix)} MB for plain Nix`);
  say('warnings of all:');
  const printed = [...runs, publisher, ...[...daemons, ...pupilDaemons].map((service) => service.process)];
  for (const [line, count] of countLines(printed.map((one) => one.stderr))) say(`  ${count} x ${line}`);
  for (const seat of pupils) seat.assertHas(made.root);
}

/** Returns the IPv4 host of a peer. If the peer has connected to us, its address is mapped into IPv6. */
function hostOf(source: string): string {
  return source.replace(/:\d+$/, '').replace(/^::ffff:/, '');
}
