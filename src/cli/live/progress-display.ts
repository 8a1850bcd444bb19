import type { FetchEvent, Tell } from '../../fetch/events.ts';
import { Progress } from '../../fetch/report.ts';
import { fetchInWords, fetchLines, importedInWords, isDownloading } from './fetch-lines.ts';
import { LINE_MS, ShownProgress } from './shown-progress.ts';
import { workFacts } from './work-lines.ts';
import type { Output } from '../output.ts';
import { warningsTo } from '../words/warnings.ts';
import type { Warn } from '../../warning.ts';

/** Shows the progress of a fetch: on a terminal lines that are redrawn, elsewhere a line from time to time. */
export interface ProgressDisplay extends Disposable {
  /** Receive the events of the fetch, and the warnings of everything beside it. */
  readonly handlers: {
    readonly tell: Tell;
    readonly onWarning: Warn;
  };
  stop(): void;
}

export function progressDisplay(output: Output): ProgressDisplay {
  const shown = new ShownProgress(output);
  let progress = new Progress();
  const show = (): void =>
    shown.show(() => {
      const now = progress;
      if (output.live === undefined && !isDownloading(now)) return undefined;
      return { lines: (room) => fetchLines(now, room), text: fetchInWords(now), facts: facts(now) };
    });
  let toldAtMs = performance.now();
  /** Counts paths that Nix copies: thousands a night. While NARs arrive, the line of the download has their number. */
  const onCopied = (): void => {
    if (output.live !== undefined || isDownloading(progress) || performance.now() - toldAtMs < LINE_MS) return;
    toldAtMs = performance.now();
    if (output.json)
      output.result('importing', { paths: progress.copiedPaths, totalPaths: progress.importPaths ?? null });
    else output.note(`copied ${importedInWords(progress)} so far`);
  };
  const onWarning = warningsTo(output);
  const tell = (event: FetchEvent): void => {
    if (event.type === 'begun') {
      progress = new Progress();
      show();
    }
    progress.take(event);
    const step = stepInWords(event);
    if (step !== undefined) {
      toldAtMs = performance.now();
      output.note(step);
    } else if (event.type === 'path-copied') onCopied();
    else if (event.type === 'nix-line') output.note(`nix: ${event.line}`);
    else if (event.type === 'warning') onWarning(event.warning);
  };
  return {
    handlers: { tell, onWarning },
    stop: () => shown.stop(),
    [Symbol.dispose]: () => shown.stop(),
  };
}

/** Names the step that an event begins, or undefined if it begins none. */
function stepInWords(event: FetchEvent): string | undefined {
  switch (event.type) {
    case 'resolving':
      return `looking for the hash map, for ${Math.ceil(event.timeoutMs / 1_000)} s at most`;
    case 'walking':
      return 'walking the closure';
    case 'waiting-for-gc':
      return 'waiting for narswarm gc, which is running on this store';
    case 'held-back':
      return 'letting Nix go first: it waits for NARs that the daemon fetches';
    case 'committing':
      return 'writing narinfos';
    case 'importing':
      return `importing into ${event.to ?? 'the local store'}`;
    default:
      return undefined;
  }
}

function facts(progress: Progress): Record<string, unknown> {
  const { doneNars: nars, totalNars, receivedBytes: bytes, totalBytes, rate, secondsLeft } = progress;
  return {
    ...workFacts({ nars, totalNars, bytes, totalBytes, rate, secondsLeft }),
    importedPaths: progress.copiedPaths,
    pathsToImport: progress.importPaths ?? null,
  };
}
