/**
 * Twelve machines in a house with a cache behind a slow line and no publisher. Every night all timers strike at the same
 * minute, and the list of each machine names a new system that shares most paths with the last one. In the second night
 * one machine is off, one is killed in the middle of its update and starts again, and from then on one neighbour lies.
 * Default ports, NixOS' firewall as the module sets it, nothing configured.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import assert from 'node:assert/strict';
import type { ServedRequest } from '../support/http-cache.ts';
import { falsify } from '../support/falsify.ts';
import { nextGeneration } from '../support/generations.ts';
import { narBytesOf, readNarInfos, type CliProcess, type Run } from '../support/lab.ts';
import { bytesFrom, countLines, kB, mb } from './figures.ts';
import { openHouse } from './house.ts';
import type { Seat } from './seat.ts';
import { formatTable } from './table.ts';

/** A few large NARs, some small ones: 15 MB. */
const BLOBS = [6_000_000, 4_000_000, 2_000_000, 1_000_000, ...Array.from({ length: 50 }, (_, at) => 1_500 * (at + 1))];
/** Blobs that each night changes, with their sizes: 3 MB, and the packages above the first of them. */
const CHANGES: readonly (readonly [blob: number, bytes: number])[] = [
  [2, 2_000_000],
  [20, 600_000],
  [40, 400_000],
];
const NIGHTS = 3;
const LINE_KBIT = 20_000;
const MACHINES = 12;
const KILLED_AFTER_MS = 1_500;

const firewall = { tcp: Array.from({ length: 8 }, (_, at) => 16_277 + at), udp: [6771, 5353] };

/** @param say called with each line for people */
export async function playNights(say: (line: string) => void): Promise<void> {
  await using house = await openHouse(BLOBS, { signer: 'cache.nixos.org', lineKbit: LINE_KBIT });
  const { cacheHost, cache } = house;
  let { made } = house;

  const seats: Seat[] = [];
  for (let index = 1; index <= MACHINES; index++) seats.push(await house.seat(`m${index}`, { firewall }));
  const plainSeats: Seat[] = [];
  for (let index = 1; index <= MACHINES; index++) plainSeats.push(await house.seat(`plain-${index}`, { firewall }));
  const [sleeper, victim, liar] = seats;
  assert.ok(sleeper && victim && liar);
  for (const seat of seats) {
    await writeFile(listOf(seat), `${made.root}\n`);
    const run = await seat.run('subscribe', 'sys', listOf(seat), '--import', '--to', seat.nixStore);
    assert.equal(run.status, 0, run.stderr);
  }
  const daemons = new Map<Seat, CliProcess>();
  for (const seat of seats) daemons.set(seat, (await seat.service('daemon')).process);

  let before = 0;
  let requests = 0;
  for (let night = 1; night <= NIGHTS; night++) {
    if (night > 1) for (const [blob, bytes] of CHANGES) made = await nextGeneration(made, blob, bytes);
    for (const seat of seats) await writeFile(listOf(seat), `${made.root}\n`);
    const total = await narBytesOf(made.cacheDir);
    const copyBytes = total - before;
    before = total;
    const awake = night === 2 ? seats.filter((seat) => seat !== sleeper) : seats;
    if (night === 2) {
      say('m1 is off this night; m2 is killed and starts again; m3 lies from now on');
      await daemons.get(sleeper)?.stop();
      await falsify(join(liar.store, 'nar'));
    }
    if (night === 3) daemons.set(sleeper, (await sleeper.service('daemon')).process);

    const sentBefore = cacheHost.sentBytes();
    const updates = new Map(awake.map((seat) => [seat, seat.start('update')]));
    let again: Promise<Run> | undefined;
    if (night === 2) {
      await sleep(KILLED_AFTER_MS);
      await updates.get(victim)?.stop('SIGKILL');
      again = victim.run('update');
    }
    const runs = new Map<Seat, Run>();
    for (const [seat, update] of updates)
      runs.set(seat, again !== undefined && seat === victim ? await again : await update.end());
    const carried = cacheHost.sentBytes() - sentBefore;
    const served = (await cache.requests()).slice(requests);
    const beforeNix = cacheHost.sentBytes();
    const plain = await Promise.all(plainSeats.slice(0, awake.length).map((seat) => seat.plainNix(made.root)));
    const carriedForNix = cacheHost.sentBytes() - beforeNix;
    requests = (await cache.requests()).length;
    say(
      formatTable(
        [`night ${night}`, 'exit', 's', 'neighbours kB', 'cache kB'],
        Array.from(runs, ([{ name }, run]) => {
          const sources = [kB(bytesFrom(run, 'peers')), kB(bytesFrom(run, 'upstream'))];
          return [name, String(run.status), (run.durationMs / 1000).toFixed(1), ...sources];
        }),
      ),
    );
    say(
      `night ${night}: one copy of what is new has ${mb(copyBytes)} MB; the slow line carried ${mb(carried)} MB for ` +
        `${awake.length} machines, at most ${longest([...runs.values()].map(({ durationMs }) => durationMs / 1000))} s; plain ` +
        `Nix ${mb(carriedForNix)} MB, at most ${longest(plain.map(({ seconds }) => seconds))} s`,
    );
    say(`  requests: ${describeRequests(served)}`);
    for (const [line, count] of countLines([...runs.values()].map(({ stderr }) => stderr))) say(`  ${count} x ${line}`);
    for (const [seat] of runs) if (runs.get(seat)?.status === 0) seat.assertHas(made.root);
  }
  say(`${(await readNarInfos(made.cacheDir)).size} paths in the cache at the end; warnings of the daemons:`);
  for (const [line, count] of countLines([...daemons.values()].map(({ stderr }) => stderr)))
    say(`  ${count} x ${line}`);
  let status = '';
  for (let tries = 0; tries < 20 && !status.includes('held all of it'); tries++) {
    await sleep(2_000); // daemons check new contents without hurry, then count
    status = (await seats[3]?.runPlain('status'))?.stdout ?? '';
  }
  say('m4 asks for its status:');
  for (const line of status.trimEnd().split('\n')) say(`  ${line}`);
}

function listOf(seat: Seat): string {
  return join(seat.dir, 'system.txt');
}

function longest(seconds: readonly number[]): string {
  return Math.max(...seconds).toFixed(1);
}

/** The NARs that were requested more than once show what was fetched needlessly. */
function describeRequests(served: readonly ServedRequest[]): string {
  const ofNars = served.filter(({ url }) => url.startsWith('/nar/'));
  const times = new Map<string, number>();
  for (const { url } of ofNars) times.set(url, (times.get(url) ?? 0) + 1);
  const again = [...times.values()].filter((count) => count > 1).length;
  return `${served.length - ofNars.length} for narinfos, ${ofNars.length} for ${times.size} NARs, of which ${again} more than once`;
}
