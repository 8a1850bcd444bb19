/** Puts warnings into words. */
import { isTooManyFiles, TOO_MANY_FILES } from '../../disk/too-many-files.ts';
import { isNarswarmError } from '../../errors.ts';
import { factsOf, type Obstacle, type Warn, type Warning } from '../../warning.ts';
import { errorSentence, isReplacedProgram } from './error-sentences.ts';
import { differenceSentence, twoHistories } from './notes.ts';
import type { Output } from '../output.ts';
import { whenInWords } from './times.ts';
import { formatCount } from './values.ts';

/**
 * Returns a function that prints warnings; with --json, it prints their facts, too. Says only once that the program was
 * replaced: everything that needs the missing code would repeat it. Reports a lying peer to people once, not for each
 * NAR that it had sent.
 */
export function warningsTo(output: Output): Warn {
  let wasReplaced = false;
  const liars = new Set<string>();
  return (warning) => {
    if (warning.kind === 'lying-peer') {
      if (liars.has(warning.peer) && !output.json) return;
      liars.add(warning.peer);
    }
    if (warning.kind === 'fetched-again' && isOfLiars(warning.error, liars) && !output.json) return;
    if (warning.kind === 'failed' && isReplacedProgram(warning.error)) {
      if (wasReplaced) return;
      wasReplaced = true;
    }
    const now = new Date();
    const when = output.json || output.isLog ? undefined : (time: string): string => whenInWords(time, now);
    output.warn(warningSentence(warning, when), factsOf(warning));
  };
}

/** Returns true if all bytes of a wrong NAR came from peers that are known as liars. */
function isOfLiars(error: Error, liars: ReadonlySet<string>): boolean {
  const { origins = [] } = isNarswarmError(error, 'HASH_MISMATCH') ? error.facts : {};
  return origins.length > 0 && origins.every((origin) => liars.has(origin));
}

/**
 * Returns one sentence with the event and the way out.
 *
 * @param when formats a time. Default: as it is, in ISO 8601
 */
export function warningSentence(warning: Warning, when = (time: string): string => time): string {
  switch (warning.kind) {
    case 'failed':
      return errorSentence(warning.error);
    case 'earlier-config':
      return `${errorSentence(warning.error)}; the earlier subscriptions stay in force`;
    case 'served-elsewhere':
      return `a daemon of another machine or container serves ${warning.storeDir}, too`;
    case 'served-twice':
      return `another narswarm daemon (process ${warning.pid}) serves ${warning.storeDir}, too: stop one of them, or give this one another --store`;
    case 'unheard':
      return `systemd cannot be told how this service does, and may end it: systemd-notify failed (${errorSentence(warning.error)})`;
    case 'unreadable-netrc':
      return `the netrc file ${warning.file} cannot be read (${warning.reason}): caches get no password from it`;
    case 'other-store-dir': {
      const { cache, theirs, ours } = warning;
      return `${cache} is not asked: it is a cache for the store directory ${theirs}, and ours is ${ours}`;
    }
    case 'no-cache-info': {
      const wayOut = warning.isLocal
        ? ': check that it exists and is mounted'
        : ', so it is asked after the other caches';
      return `${warning.cache} has no nix-cache-info${wayOut}`;
    }
    case 'asked-last':
      return `${warning.cache} is asked after the other caches: ${errorSentence(warning.error)}`;
    case 'unchecked-contents': {
      const effect =
        warning.of === 'store'
          ? 'NARs that were not imported are not served'
          : 'fetched NARs are not checked for the signed contents';
      return `${errorSentence(warning.error)}; until then, ${effect}`;
    }
    case 'wrong-contents':
      return `the NAR of ${warning.path} does not have the signed contents and is not served: run narswarm verify --deep --repair to fetch another`;
    case 'exported-again':
      return `the NAR of ${warning.path} was damaged; it is exported again`;
    case 'damaged-file':
      return `${warning.file} was damaged; fetching ${warning.path} again`;
    case 'fetched-again':
      return `${errorSentence(warning.error)}; fetching ${warning.path} again`;
    case 'lying-peer':
      return `${warning.peer} sent wrong bytes for ${warning.path}; it is not asked again`;
    case 'two-histories':
      return `the hash map ${warning.publisher}: ${twoHistories(warning.proof)}`;
    case 'different-builds':
      return differenceSentence(warning.difference);
    case 'peers-again':
      return `${warning.failures.map(({ reason }) => reason).join('; ')}; trying peers again`;
    case 'other-description':
      return `${warning.failure.reason}; ${warning.source === undefined ? 'trying it again by its contents' : `using the description by ${warning.source} instead`}`;
    case 'wrong-patch':
      return warning.others === 0
        ? `no patch for ${warning.path}: ${warning.failure.reason}; fetching it whole`
        : `no patch for ${warning.path} and ${formatCount(warning.others, 'other')}: ${warning.failure.reason}; fetching them whole`;
    case 'not-repaired':
      return warning.failure.reason;
    case 'nothing-evicted':
      return `nothing is evicted, since kept paths may need it: ${obstacleSentence(warning.obstacle)}`;
    case 'nothing-released':
      return `no NAR file is let go of, since Nix cannot be asked what it has: ${errorSentence(warning.error)}`;
    case 'kept-map':
      return `${errorSentence(warning.error)}; using the kept edition of ${when(warning.created)}`;
    case 'member-map':
      return `${errorSentence(warning.error)}; using the edition of ${when(warning.created)}, which a peer holds`;
    case 'map-withdrawn':
      return 'nothing is published any more, so this machine’s hash map is no longer offered';
    case 'map-not-renewed':
      return `the hash map could not be renewed, so the last one stays: ${errorSentence(warning.error)}`;
    case 'pointer-not-put':
      return `cannot put the pointer to the hash map into the DHT: ${errorSentence(warning.error)}`;
    case 'pointer-not-taken':
      return 'no DHT node stored the pointer to the hash map: check --dht-bootstrap, and whether the firewall lets UDP pass';
    case 'silent-dht':
      return `the DHT did not answer: ${errorSentence(warning.error)}`;
    case 'failed-torrent':
      return `torrent ${warning.infoHash}: ${errorSentence(warning.error)}`;
    case 'failed-seed': {
      const { infoHash, error } = warning;
      return `cannot seed ${infoHash}: ${isTooManyFiles(error) ? TOO_MANY_FILES : errorSentence(error)}`;
    }
    case 'nothing-mounted':
      return `no disk is mounted where ${warning.dir} is, so it goes to the file system at ${warning.disk}: if that is wrong, mount the disk and run the same command again`;
    case 'repeated':
      return `${formatCount(warning.count, 'more warning')} like this one: ${warningSentence(warning.first, when)}`;
    default:
      return warning satisfies never;
  }
}

function obstacleSentence(obstacle: Obstacle): string {
  switch (obstacle.kind) {
    case 'lost-root': {
      const { keeper, path } = obstacle;
      const root = keeper === undefined ? `the pinned path ${path}` : `the subscription ${keeper}’s ${path}`;
      return `${root} has no narinfo in the store: fetch it again, or stop keeping it`;
    }
    case 'unreadable-narinfo':
      return `${obstacle.storeHash}.narinfo cannot be read: run narswarm verify --repair`;
    default:
      return `${obstacle.storeHash}.narinfo refers to ${obstacle.reference}, which has no narinfo in the store: fetch it again`;
  }
}
