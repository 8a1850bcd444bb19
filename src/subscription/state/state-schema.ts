/** The schema of a state file. It accepts files of earlier versions, and additions of later ones. */
import * as v from 'valibot';
import type { ErrorCode } from '../../errors.ts';
import type { Failure } from '../../failure.ts';
import type { BuildDifference } from '../../index/quorum.ts';
import type { StorePath } from '../../nix/brands.ts';
import { parseStorePath } from '../../nix/store-path.ts';
import type { Loss } from '../../store/damage/fault.ts';
import type { Note } from './note.ts';
import type { SubscriptionState } from './state.ts';

const LOSSES = ['gone', 'damaged-narinfo', 'wrong-nar', 'damaged-nar'] as const satisfies readonly Loss[];

const LOST_ENTRIES = { path: v.string(), loss: v.picklist(LOSSES) };

const FAILURE_ENTRIES = {
  reason: v.string(),
  code: v.exactOptional(v.custom<ErrorCode>((code) => typeof code === 'string')), // a later version may have others
  facts: v.exactOptional(v.record(v.string(), v.union([v.string(), v.number(), v.boolean(), v.array(v.string())]))),
  causes: v.exactOptional(v.array(v.lazy(() => FAILURE))),
};

const NOT_FETCHED_ENTRIES = { path: v.string(), ...FAILURE_ENTRIES };

const FAILURE: v.GenericSchema<unknown, Failure> = v.object(FAILURE_ENTRIES);

const DIFFERENCE: v.GenericSchema<unknown, BuildDifference> = v.object({
  path: v.custom<StorePath>(isStorePath),
  builds: v.array(v.object({ narHash: v.string(), publishers: v.array(v.string()), nar: v.exactOptional(v.string()) })),
});

const NOTE: v.GenericSchema<unknown, Note | string> = v.union([
  v.string(),
  v.variant('kind', [
    v.object({ kind: v.literal('kept-map'), failure: FAILURE, created: v.string() }),
    v.object({ kind: v.literal('member-map'), failure: FAILURE, created: v.string() }),
    v.object({
      kind: v.literal('outsized'),
      roots: v.array(v.string()),
      paths: v.exactOptional(v.number()),
      bytes: v.exactOptional(v.number()),
    }),
    v.object({ kind: v.literal('different-builds'), differences: v.array(DIFFERENCE), count: v.number() }),
    v.object({ kind: v.literal('kept-list'), failure: FAILURE, at: v.string() }),
    v.object({ kind: v.literal('no-roots'), failure: FAILURE }),
    v.object({ kind: v.literal('remote-roots') }),
    v.object({ kind: v.literal('list-without-sources') }),
    v.object({ kind: v.literal('unknown-sources'), path: v.string() }),
    v.object({ kind: v.literal('unknown-builds'), path: v.string() }),
    v.object({ kind: v.literal('profile'), path: v.string(), paths: v.number() }),
    v.object({ kind: v.literal('undecided-outputs'), drvPath: v.string() }),
    v.object({ kind: v.literal('inputs-instead'), paths: v.array(v.string()) }),
    v.object({ kind: v.literal('left-out'), paths: v.array(v.string()), count: v.number(), isUsual: v.boolean() }),
  ]),
]);

/** A state file. */
export const STATE: v.GenericSchema<unknown, SubscriptionState> = v.object({
  name: v.string(),
  source: v.string(),
  config: v.exactOptional(v.string()),
  generations: v.array(
    v.object({
      number: v.number(),
      at: v.string(),
      wanted: v.string(),
      roots: v.array(v.custom<StorePath>(isStorePath)),
      main: v.exactOptional(v.custom<StorePath>(isStorePath)),
      complete: v.boolean(),
    }),
  ),
  lastRun: v.exactOptional(
    v.pipe(
      v.object({
        at: v.string(),
        durationMs: v.number(),
        outcome: v.picklist(['complete', 'incomplete', 'failed', 'interrupted']),
        failure: v.exactOptional(FAILURE),
        // The failure in states of earlier versions, as a sentence.
        message: v.exactOptional(v.string()),
        code: FAILURE_ENTRIES.code,
        lack: v.exactOptional(
          v.union([
            v.object({ ...LOST_ENTRIES, count: v.number() }),
            v.object({ ...NOT_FETCHED_ENTRIES, count: v.number() }),
            v.object({ path: v.string(), count: v.number() }),
          ]),
        ),
        silence: v.exactOptional(v.string()),
        bytes: v.object({ store: v.number(), peers: v.number(), upstream: v.number() }),
        nars: v.number(),
      }),
      v.transform(({ message, code, ...run }) => {
        if (message === undefined) return run;
        const failure: Failure = { reason: message, ...(code !== undefined && { code }) };
        return { failure, ...run };
      }),
    ),
  ),
  completeAsOf: v.exactOptional(v.string()),
  missing: v.array(v.union([v.object(LOST_ENTRIES), v.object(NOT_FETCHED_ENTRIES)])),
  missingCount: v.number(),
  notes: v.pipe(
    v.array(v.unknown()),
    v.transform((notes) => notes.filter((note): note is Note | string => v.is(NOTE, note))), // a later version may have others
  ),
});

function isStorePath(value: unknown): boolean {
  try {
    return typeof value === 'string' && parseStorePath(value) === value;
  } catch {
    return false;
  }
}
