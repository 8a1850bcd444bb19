/**
 * Machines without a publisher need one long NAR at the same time. They share only a cache behind a slow line. One
 * fetches alone, two and three begin at the same moment, eight do, and two begin two seconds apart. In the last two
 * scenes the one that asks the cache is killed, or falls asleep. Default configuration, no daemon. Plain Nix beside it.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { startCacheProcess } from '../support/cache-process.ts';
import { Lab, type CliProcess } from '../support/lab.ts';
import { Lan } from '../support/namespaces.ts';
import { Seat, sourcesOf, type NixSettings } from './seat.ts';
import { formatTable } from './table.ts';

const NAR_BYTES = 60_000_000;
const LINE_KBIT = 20_000;
const CACHE_PORT = 8080;
const LATER_MS = 2_000;
/** Time until the machine that asks the cache is killed, or falls asleep. */
const MISHAP_AFTER_MS = 12_000;

type Mishap = 'SIGKILL' | 'SIGSTOP';

interface Scene {
  readonly name: string;
  readonly machines: number;
  readonly laterMs?: number;
  readonly mishap?: Mishap;
}

const SCENES: readonly Scene[] = [
  { name: 'one', machines: 1 },
  { name: 'two', machines: 2 },
  { name: 'two, 2 s apart', machines: 2, laterMs: LATER_MS },
  { name: 'three', machines: 3 },
  { name: 'eight', machines: 8 },
  { name: 'two, 2 s apart, one is killed', machines: 2, laterMs: LATER_MS, mishap: 'SIGKILL' },
  { name: 'two, 2 s apart, one sleeps', machines: 2, laterMs: LATER_MS, mishap: 'SIGSTOP' },
];

/** @param say called with each line for people */
export async function playLongNar(say: (line: string) => void): Promise<void> {
  await using lab = await Lab.open();
  const made = await lab.closure([NAR_BYTES], 'cache.nixos.org');
  const rows: string[][] = [];
  for (const [index, { name, machines, laterMs = 0, mishap }] of SCENES.entries()) {
    say(`scene ${index + 1} of ${SCENES.length}: ${name}`);
    await using lan = Lan.open();
    const cacheHost = lan.host('cache', { upKbit: LINE_KBIT });
    await using _cache = await startCacheProcess(made.cacheDir, cacheHost.wrapper, CACHE_PORT);
    const nix: NixSettings = { substituter: `http://${cacheHost.ipv4}:${CACHE_PORT}`, publicKey: made.publicKey };
    const seats: Seat[] = [];
    for (let number = 1; number <= machines; number++)
      seats.push(await Seat.make(lab, lan, `m${number}-${index}`, nix));

    const sentBefore = cacheHost.sentBytes();
    const fetches: CliProcess[] = [];
    for (const seat of seats) {
      if (fetches.length > 0 && laterMs > 0) await sleep(laterMs);
      fetches.push(seat.start('fetch', made.root, '--to', seat.nixStore));
    }
    const [first] = fetches;
    if (mishap !== undefined) {
      await sleep(MISHAP_AFTER_MS);
      process.kill(first!.pid, mishap);
    }
    const judged = mishap === undefined ? fetches : fetches.slice(1);
    const runs = await Promise.all(judged.map((fetch) => fetch.end()));
    const sent = cacheHost.sentBytes() - sentBefore;
    if (mishap === 'SIGSTOP') process.kill(first!.pid, 'SIGKILL');
    const seconds = runs.map(({ durationMs }) => durationMs / 1000);
    const neighbours = runs.map((run) =>
      [...(run.status === 0 ? sourcesOf(run) : [])]
        .filter(([source]) => !source.includes(cacheHost.ipv4))
        .reduce((sum, [, bytes]) => sum + bytes, 0),
    );
    rows.push([
      name,
      runs.map(({ status }) => status).join(' '),
      Math.min(...seconds).toFixed(1),
      Math.max(...seconds).toFixed(1),
      (Math.min(...neighbours) / 1e6).toFixed(1),
      (Math.max(...neighbours) / 1e6).toFixed(1),
      (sent / 1e6).toFixed(1),
      (sent / NAR_BYTES).toFixed(2),
    ]);
    for (const { stderr } of runs) for (const line of stderr.split('\n')) if (line !== '') say(`  ${name}: ${line}`);
    if (machines > 1) continue;
    const beforeNix = cacheHost.sentBytes();
    const plain = await (await Seat.make(lab, lan, 'plain', nix)).plainNix(made.root);
    const nixSent = cacheHost.sentBytes() - beforeNix;
    rows.push([
      'plain Nix, one',
      String(plain.status),
      plain.seconds.toFixed(1),
      plain.seconds.toFixed(1),
      '',
      '',
      (nixSent / 1e6).toFixed(1),
      (nixSent / NAR_BYTES).toFixed(2),
    ]);
  }
  const head = ['', 'exit', 's, first', 's, last', 'neighbours MB', 'to', 'cache MB', 'copies'];
  say(formatTable(head, rows));
}
