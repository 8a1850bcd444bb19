/** Puts into words which paths are missing and why, without repeating the path in its reason. */
import { NarswarmError } from '../../errors.ts';
import type { Failure } from '../../failure.ts';
import type { Lack, Missing } from '../../subscription/state/missing.ts';
import { errorSentence } from './error-sentences.ts';
import { faultInWords } from './damage.ts';

/** Paths that are missing for one reason. */
export interface MissingGroup {
  readonly reason: string;
  readonly paths: readonly string[];
}

/** `one`: names the file that failed. `many`: words that fit several paths. */
type Scope = 'one' | 'many';

/** Says why a path is missing, without naming it again: `http://cache does not hold its NAR`. */
export function reasonOf(missing: Missing): string {
  return missingInWords(missing, 'one');
}

/** Groups paths by the reason for which they are missing, the reason of the most paths first. */
export function groupByReason(missing: readonly Missing[]): MissingGroup[] {
  const groups = [...Map.groupBy(missing, (one) => missingInWords(one, 'many'))].map(([reason, members]) => ({
    reason: members.length === 1 ? members.map(reasonOf).join() : reason,
    paths: members.map(({ path }) => path),
  }));
  return groups.toSorted((a, b) => b.paths.length - a.paths.length);
}

/** Says in one sentence that paths are missing, with the reason of the first. */
export function lackSentence({ first, count }: Lack): string {
  return `${first.path} is missing${count > 1 ? `, and ${count - 1} more` : ''}: ${reasonOf(first)}`;
}

/** Says why a run failed. */
export function failureSentence(error: NarswarmError, lack: Lack | undefined): string {
  return lack === undefined ? errorSentence(error) : lackSentence(lack);
}

/** Returns the error of a run, with its message in words for people. */
export function toldFailure(error: NarswarmError, lack: Lack | undefined): NarswarmError {
  const { code, facts } = error;
  return new NarswarmError(code, failureSentence(error, lack), { cause: error, facts });
}

/** Returns the facts of a missing path for --json, with the reason in words. */
export function missingFacts(missing: Missing): object {
  return { reason: reasonOf(missing), ...missing };
}

function missingInWords(missing: Missing, scope: Scope): string {
  return 'loss' in missing
    ? `${faultInWords({ kind: missing.loss })}: run narswarm verify --repair`
    : inWords(missing, scope);
}

function inWords({ code, reason, facts = {}, causes = [] }: Failure, scope: Scope): string {
  switch (code) {
    case 'NARINFO_MISSING': {
      const { referrer, disk } = facts;
      const why = typeof referrer === 'string' && scope === 'one' ? `, which ${referrer} refers to` : '';
      if (typeof disk === 'string') return `${disk} has no narinfo for it${why}: pack it again, or check the disk`;
      return `no neighbour, hash map or cache has a narinfo for it${why}: add the cache that holds it with --from or --publisher; if a neighbour has it, run narswarm doctor`;
    }
    case 'NAR_UNAVAILABLE': {
      const upstream = facts['upstream'];
      if (typeof upstream === 'string') return `${upstream} does not hold its NAR`;
      if (causes.length > 0) return causes.map((cause) => inWords(cause, scope)).join('; ');
      break;
    }
    case 'HTTP_FAILED':
    case 'HTTP_NOT_FOUND':
    case 'HTTP_STALLED':
    case 'HTTP_TRUNCATED':
    case 'SIZE_MISMATCH': {
      const { url, why } = facts;
      const isKnown = typeof url === 'string' && typeof why === 'string';
      return scope === 'many' && isKnown ? `${cacheOf(url)} failed: ${why}` : reason;
    }
    default:
  }
  const { why } = facts;
  return typeof why === 'string' ? why : reason;
}

/** Returns the address of the cache that has a narinfo or a NAR at `url`. */
function cacheOf(url: string): string {
  const { protocol, host, pathname } = new URL(url); // a folder has no `origin`
  const folders = pathname.split('/').slice(1, -1);
  if (folders.at(-1) === 'nar') folders.pop();
  return [`${protocol}//${host}`, ...folders].join('/');
}
