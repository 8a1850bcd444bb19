/** Reports the plan and the result of a fetch. */
import type { FetchEvent, SenderGroup } from '../../fetch/events.ts';
import type { Plan } from '../../fetch/plan/plan.ts';
import type { Progress, Sender } from '../../fetch/report.ts';
import type { RunFetchResult } from '../../fetch/run-fetch.ts';
import { hostOf } from '../../discovery/endpoint.ts';
import { groupsOf, sendersInWords } from '../live/fetch-lines.ts';
import { formatShare } from '../live/work-lines.ts';
import type { Output } from '../output.ts';
import { alreadyHere, formatCount, formatDuration, formatSize } from './values.ts';

export function tellPlan(
  output: Output,
  { plan, closure, partialBytes }: Extract<FetchEvent, { type: 'planned' }>,
  dryRun: boolean,
): void {
  const paths = closure.size;
  const nars = plan.jobs.length + plan.unsized.length;
  const facts = {
    paths,
    nars,
    bytes: plan.jobBytes,
    partialBytes,
    patches: { nars: plan.patches.size, ...patchSums(plan) },
    torrents: plan.jobs.filter((job) => job.torrent !== undefined).length,
    inStore: plan.inStore.length,
    valid: plan.valid.length,
    ...(dryRun
      ? { missing: [...plan.jobs.flatMap((job) => job.storePaths), ...plan.unsized.map((info) => info.storePath)] }
      : {}),
  };
  const text = `${formatCount(paths, 'path')}: ${formatCount(nars, 'NAR')} to fetch (${formatSize(plan.jobBytes)}${alreadyHere(partialBytes)}, ${facts.torrents} with a torrent${patchesInWords(facts.patches)}), ${plan.inStore.length} in the file store, ${plan.valid.length} valid in the target`;
  if (dryRun) output.result('plan', facts, [text, ...pathsToFetch(plan)].join('\n'));
  else if (output.json) output.result('plan', facts);
  else if (nars > 0) output.note(text);
}

/** Lists the paths of a plan for people, one a line, with the size of the NAR's file. Not every cache says it. */
export function pathsToFetch({ jobs, unsized }: Pick<Plan, 'jobs' | 'unsized'>): string[] {
  return [
    ...jobs.flatMap((job) => job.storePaths.map((path) => `  ${path}  ${formatSize(job.sizeBytes)}`)),
    ...unsized.map(({ storePath }) => `  ${storePath}`),
  ];
}

/** Reports the result: for people the senders, and in the last line how much came from where. */
export function tellDone(
  output: Output,
  { progress, closure, plan, imported, roots }: RunFetchResult,
  to: string | undefined,
): void {
  const { peerBytes, upstreamBytes, durationMs, downloadMs, savedBytes } = progress;
  const storeBytes = plan.storeBytes + progress.keptBytes;
  const bySource = [...progress.bySource].toSorted(([, a], [, b]) => b.bytes - a.bytes);
  const nars = plan.jobs.length + plan.unsized.length;
  const facts = {
    roots,
    paths: closure.size,
    nars,
    bytes: {
      total: peerBytes + upstreamBytes + storeBytes,
      store: storeBytes,
      peers: peerBytes,
      upstream: upstreamBytes,
    },
    savedBytes,
    patches: progress.patched,
    durationMs,
    downloadMs: Math.round(downloadMs),
    peers: progress.peersInUse,
    sources: bySource.map(([source, { kind, bytes }]) => ({ source, kind, bytes })),
    groups: groupFacts(progress),
    imported,
  };
  const paths = formatCount(closure.size, 'path');
  const took = `in ${formatDuration(durationMs)}`;
  const lines = (): string[] => {
    if (nars > 0) {
      const fetched = peerBytes + upstreamBytes;
      const rate = formatSize((fetched * 1000) / Math.max(1, downloadMs));
      return [
        `${formatCount(nars, 'NAR')} fetched, ${formatSize(fetched)} (${rate}/s)${imported ? ', imported' : ''}`,
        ...sendersTable(bySource, storeBytes),
        `${paths} ${took}${patchesInWords(progress.patched)}${sharesInWords(progress)}`,
      ];
    }
    if (imported && plan.inStore.length > 0)
      return [`${paths}, nothing to fetch, ${plan.inStore.length} imported from the file store ${took}`];
    const places = [
      [plan.inStore.length, 'in the file store'],
      [plan.valid.length, `valid in ${to ?? 'the local store'}`],
    ] as const;
    const held = places.filter(([count]) => count > 0).map(([count, place]) => `${count} ${place}`);
    return [`${paths}: all are there already, ${held.join(', ')}`];
  };
  output.result('done', facts, [...roots, ...lines()].join('\n'));
}

/** Returns the bytes of a plan's patches, and of the files that they stand for. */
function patchSums({ patches }: Plan): { readonly patchBytes: number; readonly fileBytes: number } {
  let [patchBytes, fileBytes] = [0, 0];
  for (const [job, { delta }] of patches) {
    patchBytes += delta.torrent.sizeBytes;
    fileBytes += job.sizeBytes;
  }
  return { patchBytes, fileBytes };
}

/** Returns the saving by patches, such as `, 26.3 MB of patches instead of 142 MB`. Empty without patches. */
export function patchesInWords({ patchBytes, fileBytes }: ReturnType<typeof patchSums>): string {
  return fileBytes === 0 ? '' : `, ${formatSize(patchBytes)} of patches instead of ${formatSize(fileBytes)}`;
}

/** Returns the bytes of each group of senders, for `--json`. */
export function groupFacts(progress: Progress): Readonly<Record<string, object>> {
  return Object.fromEntries(
    groupsOf(progress).map(([group, { bytes, senders, nars }]) => [group, { senders: senders.size, bytes, nars }]),
  );
}

/** Part of all bytes from which on a group of senders is named. */
const NAMED_SHARE = 0.1;

/**
 * Says how much came from where: `, 98 % from 3 neighbours, 46.0 MB of internet saved`. Leaves out groups that have sent
 * little.
 */
export function sharesInWords(progress: Progress): string {
  const { peerBytes, upstreamBytes, savedBytes } = progress;
  const total = peerBytes + upstreamBytes;
  const groups = groupsOf(progress).filter(([, { bytes }]) => bytes > 0 && bytes >= total * NAMED_SHARE);
  const shares = groups.map(
    ([group, { bytes, senders }]) =>
      `, ${bytes === total ? 'all' : formatShare(bytes, total)} from ${sendersInWords(group, senders.size)}`,
  );
  return `${shares.join('')}${savedBytes === 0 ? '' : `, ${formatSize(savedBytes)} of internet saved`}`;
}

const IN_WORDS: Readonly<Record<SenderGroup, string>> = {
  neighbours: 'neighbour',
  cohort: 'in the cohort',
  clients: 'BitTorrent client',
  caches: '',
};

/** Returns a line for each host and each cache, and for the bytes that were here. */
function sendersTable(bySource: readonly (readonly [string, Sender])[], storeBytes: number): string[] {
  const hosts = new Map<string, { bytes: number; readonly what: string }>();
  if (storeBytes > 0) hosts.set('file store', { bytes: storeBytes, what: '' });
  for (const [source, { kind, group, bytes }] of bySource) {
    const name = kind === 'peers' ? hostOf(source) : source;
    const known = hosts.get(name);
    if (known === undefined) hosts.set(name, { bytes, what: IN_WORDS[group] });
    else known.bytes += bytes;
  }
  const width = Math.max(0, ...[...hosts.keys()].map((name) => name.length));
  return Array.from(hosts, ([name, { bytes, what }]) =>
    `  ${name.padEnd(width)}  ${formatSize(bytes).padStart(9)}  ${what}`.trimEnd(),
  );
}
