/** Puts errors into words. Most errors have their own message; for some, the facts add the reason. */
import { nearest } from '../../config/nearest.ts';
import { isNarswarmError, type NarswarmError, type Unpublished } from '../../errors.ts';
import { formatCount, formatSize } from './values.ts';

/** Returns one sentence with the failure and the way out. */
export function errorSentence(error: Error): string {
  if (isReplacedProgram(error)) return REPLACED_PROGRAM;
  if (isNarswarmError(error, ...INCOMPLETE)) return incompleteSentence(error);
  if (isNarswarmError(error, 'STORE_FULL')) return fullSentence(error);
  if (!isNarswarmError(error, 'NOT_FOUND', 'ROOT_UNKNOWN', 'NARINFO_UNTRUSTED')) return error.message;
  const { unpublished, path } = error.facts;
  if (unpublished === undefined) return `${error.message}${meantInstead(error)}`;
  const why = unpublishedInWords(unpublished);
  if (isNarswarmError(error, 'ROOT_UNKNOWN')) return `${error.message}: ${why}`;
  const named = typeof path === 'string' ? `${path}: ${why}` : why;
  return `${error.message} (${named})${WAYS_OUT[unpublished] ?? ''}`;
}

/** Names the root of a hash map that a misspelt one may have meant, unless the message does. */
function meantInstead({ facts: { root, named, meant } }: NarswarmError): string {
  if (typeof root !== 'string' || !Array.isArray(named) || meant !== undefined) return '';
  const instead = nearest(root, named);
  return instead === undefined ? '' : `: did you mean ${instead}?`;
}

/** Codes of a fetch that has left paths out. */
const INCOMPLETE = ['NAR_UNAVAILABLE', 'NARINFO_MISSING', 'NIX_MISSING', 'IMPORT_FAILED'] as const;

function incompleteSentence({ message, facts }: NarswarmError<(typeof INCOMPLETE)[number]>): string {
  const { incomplete, failed = 0, total = 0 } = facts;
  if (incomplete === undefined) return message;
  const isImport = incomplete === 'import';
  const what = isImport
    ? `${formatCount(failed, 'path')} could not be imported`
    : `${failed} of ${total} NARs could not be fetched`;
  const more = failed > 1 ? ` (and ${failed - 1} more)` : '';
  const rest = failed < total ? `; the others are ${isImport ? 'imported' : 'kept'}` : '';
  return `${what}: ${message}${more}${rest}`;
}

function fullSentence({ message, facts }: NarswarmError<'STORE_FULL'>): string {
  const { neededBytes, freeBytes, role } = facts;
  if (neededBytes === undefined || freeBytes === undefined) return message;
  const others =
    role === 'suitcase'
      ? 'take a larger disk, or leave out with --since what the other site has'
      : 'or name a file store on a larger disk with --store';
  return `${message}: ${formatSize(neededBytes)} are needed, and ${formatSize(freeBytes)} are free: free ${formatSize(neededBytes - freeBytes)}, ${others}`;
}

/** A long-running process loads some of its code only when needed. An update in place may have removed that code. */
const REPLACED_PROGRAM =
  'narswarm was updated or removed while this process ran, and code that it needs now is gone: restart it (systemctl restart narswarm)';

/** Returns true if the error is a failed import, or start of a thread, of this program's own code. */
export function isReplacedProgram(error: Error): boolean {
  return 'code' in error && (error.code === 'ERR_MODULE_NOT_FOUND' || error.code === 'MODULE_NOT_FOUND');
}

/** Says why a path, or everything, is not in a hash map. */
export function unpublishedInWords(reason: Unpublished): string {
  return UNPUBLISHED[reason];
}

const NOTHING_COMPLETE = 'no subscription that says publish has been complete so far, and nothing was added';

const UNPUBLISHED: Readonly<Record<Unpublished, string>> = {
  untrusted: 'not signed by a trusted key',
  unasked: 'it is unsigned, and neither named nor referred to by anything that is published',
  'no-nar': 'its NAR is not in the store',
  'unreadable-nar': 'its NAR cannot be read',
  'other-nar': 'its NAR is not what its narinfo says',
  'wrong-contents': 'its NAR does not have the signed contents',
  'unknown-compression': 'its NAR is compressed in a way that is not known here',
  'no-file-hash': 'its narinfo has no sha256 FileHash',
  'empty-store': 'it holds no narinfos',
  'nothing-complete': `${NOTHING_COMPLETE}: complete one with narswarm update, or run narswarm add`,
  'nothing-published': `${NOTHING_COMPLETE}: add one with narswarm subscribe --publish, or run narswarm add`,
};

const WAYS_OUT: Readonly<Partial<Record<Unpublished, string>>> = {
  untrusted: ': name the key that signed it with --trusted-public-key',
  unasked: ': name it with --root NAME=STOREPATH',
};
