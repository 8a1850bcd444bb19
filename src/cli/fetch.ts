import { Command } from 'commander';
import { NarswarmError } from '../errors.ts';
import type { PublisherAddress } from '../index/address.ts';
import type { RunFetchResult } from '../fetch/run-fetch.ts';
import type { Plan } from '../fetch/plan.ts';
import type { Output } from './output.ts';
import { progressDisplay } from './progress-display.ts';
import { command, type CommonOptions } from './run-command.ts';
import {
  addCommon,
  addKeys,
  addNetwork,
  addPeers,
  addPublishers,
  addRate,
  defaultStoreDir,
  networkOptions,
  type NetworkFlags,
} from './shared-options.ts';
import { readTrust } from './trust.ts';
import { each, formatCount, formatDuration, formatSize, one, parseDuration } from './values.ts';

interface FetchOptions extends CommonOptions, NetworkFlags {
  readonly publisher?: readonly PublisherAddress[];
  readonly from?: readonly string[];
  readonly store: string;
  readonly to?: string;
  readonly copy: boolean;
  readonly upstream: boolean;
  readonly trustedPublicKey?: readonly string[];
  readonly maxDownloadRate?: number;
  readonly seedFor: number;
  readonly publisherTimeout?: number;
  readonly peerTimeout?: number;
  readonly dryRun?: boolean;
}

export function fetchCommand(): Command {
  const fetch = new Command('fetch')
    .description(
      'download the closures of store paths from peers and caches, verify them, and import them with nix copy',
    )
    .argument('<root...>', 'store path, its hash part, or the name of a root in a hash map');
  addPublishers(fetch, 'address of a hash map (magnet: or the http(s) URL of a mirror); may be repeated');
  fetch
    .option(
      '--from <url>',
      'HTTP binary cache for what peers do not have; may be repeated (default: substituters of nix.conf)',
      each(String),
    )
    .option('--store <dir>', 'file store to keep the NARs in', defaultStoreDir())
    .option('--to <store-uri>', 'Nix store to import into (default: the local one)')
    .option('--no-copy', 'do not import; only fill the file store')
    .option('--no-upstream', 'use peers alone');
  addPeers(fetch);
  addKeys(fetch);
  addRate(fetch);
  fetch
    .option('--seed-for <duration>', 'go on seeding after it is done, such as 10m', one(parseDuration), 0)
    .option(
      '--publisher-timeout <duration>',
      'how long to look for the hash maps (default: 10s, or 60s without an upstream)',
      one(parseDuration),
    )
    .option(
      '--peer-timeout <duration>',
      'without an upstream: how long to wait while no peer sends a byte (default: 60s)',
      one(parseDuration),
    )
    .option('-n, --dry-run', 'say what would be downloaded, and how much');
  addNetwork(fetch, { scope: 'lan' });
  addCommon(
    fetch,
    [
      'narswarm fetch /nix/store/…-nixos-system-lab --publisher "magnet:?xs=urn:btpk:…"',
      'narswarm fetch desktop --publisher "magnet:?xs=urn:btpk:…" --no-upstream --to /mnt',
      'narswarm fetch $(readlink -f result) --publisher "$ADDR" --to ssh-ng://server && nix copy …',
      'narswarm fetch desktop --publisher "$ADDR" --dry-run --json',
    ],
    ['NOT_FOUND', 'UNTRUSTED', 'SOURCES_FAILED', 'INDEX', 'STORE', 'NIX', 'INTERRUPTED'],
  );
  return fetch.action(
    command<FetchOptions, [readonly string[]]>(async ({ output, signal, options, originOf }, roots) => {
      if (!options.upstream && originOf('from').source === 'cli') {
        throw new NarswarmError('USAGE', '--no-upstream asks no cache and --from names one: give one of them');
      }
      const from = options.upstream ? options.from : [];
      const trust = await readTrust({ trustedPublicKey: options.trustedPublicKey, from }, signal, (text) =>
        output.warn(text),
      );
      const network = networkOptions(options, options.scope ?? 'lan', originOf);
      const wantsPeers = network.scope !== 'off' && ((options.publisher?.length ?? 0) > 0 || options.seedFor > 0);
      const { runFetch } = await import('../fetch/run-fetch.ts');
      const display = progressDisplay(output);
      try {
        await runFetch({
          roots,
          publishers: options.publisher ?? [],
          upstreams: trust.upstreams,
          keys: trust.keys,
          trustedPublicKeys: options.trustedPublicKey ?? [],
          to: options.to,
          copy: options.copy,
          storeDir: options.store,
          network: wantsPeers ? network : undefined,
          maxDownloadRate: options.maxDownloadRate,
          seedForMs: options.seedFor,
          publisherTimeoutMs: options.publisherTimeout ?? (trust.upstreams.length === 0 ? 60_000 : 10_000),
          peerTimeoutMs: options.peerTimeout,
          dryRun: options.dryRun === true,
          signal,
          onWarning: (message) => display.above(() => output.warn(message)),
          onStep: (text) => display.above(() => output.note(text)),
          onPlan: (plan, closure) => display.above(() => tellPlan(output, plan, closure.size, options.dryRun === true)),
          onProgress: (progress) => display.show(progress),
          onNixLine: (line) => display.above(() => output.note(`nix: ${line}`)),
          onDone: (result) => {
            display.stop();
            if (options.dryRun !== true) tellDone(output, result);
          },
          onSeeding: (port) => {
            if (output.json) output.result('seeding', { port, durationMs: options.seedFor });
            else output.note(`done; seeding on port ${port} for ${formatDuration(options.seedFor)}`);
          },
        });
      } finally {
        display.stop();
      }
    }),
  );
}

function tellPlan(output: Output, plan: Plan, paths: number, dryRun: boolean): void {
  const nars = plan.jobs.length + plan.unsized.length;
  const facts = {
    paths,
    nars,
    bytes: plan.jobBytes,
    torrents: plan.jobs.filter((job) => job.torrent !== undefined).length,
    inStore: plan.inStore.length,
    valid: plan.valid.length,
    ...(dryRun
      ? { missing: [...plan.jobs.flatMap((job) => job.storePaths), ...plan.unsized.map((info) => info.storePath)] }
      : {}),
  };
  const text = `${formatCount(paths, 'path')}: ${formatCount(nars, 'NAR')} to fetch (${formatSize(plan.jobBytes)}, ${facts.torrents} with a torrent), ${plan.inStore.length} in the file store, ${plan.valid.length} valid in the target`;
  if (dryRun)
    output.result(
      'plan',
      facts,
      [
        text,
        ...plan.jobs.flatMap((job) => job.storePaths.map((path) => `  ${path}  ${formatSize(job.sizeBytes)}`)),
      ].join('\n'),
    );
  else if (output.json) output.result('plan', facts);
  else output.note(text);
}

function tellDone(output: Output, { progress, closure, plan, imported, roots }: RunFetchResult): void {
  const { peerBytes, upstreamBytes, durationMs } = progress;
  const sources = Array.from(progress.bySource, ([source, { kind, bytes }]) => ({ source, kind, bytes })).toSorted(
    (a, b) => b.bytes - a.bytes,
  );
  const facts = {
    roots,
    paths: closure.size,
    nars: plan.jobs.length + plan.unsized.length,
    bytes: {
      total: peerBytes + upstreamBytes + plan.storeBytes,
      store: plan.storeBytes,
      peers: peerBytes,
      upstream: upstreamBytes,
    },
    durationMs,
    peers: progress.peersInUse,
    sources,
    imported,
  };
  const rate = ((peerBytes + upstreamBytes) * 1000) / Math.max(1, durationMs);
  const rows = [
    ['file store', plan.storeBytes] as const,
    ...sources.map(({ source, bytes }) => [source, bytes] as const),
  ].filter(([, bytes]) => bytes > 0);
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  const table = rows.map(([name, bytes]) => `  ${name.padEnd(width)}  ${formatSize(bytes).padStart(9)}`);
  const fetched = facts.nars === 0 ? 'nothing to fetch' : `${formatCount(facts.nars, 'NAR')} fetched`;
  const speed = facts.nars === 0 ? '' : ` (${formatSize(rate)}/s)`;
  const took = `in ${formatDuration(durationMs)}${speed}${imported ? ', imported' : ''}`;
  const head = `${formatCount(closure.size, 'path')}, ${fetched} ${took}`;
  output.result('done', facts, [...roots, head, ...table].join('\n'));
}
