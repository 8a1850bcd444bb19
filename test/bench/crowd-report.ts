/** The figures of a flash crowd as text for people. */
import type { CrowdOptions, Rival } from './crowd-options.ts';
import { congestionControl } from './tools.ts';

/** One run of one rival. */
export interface CrowdResult {
  readonly rival: Rival;
  /** Seconds from the start of all clients until the first and the last of them had everything. */
  readonly firstS: number;
  readonly lastS: number;
  /** Seconds of the slowest client by its own report, which leaves out the start of its process. */
  readonly lastOwnS: number;
  /** Bytes that the seeder sent, with all headers, divided by the size of the closure. */
  readonly copies: number;
  /** Processor time of a client, on average, and of the seeder. */
  readonly clientCpuS: number;
  readonly seederCpuS: number;
  /** Clients that did not get everything, and why. */
  readonly failures: readonly string[];
}

/** Targets: the share of the line to be reached, and the limit on the seeder's copies. */
const WANTED = { share: 0.8, copies: 1.2 };

/** Seconds in which every byte leaves the seeder once: the lower bound. */
function boundS(totalBytes: number, rateKbit: number): number {
  return (totalBytes * 8) / (rateKbit * 1000);
}

/** A table with one line a run (processor time with the start of the programs), and whether narswarm has reached its targets. */
export function formatCrowd(results: readonly CrowdResult[], options: CrowdOptions, totalBytes: number): string {
  const bound = boundS(totalBytes, options.rateKbit);
  const head = `${options.clients} clients, ${(totalBytes / 1e6).toFixed(1)} MB, ${options.rateKbit / 1000} Mbit/s, TCP ${congestionControl()}; bound ${bound.toFixed(2)} s`;
  const lines = results.map(({ rival, firstS, lastS, lastOwnS, copies, clientCpuS, seederCpuS, failures }) => {
    const figures = [firstS, lastS, lastOwnS].map((seconds) => seconds.toFixed(2).padStart(8));
    const share = `${((100 * bound) / lastOwnS).toFixed(0)} %`.padStart(7);
    const cpu = [clientCpuS.toFixed(2), ((clientCpuS * 1e9) / totalBytes).toFixed(1), seederCpuS.toFixed(2)].map(
      (text) => text.padStart(12),
    );
    const verdict = failures.length === 0 ? 'all complete' : failures.join('; ');
    return `${rival.padEnd(12)}${figures.join('')}${share}${copies.toFixed(2).padStart(8)}${cpu.join('')}  ${verdict}`;
  });
  const columns = `${''.padEnd(12)}${['first s', 'last s', 'own s', 'line', 'copies'].map((title, index) => title.padStart(index === 3 ? 7 : 8)).join('')}${['CPU s each', 'ms/MB', 'seed CPU s'].map((title) => title.padStart(12)).join('')}`;
  const own = results.filter(({ rival }) => rival === 'narswarm');
  const met = (isMet: boolean): string => (isMet ? 'met' : 'MISSED');
  const targets = own.flatMap(({ lastOwnS, copies }) => [
    `${met(lastOwnS <= bound / WANTED.share)}: the last client within ${(bound / WANTED.share).toFixed(1)} s, got ${lastOwnS.toFixed(2)}`,
    `${met(copies <= WANTED.copies)}: the seeder sends at most ${WANTED.copies} copies, got ${copies.toFixed(2)}`,
  ]);
  return [head, columns, ...lines, ...targets].join('\n');
}
