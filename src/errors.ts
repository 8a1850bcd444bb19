/**
 * The only error class and the only table of exit statuses, from which help texts and README are made. Code branches on
 * `code`; people read `message`, which names the thing and the way out.
 */

import { withoutPasswords } from './redact.ts';

/** Exit status of each class of failure, as documented in every command's help. */
export const EXIT_STATUSES = {
  OK: [0, 'everything requested was done'],
  INTERNAL: [1, 'a bug in narswarm: please report it'],
  USAGE: [2, 'the command line, the config file or a file that it names is malformed'],
  NOT_FOUND: [3, 'a root, path or file is in none of the sources'],
  UNTRUSTED: [
    4,
    'a narinfo is malformed, unsigned, wrongly signed, signed for something else, or known to too few publishers',
  ],
  SOURCES_FAILED: [5, 'no peer and no upstream delivered a requested file'],
  INDEX: [6, 'a hash map is unreachable, badly signed, expired or older than one seen before'],
  STORE: [7, 'the file store cannot be read or written (full, read-only, corrupt)'],
  NIX: [8, 'nix is missing or failed'],
  LISTEN: [9, 'a port is in use, or an address to listen on does not exist (yet)'],
  HOOK: [10, 'everything else was done, but the on-complete command failed'],
  NOT_READY: [11, 'a rebuild without a network would lack something'],
  HOSTS: [12, 'some hosts did not get everything that was pushed to them'],
  MOUNT: [13, 'nothing can be mounted: no FUSE here, not root, or the folder is not fit for it'],
  INTERRUPTED: [130, 'interrupted; the next run continues from here'],
} as const satisfies Record<string, readonly [status: number, meaning: string]>;

export type ErrorKind = Exclude<keyof typeof EXIT_STATUSES, 'OK'>;

/** Every code that narswarm throws, with its class of failure, which decides the exit status. */
const KIND_OF = {
  USAGE: 'USAGE',
  NIX32_INVALID: 'USAGE',
  HASH_INVALID: 'USAGE',
  STORE_PATH_INVALID: 'USAGE',
  KEY_INVALID: 'USAGE',
  ADDRESS_INVALID: 'USAGE',
  NARINFO_INVALID: 'UNTRUSTED',
  NARINFO_UNTRUSTED: 'UNTRUSTED',
  NARINFO_MISMATCH: 'UNTRUSTED',
  QUORUM_MISSED: 'UNTRUSTED',
  CACHE_INFO_INVALID: 'SOURCES_FAILED',
  NARINFO_MISSING: 'NOT_FOUND',
  ROOT_UNKNOWN: 'NOT_FOUND',
  NOT_FOUND: 'NOT_FOUND',
  HTTP_FAILED: 'SOURCES_FAILED',
  HTTP_NOT_FOUND: 'SOURCES_FAILED',
  HTTP_STALLED: 'SOURCES_FAILED',
  HTTP_TRUNCATED: 'SOURCES_FAILED',
  HASH_MISMATCH: 'SOURCES_FAILED',
  SIZE_MISMATCH: 'SOURCES_FAILED',
  PEERS_FAILED: 'SOURCES_FAILED',
  NAR_UNAVAILABLE: 'SOURCES_FAILED',
  INDEX_UNREACHABLE: 'INDEX',
  INDEX_INVALID: 'INDEX',
  INDEX_SIGNATURE: 'INDEX',
  INDEX_EXPIRED: 'INDEX',
  INDEX_ROLLBACK: 'INDEX',
  STORE_UNWRITABLE: 'STORE',
  STORE_FULL: 'STORE',
  STORE_OVER_BUDGET: 'STORE',
  STORE_CORRUPT: 'STORE',
  STORE_BUSY: 'STORE',
  LISTEN_FAILED: 'LISTEN',
  NIX_MISSING: 'NIX',
  NIX_FAILED: 'NIX',
  DERIVATION_INVALID: 'NIX',
  IMPORT_FAILED: 'NIX',
  HOOK_FAILED: 'HOOK',
  NOT_READY: 'NOT_READY',
  HOST_FAILED: 'HOSTS',
  MOUNT_FAILED: 'MOUNT',
  INTERRUPTED: 'INTERRUPTED',
} as const satisfies Record<string, ErrorKind>;

export type ErrorCode = keyof typeof KIND_OF;

/** Returns true for a code of this version. Files may have codes of other versions. */
export function isErrorCode(text: string): text is ErrorCode {
  return Object.hasOwn(KIND_OF, text);
}

/** A fact about a failure. */
type Fact = string | number | boolean | undefined | readonly string[];

/** Facts about a failure, for logs and `--json`: plain values only. */
export type ErrorFacts = Readonly<Record<string, Fact>>;

/** Why a path is not in a hash map, or why there is nothing to make one of. */
export type Unpublished =
  | 'untrusted'
  /** A source that was not requested. */
  | 'unasked'
  | 'no-nar'
  | 'unreadable-nar'
  /** The NAR has another FileHash or FileSize than its narinfo says. */
  | 'other-nar'
  | 'wrong-contents'
  | 'unknown-compression'
  | 'no-file-hash'
  /** The store has no narinfos. */
  | 'empty-store'
  /** No published subscription has been complete so far, and nothing was added. */
  | 'nothing-complete'
  /** No subscription is published, and nothing was added. */
  | 'nothing-published';

interface PublishingFacts {
  /** Set if a hash map cannot be made. */
  readonly unpublished?: Unpublished;
}

/** Why a host of a push has failed. */
export type HostFailure =
  /** There is no ssh on this machine. */
  | 'no-ssh'
  /** ssh has ended before the host answered: the name, the network, the login. */
  | 'ssh'
  /** It has neither narswarm nor what a copy of it needs. */
  | 'no-program'
  /** It cannot keep a copy of this program. */
  | 'not-kept'
  /** Its narswarm is another build of this version. */
  | 'other-build'
  /** Its narswarm has failed there. */
  | 'narswarm'
  /** The connection has ended in the middle. */
  | 'lost'
  /** It has sent something that no narswarm sends. */
  | 'nonsense'
  /** It seems to be a host that has another name, too, but lacks paths of that one. */
  | 'not-the-same';

interface HostFacts {
  /** Not set for failures of this machine. */
  readonly kind?: HostFailure;
  /** Exit status of ssh, or of the narswarm there. Not set if there is none. */
  readonly exitStatus?: number | undefined;
  /** Error code of the narswarm there. */
  readonly hostCode?: string;
}

interface IncompleteFacts {
  /** Set if a fetch has left paths out. The message says why the first of them is missing. */
  readonly incomplete?: 'fetch' | 'import';
  /** Number of missing paths, and of all paths that were to be fetched. */
  readonly failed?: number;
  readonly total?: number;
}

/** Facts that code reads. They are declared here, so that throwing and catching code agree. */
interface FactsByCode {
  NOT_FOUND: PublishingFacts;
  NARINFO_UNTRUSTED: PublishingFacts;
  ROOT_UNKNOWN: PublishingFacts;
  HASH_MISMATCH: {
    /** True if the bytes are those of the torrent: then the hash map named another file, and no source is to blame. */
    readonly mapLied?: boolean;
    /** Names of the sources that sent wrong bytes. */
    readonly origins?: readonly string[];
    /** Program that was to decompress the file. */
    readonly program?: string | undefined;
  };
  NAR_UNAVAILABLE: IncompleteFacts;
  NARINFO_MISSING: IncompleteFacts;
  NIX_MISSING: IncompleteFacts;
  STORE_FULL: {
    /** Room that is needed on the disk, and room that it has, in bytes. Set if nothing was begun for lack of room. */
    readonly neededBytes?: number;
    /** The kind of data to be written there. */
    readonly role?: 'suitcase' | 'store';
    readonly freeBytes?: number;
  };
  HOST_FAILED: HostFacts;
  NIX_FAILED: {
    /** True if this user may not talk to the Nix daemon. The message has the way out. */
    readonly isDaemonDenied?: boolean;
    /** Nix's own words, without anything around them. */
    readonly words?: string;
    /** True if Nix has failed since it could not download something. */
    readonly isOfNetwork?: boolean;
  };
  IMPORT_FAILED: IncompleteFacts & {
    /** Store path whose NAR has another hash or size than its narinfo says. */
    readonly path?: string | undefined;
    /** True if the target accepts nothing, or nothing without another signature: then other bytes do not help. */
    readonly isOfTarget?: boolean;
  };
}

/** Facts about a failure with `Code`. */
export type FactsOf<Code extends ErrorCode> = ErrorFacts &
  (Code extends keyof FactsByCode ? FactsByCode[Code] : unknown);

/** A failure that a person can act on. `cause` is always kept. */
export class NarswarmError<Code extends ErrorCode = ErrorCode> extends Error {
  override readonly name = 'NarswarmError';
  readonly code: Code;
  readonly facts: FactsOf<Code>;

  constructor(code: Code, message: string, options: { cause?: unknown; facts?: FactsOf<Code> } = {}) {
    super(withoutPasswords(message), 'cause' in options ? { cause: options.cause } : undefined);
    this.code = code;
    this.facts = redacted<FactsOf<Code>>(options.facts ?? ({} as FactsOf<Code>));
  }

  /** The exit status of its code. */
  get exitStatus(): number {
    return EXIT_STATUSES[KIND_OF[this.code]][0];
  }
}

/** Removes passwords from texts of Nix or a server: no error shows one. */
function redacted<Facts extends ErrorFacts>(facts: Facts): Facts {
  return Object.fromEntries(Object.entries(facts).map(([key, value]) => [key, redactedFact(value)])) as Facts;
}

function redactedFact(fact: Fact): Fact {
  if (typeof fact === 'string') return withoutPasswords(fact);
  return Array.isArray(fact) ? fact.map((text: string) => withoutPasswords(text)) : fact;
}

/** Returns true if `error` is a {@link NarswarmError}, with that code if one is given. */
export function isNarswarmError<Code extends ErrorCode = ErrorCode>(
  error: unknown,
  ...codes: Code[]
): error is NarswarmError<Code> {
  return error instanceof NarswarmError && (codes.length === 0 || (codes as ErrorCode[]).includes(error.code));
}

/** Returns true for an end that the user's settings ask for: that of the time window, or at a metered line. */
export function isPlanned({ code, facts }: NarswarmError): boolean {
  return code === 'INTERRUPTED' && (facts['until'] !== undefined || facts['metered'] === true);
}

/**
 * Returns the failure that came first. Leaving a block with `await using` may fail for the same reason: then the
 * language wraps both errors into a SuppressedError. The failure of the clean-up is of no interest.
 */
export function firstFailure(error: unknown): unknown {
  return error instanceof SuppressedError ? firstFailure(error.suppressed) : error;
}
