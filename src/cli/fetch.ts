import { Command } from 'commander';
import { defaultStoreDir } from '../config/locations.ts';
import type { RunFetchResult } from '../fetch/run-fetch.ts';
import type { FetchEvent } from '../fetch/events.ts';
import { asTrusted } from '../http/upstream.ts';
import { assertMayLeaveUnchecked, warnOfIgnoredKeys } from './ignored-keys.ts';
import { toldFailure } from './missing-paths.ts';
import type { Output } from './output.ts';
import { progressDisplay } from './progress-display.ts';
import { command, type CommonOptions } from './run-command.ts';
import { addCommon, addNetwork } from './shared-options.ts';
import { addImport, addSources, FETCH_STATUSES, readSources, type SourceFlags } from './source-options.ts';
import { alreadyHere, formatCount, formatDuration, formatSize, one, parseDuration } from './values.ts';
import { noteSentence } from './notes.ts';

interface FetchOptions extends CommonOptions, SourceFlags {
  readonly file?: string;
  readonly store: string;
  readonly to?: string;
  readonly copy: boolean;
  readonly checkSigs: boolean;
  readonly seedFor: number;
  readonly dryRun?: boolean;
}

export function fetchCommand(): Command {
  const fetch = new Command('fetch')
    .description(
      'download the closures of store paths from peers and caches, verify them, and import them with nix copy',
    )
    .argument(
      '<root...>',
      'store path, a link to one such as ./result, its hash part, the name of a root in a hash map, PUBLISHER#ROOT, or an installable such as nixpkgs#hello',
    );
  addSources(fetch);
  addImport(fetch);
  fetch
    .option('-f, --file <file>', 'Nix file in which the ROOTs are attributes')
    .option('--store <dir>', 'file store to keep the NARs in', defaultStoreDir())
    .option('--to <store-uri>', 'Nix store to import into (default: the local one)')
    .option('--no-copy', 'do not import; only fill the file store')
    .option('--no-check-sigs', 'accept unsigned paths from caches, too; they are never served or published')
    .option(
      '--seed-for <duration>',
      'continue seeding after the fetch for this time, such as 10m',
      one(parseDuration),
      0,
    )
    .option('-n, --dry-run', 'list the paths that would be downloaded, and their size');
  addNetwork(fetch, { scope: 'lan' });
  addCommon(
    fetch,
    [
      'narswarm fetch /nix/store/…-nixos-system-lab --publisher "magnet:?xs=urn:btpk:…"',
      'narswarm fetch desktop --publisher "magnet:?xs=urn:btpk:…" --no-upstream --to /mnt',
      'narswarm fetch ./result --publisher "$ADDR" --to ssh-ng://server && nix copy …',
      'narswarm fetch .#nixosConfigurations.lab.config.system.build.toplevel --publisher "$ADDR"',
      'narswarm fetch desktop --publisher "$ADDR" --dry-run --json',
    ],
    FETCH_STATUSES,
  );
  return fetch.action(
    command<FetchOptions, [readonly string[]]>(async ({ output, signal, options, originOf }, roots) => {
      const { ofRoot, readFetchRoots } = await import('../subscription/fetch-roots.ts');
      const { fetchResolution } = await import('../subscription/fetch-resolution.ts');
      const wanted = await readFetchRoots(roots, { file: options.file });
      const sources = await readSources(
        { ...options, publisher: [...(options.publisher ?? []), ...wanted.publishers] },
        { output, signal, originOf, seeds: options.seedFor > 0 },
      );
      if (options.copy && !options.checkSigs) await assertMayLeaveUnchecked(options.to, signal);
      using display = progressDisplay(output);
      // Nix is asked while the walk begins, so that the warning delays nothing.
      const warned =
        options.copy && options.checkSigs
          ? warnOfIgnoredKeys(sources.keys, {
              named: sources.trustedPublicKeys,
              stores: new Set([options.to]),
              signal,
              warn: (text) => display.above(() => output.warn(text)),
            })
          : undefined;
      warned?.catch(() => undefined); // awaited below
      const evaluated = await wanted.evaluate(signal);
      const { runFetch } = await import('../fetch/run-fetch.ts');
      const run = runFetch({
        roots: wanted.roots,
        fetchMore:
          evaluated.size === 0
            ? undefined
            : async (fetchPart) => {
                for (const [text, resolution] of evaluated) {
                  const { error, lack, notes } = await fetchResolution(resolution, fetchPart);
                  for (const note of notes) display.above(() => output.note(`${text}: ${noteSentence(note)}`));
                  if (error !== undefined) throw ofRoot(text, toldFailure(error, lack));
                }
              },
        ...sources,
        network: sources.network && { ...sources.network, givesTorrents: options.seedFor > 0 },
        upstreams: options.checkSigs ? sources.upstreams : sources.upstreams.map(asTrusted),
        to: options.to,
        copy: options.copy,
        storeDir: options.store,
        seedForMs: options.seedFor,
        dryRun: options.dryRun === true,
        signal,
        ...display.handlers,
        tell: (event) => {
          display.handlers.tell(event);
          if (event.type !== 'planned') return;
          display.above(() => tellPlan(output, event, options.dryRun === true));
        },
        onDone: (result) => {
          display.stop();
          if (options.dryRun !== true) tellDone(output, result, options.to);
        },
        onSeeding: (port) => {
          if (output.json) output.result('seeding', { port, durationMs: options.seedFor });
          else output.note(`done; seeding on port ${port} for ${formatDuration(options.seedFor)}`);
        },
      });
      await run.finally(() => warned);
    }),
  );
}

function tellPlan(
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
    torrents: plan.jobs.filter((job) => job.torrent !== undefined).length,
    inStore: plan.inStore.length,
    valid: plan.valid.length,
    ...(dryRun
      ? { missing: [...plan.jobs.flatMap((job) => job.storePaths), ...plan.unsized.map((info) => info.storePath)] }
      : {}),
  };
  const text = `${formatCount(paths, 'path')}: ${formatCount(nars, 'NAR')} to fetch (${formatSize(plan.jobBytes)}${alreadyHere(partialBytes)}, ${facts.torrents} with a torrent), ${plan.inStore.length} in the file store, ${plan.valid.length} valid in the target`;
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
  else if (nars > 0) output.note(text);
}

function tellDone(
  output: Output,
  { progress, closure, plan, imported, roots }: RunFetchResult,
  to: string | undefined,
): void {
  const { peerBytes, upstreamBytes, durationMs } = progress;
  const storeBytes = plan.storeBytes + progress.keptBytes;
  const sources = Array.from(progress.bySource, ([source, { kind, bytes }]) => ({ source, kind, bytes })).toSorted(
    (a, b) => b.bytes - a.bytes,
  );
  const facts = {
    roots,
    paths: closure.size,
    nars: plan.jobs.length + plan.unsized.length,
    bytes: {
      total: peerBytes + upstreamBytes + storeBytes,
      store: storeBytes,
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
    ['file store', storeBytes] as const,
    ...sources.map(({ source, bytes }) => [source, bytes] as const),
  ].filter(([, bytes]) => bytes > 0);
  const width = Math.max(0, ...rows.map(([name]) => name.length));
  const table = rows.map(([name, bytes]) => `  ${name.padEnd(width)}  ${formatSize(bytes).padStart(9)}`);
  const paths = formatCount(closure.size, 'path');
  const took = `in ${formatDuration(durationMs)}`;
  const head = (): string => {
    if (facts.nars > 0)
      return `${paths}, ${formatCount(facts.nars, 'NAR')} fetched ${took} (${formatSize(rate)}/s)${imported ? ', imported' : ''}`;
    if (imported && plan.inStore.length > 0)
      return `${paths}, nothing to fetch, ${plan.inStore.length} imported from the file store ${took}`;
    const places = [
      [plan.inStore.length, 'in the file store'],
      [plan.valid.length, `valid in ${to ?? 'the local store'}`],
    ] as const;
    const held = places.filter(([count]) => count > 0).map(([count, place]) => `${count} ${place}`);
    return `${paths}: all are there already, ${held.join(', ')}`;
  };
  output.result('done', facts, [...roots, head(), ...(facts.nars > 0 ? table : [])].join('\n'));
}
