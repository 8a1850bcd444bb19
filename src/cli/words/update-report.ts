import { isPlanned, NarswarmError } from '../../errors.ts';
import type { UpdateRun } from '../../subscription/update/run-update.ts';
import type { NarToFetch, Updated } from '../../subscription/update/update.ts';
import type { Output } from '../output.ts';
import { errorSentence } from './error-sentences.ts';
import { groupFacts, patchesInWords, sharesInWords } from './fetch-report.ts';
import { throwIncomplete } from './incomplete.ts';
import { failureSentence, missingFacts } from './missing-paths.ts';
import { isUnexpected, isWarnedOf, noteSentence } from './notes.ts';
import { alreadyHere, formatCount, formatDuration, formatSize } from './values.ts';

/** Reports the result of updating one subscription. */
export function tellUpdated(
  output: Output,
  { subscription, state, error, lack, notes, leftOut, leftOutCount, nars, paths, progress, isInProfile }: Updated,
  dryRun: boolean,
): void {
  const { name } = subscription;
  const run = state?.lastRun;
  const { sizeBytes, partialBytes } = sumOf(nars);
  const message = error === undefined ? '' : failureSentence(error, lack);
  const facts = {
    name,
    outcome: dryRun ? 'dry-run' : (run?.outcome ?? null),
    generation: state?.generations[0]?.number ?? null,
    paths,
    nars: nars.size,
    bytes: dryRun ? { total: sizeBytes } : (run?.bytes ?? null),
    ...(dryRun || progress === undefined
      ? {}
      : { savedBytes: progress.savedBytes, patches: progress.patched, groups: groupFacts(progress) }),
    ...(dryRun ? { partialBytes } : {}),
    durationMs: run?.durationMs ?? null,
    missing: (state?.missing ?? []).map(missingFacts),
    missingCount: state?.missingCount ?? 0,
    leftOut,
    leftOutCount,
    ...(isInProfile === undefined ? {} : { isInProfile }),
    notes: notes.map((note) => noteSentence(note)),
    ...(error === undefined ? {} : { code: error.code, message }),
  };
  output.result('subscription', facts, output.forPeople(sentence()));
  if (isInProfile === true) output.note(`  ${subscription.profile} has it as its newest generation`);
  for (const note of notes)
    if (isWarnedOf(note)) continue;
    else if (isUnexpected(note)) output.warn(`${name}: ${noteSentence(note)}`);
    else output.note(`  ${noteSentence(note)}`);

  function sentence(): string {
    if (dryRun) {
      if (error !== undefined && paths === 0) return `${name}: ${message}`;
      const what = `${formatCount(paths, 'path')}, ${toFetch(nars)}`;
      return `${name}: ${what}${error === undefined ? '' : `; ${message}`}`;
    }
    if (error !== undefined) {
      const outcome = run?.outcome ?? 'failed';
      // An interruption reports itself.
      return error.code === 'INTERRUPTED' && lack === undefined && !isPlanned(error)
        ? `${name}: ${message}`
        : `${name}: ${outcome}: ${message}`;
    }
    const got =
      nars.size === 0
        ? 'nothing new'
        : `${formatCount(nars.size, 'NAR')} in ${formatDuration(run?.durationMs ?? 0)}${progress === undefined ? '' : `${patchesInWords(progress.patched)}${sharesInWords(progress)}`}`;
    return `${name}: complete, ${formatCount(paths, 'path')}, ${got}`;
  }
}

/** Reports the result of a whole run. @throws the first failure if a subscription is incomplete: its class is the exit status */
export function tellRun(output: Output, { updated, failure }: UpdateRun, dryRun: boolean): void {
  const failed = updated.flatMap(({ subscription: { name }, error, lack }) =>
    error === undefined ? [] : [{ name, error, message: failureSentence(error, lack) }],
  );
  // A NAR that several subscriptions need is fetched once.
  const all = new Map(updated.flatMap(({ nars }) => [...nars]));
  const { sizeBytes, partialBytes } = sumOf(all);
  output.result(
    'done',
    {
      subscriptions: updated.length,
      complete: updated.length - failed.length,
      ...(dryRun ? { nars: all.size, bytes: { total: sizeBytes }, partialBytes } : {}),
    },
    dryRun && updated.length > 1 ? `in all: ${toFetch(all)}` : undefined,
  );
  if (failed.length > 0 && failure !== undefined)
    output.warn(`the hash map was not published: ${errorSentence(failure)}`);
  const waiting = failed.find(({ error }) => error.facts['metered'] === true); // then all of them wait
  if (waiting !== undefined) throw waiting.error;
  throwIncomplete(output, failed, updated.length);
  if (failure !== undefined)
    throw new NarswarmError(failure.code, `the hash map was not published: ${errorSentence(failure)}`, {
      cause: failure,
    });
}

function toFetch(nars: Updated['nars']): string {
  const { sizeBytes, partialBytes } = sumOf(nars);
  return `${formatCount(nars.size, 'NAR')} to fetch (${formatSize(sizeBytes)}${alreadyHere(partialBytes)})`;
}

function sumOf(nars: Updated['nars']): NarToFetch {
  const sum = { sizeBytes: 0, partialBytes: 0 };
  for (const { sizeBytes, partialBytes } of nars.values()) {
    sum.sizeBytes += sizeBytes;
    sum.partialBytes += partialBytes;
  }
  return sum;
}
