/**
 * Eight machines in a room share only a cache behind a slow line. There is no publisher, and nobody
 * has anything yet. All have subscribed the same path, and their timers strike at the same moment. One update falls
 * asleep, one is killed and begins again. Default ports, NixOS' firewall as the module sets it, nothing configured.
 */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { bytesFrom, kB, mb } from './figures.ts';
import { openHouse } from './house.ts';
import type { Seat } from './seat.ts';
import { formatTable } from './table.ts';

/** A few large NARs, some small ones: 16 MB. */
const BLOBS = [8_000_000, 4_000_000, 2_000_000, 1_000_000, ...Array.from({ length: 30 }, (_, at) => 1_500 * (at + 1))];
const LINE_KBIT = 20_000;
const MACHINES = 8;
/** Time from the start until one update is stopped and another one is killed. */
const MISHAP_AFTER_MS = 4_000;
const SLEEP_MS = 15_000;

const firewall = { tcp: Array.from({ length: 8 }, (_, at) => 16_277 + at), udp: [16_277, 6771] };

/** @param say called with each line for people */
export async function playNeighbours(say: (line: string) => void): Promise<void> {
  await using house = await openHouse(BLOBS, { signer: 'cache.nixos.org', lineKbit: LINE_KBIT });
  const { made, cacheHost } = house;

  const seats: Seat[] = [];
  for (let index = 1; index <= MACHINES; index++) seats.push(await house.seat(`m${index}`, { firewall }));
  for (const seat of seats) {
    const run = await seat.run('subscribe', 'sys', made.root);
    assert.equal(run.status, 0, run.stderr);
  }
  const daemons = await Promise.all(seats.map((seat) => seat.service('daemon')));

  say(`${MACHINES} machines update at the same moment; m1 falls asleep for ${SLEEP_MS / 1000} s, m2 is killed`);
  const sentBefore = cacheHost.sentBytes();
  const updates = seats.map((seat) => seat.start('update'));
  await sleep(MISHAP_AFTER_MS);
  process.kill(updates[0]!.pid, 'SIGSTOP');
  process.kill(updates[1]!.pid, 'SIGKILL');
  setTimeout(() => process.kill(updates[0]!.pid, 'SIGCONT'), SLEEP_MS);
  const again = seats[1]?.run('update');
  const runs = await Promise.all(updates.map((update, index) => (index === 1 && again ? again : update.end())));
  const sentForUpdates = cacheHost.sentBytes() - sentBefore;

  const beforeNix = cacheHost.sentBytes();
  const plain = await Promise.all(seats.map((seat) => seat.plainNix(made.root)));
  const sentForNix = cacheHost.sentBytes() - beforeNix;
  say(
    formatTable(
      ['', 'exit', 's', 'neighbours kB', 'cache kB', 'plain Nix exit', 's'],
      runs.map((run, index) => [
        seats[index]?.name ?? '',
        String(run.status),
        (run.durationMs / 1000).toFixed(1),
        kB(bytesFrom(run, 'peers')),
        kB(bytesFrom(run, 'upstream')),
        String(plain[index]?.status),
        plain[index]?.seconds.toFixed(1) ?? '',
      ]),
    ),
  );
  say(`the slow line carried ${mb(sentForUpdates)} MB for narswarm, ${mb(sentForNix)} MB for plain Nix`);
  say('warnings of all:');
  for (const { stderr } of [...runs, ...daemons.map(({ process }) => process)])
    for (const line of stderr.split('\n')) if (line !== '') say(`  ${line}`);
}
