/**
 * Thirteen machines in a house with a cache behind a slow line and no publisher. All have subscribed the same list, and
 * their timers strike at the same moment, while everything goes wrong at once: one machine lies, one falls asleep, one
 * loses its power and starts again, one comes late, one has no internet. Default ports, NixOS' firewall as the module
 * sets it, nothing configured.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import assert from 'node:assert/strict';
import { falsify } from '../support/falsify.ts';
import { assertSound, narBytesOf, type CliProcess, type Run } from '../support/lab.ts';
import { bytesFrom, countLines, kB, mb } from './figures.ts';
import { openHouse } from './house.ts';
import type { Seat, Timed } from './seat.ts';
import { formatTable } from './table.ts';

/** A few large NARs, some small ones: 20 MB. */
const BLOBS = [8_000_000, 5_000_000, 3_000_000, 2_000_000, ...Array.from({ length: 50 }, (_, at) => 1_500 * (at + 1))];
const LINE_KBIT = 20_000;
const NAMES = ['liar', 'sleeper', 'victim', 'late', 'cut-off', ...Array.from({ length: 8 }, (_, at) => `m${at + 6}`)];
/** Times from the start of the updates. */
const MISHAP_AFTER_MS = 5_000;
const LATE_AFTER_MS = 8_000;
const SLEEP_MS = 12_000;
const POWERLESS_MS = 1_000;

const firewall = { tcp: Array.from({ length: 8 }, (_, at) => 16_277 + at), udp: [6771, 5353] };

/** A run, and when it ended after the start of all, in seconds. */
type DatedRun = Run & { readonly atS: number };

/** @param say called with each line for people */
export async function playMishaps(say: (line: string) => void): Promise<void> {
  await using house = await openHouse(BLOBS, { signer: 'cache.nixos.org', lineKbit: LINE_KBIT });
  const { made, cacheHost } = house;
  const seats = await Promise.all(NAMES.map((name) => house.seat(name, { firewall })));
  const [liar, sleeper, victim, late, cutOff] = seats;
  assert.ok(liar && sleeper && victim && late && cutOff);

  for (const seat of seats) {
    await writeFile(join(seat.dir, 'system.txt'), `${made.root}\n`);
    const run = await seat.run('subscribe', 'sys', join(seat.dir, 'system.txt'), '--import', '--to', seat.nixStore);
    assert.equal(run.status, 0, run.stderr);
  }
  const ofLiar = await liar.run('update');
  assert.equal(ofLiar.status, 0, ofLiar.stderr);
  await falsify(join(liar.store, 'nar'));
  cutOff.host.cutOffFrom(cacheHost);
  const daemons: CliProcess[] = [];
  const startDaemon = async (seat: Seat): Promise<void> => {
    daemons.push((await seat.service('daemon')).process);
  };
  for (const seat of seats) if (seat !== late) await startDaemon(seat);

  say(
    `${seats.length} machines update at the same moment: one lies, one has no internet; after ${MISHAP_AFTER_MS / 1000} s one ` +
      `falls asleep for ${SLEEP_MS / 1000} s and one loses its power for ${POWERLESS_MS / 1000} s; one comes after ${LATE_AFTER_MS / 1000} s`,
  );
  const readSenders = new Map(seats.map((seat) => [seat, seat.host.countSenders()]));
  const sentBefore = cacheHost.sentBytes();
  const startedAtMs = performance.now();
  const ends = new Map<Seat, Promise<DatedRun>>();
  const update = (seat: Seat): void => {
    const dated = (run: Run): DatedRun => ({ ...run, atS: (performance.now() - startedAtMs) / 1000 });
    ends.set(seat, seat.start('update').end().then(dated));
  };
  for (const seat of seats) if (seat !== late) update(seat);
  await sleep(MISHAP_AFTER_MS);
  sleeper.host.signal('SIGSTOP');
  victim.host.signal('SIGKILL');
  const wakes = sleep(SLEEP_MS).then(() => sleeper.host.signal('SIGCONT'));
  await sleep(POWERLESS_MS);
  await startDaemon(victim);
  update(victim);
  await sleep(LATE_AFTER_MS - MISHAP_AFTER_MS - POWERLESS_MS);
  await startDaemon(late);
  update(late);
  const runs = new Map<Seat, DatedRun>();
  for (const [seat, end] of ends) runs.set(seat, await end);
  await wakes;
  const sent = cacheHost.sentBytes() - sentBefore;
  const senders = new Map(seats.map((seat) => [seat, readSenders.get(seat)?.() ?? new Map<string, number>()]));
  const isComplete = new Map(seats.map((seat) => [seat, holds(seat, made.root)]));

  say('plain Nix on the same line, each machine into a fresh store');
  const beforeNix = cacheHost.sentBytes();
  const plain = await playPlainNix(seats, made.root, cutOff);
  const sentForNix = cacheHost.sentBytes() - beforeNix;

  const columns = [cacheHost, ...seats.map(({ host }) => host)];
  say(
    formatTable(
      ['', 'complete', 'exit', 's', 'done at', 'peers kB', 'cache kB', 'plain Nix', 's'],
      seats.map((seat) => {
        const run = runs.get(seat);
        const nixRun = plain.get(seat);
        return [
          seat.name,
          isComplete.get(seat) === true ? 'yes' : 'NO',
          String(run?.status),
          ((run?.durationMs ?? 0) / 1000).toFixed(1),
          run?.atS.toFixed(1) ?? '',
          run ? kB(bytesFrom(run, 'peers')) : '',
          run ? kB(bytesFrom(run, 'upstream')) : '',
          nixRun?.status === 0 ? 'complete' : 'none',
          nixRun?.seconds.toFixed(1) ?? '',
        ];
      }),
    ),
  );
  say('kB that each machine (row) received from each host (column), with headers, daemons and aborted runs:');
  say(
    formatTable(
      ['', 'cache', ...NAMES],
      seats.map((seat) => [seat.name, ...columns.map(({ ipv4 }) => kB(senders.get(seat)?.get(ipv4) ?? 0))]),
    ),
  );
  say(
    `one copy has ${mb(await narBytesOf(made.cacheDir))} MB; the slow line carried ${mb(sent)} MB for narswarm, ${mb(sentForNix)} MB for plain Nix`,
  );
  const events = [...runs.values(), ...daemons].flatMap((process) => process.events);
  const kinds = events.filter(({ event }) => event === 'warning').map(({ kind }) => String(kind));
  say('warnings of the updates and daemons:');
  for (const [kind, count] of countLines(kinds)) say(`  ${count} x ${kind}`);
  for (const [line, count] of countLines([...runs.values(), ...daemons].map(({ stderr }) => stderr)))
    say(`  ${count} x ${line}`);
  for (const seat of seats) {
    assert.ok(isComplete.get(seat), `${seat.name} is incomplete`);
    if (seat !== liar) await assertSound(seat.store, made.publicKey, { afterKill: true });
  }
}

/** Lets all machines copy at the same moment. Without internet Nix tries for minutes: it is ended when all others are done. */
async function playPlainNix(seats: readonly Seat[], root: string, cutOff: Seat): Promise<ReadonlyMap<Seat, Timed>> {
  const others = new AbortController();
  const copy = (seat: Seat): Promise<Timed> =>
    seat.plainNix(root, { to: `local?root=${join(seat.dir, 'plain-root')}`, signal: others.signal });
  const ofCutOff = copy(cutOff);
  const online = seats.filter((seat) => seat !== cutOff);
  const runs = await Promise.all(online.map(copy));
  others.abort();
  return new Map([...online.map((seat, index) => [seat, runs[index]!] as const), [cutOff, await ofCutOff] as const]);
}

function holds(seat: Seat, root: string): boolean {
  try {
    seat.assertHas(root);
    return true;
  } catch {
    return false;
  }
}
