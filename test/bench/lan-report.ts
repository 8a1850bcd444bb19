/** The figures of local networks as text for people. */

/** The outcome of a machine. */
export interface LanRun {
  readonly seconds: number;
  readonly peerBytes: number;
  readonly upstreamBytes: number;
  /** The reason if it does not have everything. */
  readonly failure: string | undefined;
}

export interface LanResult {
  readonly name: string;
  /** The outcome of the machine by itself, and with --peer given by hand. */
  readonly alone: LanRun;
  readonly byHand: LanRun;
}

/** Targets: the share of bytes from neighbours, and the time divided by that with --peer. */
const WANTED = { share: 0.97, time: 1.2 };

/** A table with one line a situation. */
export function formatLan(results: readonly LanResult[], totalBytes: number, lineKbit: number): string {
  const lineS = (totalBytes * 8) / (lineKbit * 1000);
  const mb = (bytes: number): string => (bytes / 1e6).toFixed(1).padStart(10);
  const width = Math.max(...results.map(({ name }) => name.length));
  const lines = results.map((result, index) => {
    const { name, alone, byHand } = result;
    const times = [alone.seconds, byHand.seconds].map((seconds) => seconds.toFixed(2).padStart(10)).join('');
    const ratio = (alone.seconds / byHand.seconds).toFixed(2).padStart(8);
    const verdict = alone.failure ?? byHand.failure ?? (isMet(result) ? 'met' : 'MISSED');
    return `${index + 1} ${name.padEnd(width)}${mb(alone.peerBytes)}${mb(alone.upstreamBytes)}${times}${ratio}  ${verdict}`;
  });
  const titles = ['neighb. MB', 'cache MB'].map((title) => title.padStart(10)).join('');
  const columns = `${''.padEnd(width + 2)}${titles}${'s'.padStart(10)}${'--peer s'.padStart(10)}${'ratio'.padStart(8)}`;
  const head = `${(totalBytes / 1e6).toFixed(1)} MB; the cache alone would take ${lineS.toFixed(1)} s`;
  const wanted = `wanted: ${100 * WANTED.share} % from neighbours, within ${WANTED.time} times of --peer`;
  return [head, columns, ...lines, wanted].join('\n');
}

/** Formats a run in a few words. */
export function formatRun({ seconds, peerBytes, upstreamBytes, failure }: LanRun): string {
  const [peers, upstream] = [peerBytes, upstreamBytes].map((bytes) => (bytes / 1e6).toFixed(1));
  return failure ?? `${seconds.toFixed(2)} s, ${peers} MB from neighbours, ${upstream} MB from the cache`;
}

/** Returns true if a situation reaches its targets. */
export function isMet({ alone, byHand }: LanResult): boolean {
  const bytes = alone.peerBytes + alone.upstreamBytes;
  const hasAll = alone.failure === undefined && byHand.failure === undefined;
  return hasAll && alone.peerBytes >= WANTED.share * bytes && alone.seconds <= WANTED.time * byHand.seconds;
}
