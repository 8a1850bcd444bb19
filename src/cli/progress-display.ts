import type { FetchEvent, Tell } from '../fetch/events.ts';
import { Progress } from '../fetch/report.ts';
import type { Output } from './output.ts';
import { LINE_MS, ProgressLine } from './progress-line.ts';
import { formatCount, formatDuration, formatSize } from './values.ts';
import { warningsTo } from './warnings.ts';
import type { Warn } from '../warning.ts';

/** Shows the progress of a fetch: on a terminal one line that is redrawn, elsewhere a line from time to time. */
export interface ProgressDisplay extends Disposable {
  /** Receive the events of the fetch, and the warnings of everything beside it. */
  readonly handlers: {
    readonly tell: Tell;
    readonly onWarning: Warn;
  };
  /** Calls `print` without damaging the progress line. */
  above(print: () => void): void;
  stop(): void;
}

export function progressDisplay(output: Output): ProgressDisplay {
  const shown = new ProgressLine(output);
  const line = (progress: Progress): string | undefined =>
    progress.totalNars === 0 || progress.doneNars === progress.totalNars ? undefined : describeProgress(progress);
  const show = (progress: Progress): void =>
    shown.show(() => {
      const text = line(progress);
      return text === undefined ? undefined : { text, facts: facts(progress) };
    });
  let progress = new Progress();
  let toldAtMs = performance.now();
  /** Counts paths that Nix copies: thousands a night. While NARs arrive, the line of the download has their number. */
  const onCopied = (path: string): void => {
    if (line(progress) !== undefined) return;
    const count = `copied ${formatCount(progress.copiedPaths, 'path')}`;
    if (shown.isTerminal) shown.redraw(`${count}, ${path}`);
    else if (performance.now() - toldAtMs >= LINE_MS) {
      toldAtMs = performance.now();
      if (output.json) output.result('importing', { paths: progress.copiedPaths });
      else output.note(`${count} so far`);
    }
  };
  const onStep = (text: string): void => {
    toldAtMs = performance.now();
    shown.above(() => output.note(text));
  };
  const warn = warningsTo(output);
  const onWarning: Warn = (warning) => shown.above(() => warn(warning));
  const tell = (event: FetchEvent): void => {
    progress.take(event);
    const step = stepInWords(event);
    if (step !== undefined) onStep(step);
    else if (event.type === 'begun') show((progress = new Progress()));
    else if (event.type === 'path-copied') onCopied(event.path);
    else if (event.type === 'nix-line') shown.above(() => output.note(`nix: ${event.line}`));
    else if (event.type === 'warning') onWarning(event.warning);
  };
  return {
    handlers: { tell, onWarning },
    above: (print) => shown.above(print),
    stop: () => shown.stop(),
    [Symbol.dispose]: () => shown.stop(),
  };
}

/** Names the step that an event begins, or undefined if it begins none. */
export function stepInWords(event: FetchEvent): string | undefined {
  switch (event.type) {
    case 'walking':
      return 'walking the closure';
    case 'waiting-for-gc':
      return 'waiting for narswarm gc, which is running on this store';
    case 'committing':
      return 'writing narinfos';
    case 'importing':
      return `importing into ${event.to ?? 'the local store'}`;
    default:
      return undefined;
  }
}

/** Describes the progress in one line. */
export function describeProgress(progress: Progress): string {
  const received = Math.min(progress.receivedBytes, progress.totalBytes);
  const percent = progress.totalBytes === 0 ? 0 : Math.floor((received / progress.totalBytes) * 100);
  const left =
    progress.secondsLeft === undefined ? 'waiting for bytes' : `${formatDuration(progress.secondsLeft * 1000)} left`;
  const share = `${formatSize(progress.peerBytes)} from ${formatCount(progress.peersInUse, 'peer')}, ${formatSize(progress.upstreamBytes)} from caches`;
  const imported = progress.copiedPaths === 0 ? '' : `, ${formatCount(progress.copiedPaths, 'path')} imported`;
  return `${percent}%, ${left}: ${progress.doneNars}/${progress.totalNars} NARs, ${formatSize(received)} of ${formatSize(progress.totalBytes)}, ${formatSize(progress.rate)}/s, ${share}${imported}`;
}

function facts(progress: Progress): Record<string, unknown> {
  return {
    nars: progress.doneNars,
    totalNars: progress.totalNars,
    bytes: progress.receivedBytes,
    totalBytes: progress.totalBytes,
    rateBytesPerSec: Math.round(progress.rate),
    secondsLeft: progress.secondsLeft === undefined ? null : Math.round(progress.secondsLeft),
  };
}
