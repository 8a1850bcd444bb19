import { join } from 'node:path';
import { Command } from 'commander';
import { defaultStoreDir } from '../../config/locations.ts';
import { NarswarmError } from '../../errors.ts';
import type { OutLink } from '../../fetch/import/out-link.ts';
import { asTrusted } from '../../http/upstream.ts';
import { nixStoreDir } from '../../nix/store-path.ts';
import { STATE_FOLDER } from '../../store/state-folder.ts';
import { saveCompiled } from '../start/compile-cache.ts';
import { assertMayLeaveUnchecked, warnOfIgnoredKeys } from '../options/ignored-keys.ts';
import { optimizeLate } from '../start/late-optimizing.ts';
import { toldFailure } from '../words/missing-paths.ts';
import { tellDone, tellPlan } from '../words/fetch-report.ts';
import { progressDisplay } from '../live/progress-display.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon, addNetwork } from '../options/shared-options.ts';
import { addImport, addSources, FETCH_STATUSES, readSources, type SourceFlags } from '../options/source-options.ts';
import { insteadOfSubscription } from '../words/unknown-name.ts';
import { formatDuration, one, parseDuration } from '../words/values.ts';
import { noteSentence } from '../words/notes.ts';

interface FetchOptions extends CommonOptions, SourceFlags {
  readonly file?: string;
  readonly store: string;
  readonly to?: string;
  readonly copy: boolean;
  readonly outLink?: string;
  readonly checkSigs: boolean;
  readonly seedFor: number;
  readonly dryRun?: boolean;
}

export function fetchCommand(): Command {
  const fetch = new Command('fetch')
    .summary('download and import closures')
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
    .option('--out-link <file>', 'link to make to the imported root, which keeps it from nix-collect-garbage')
    .option('--no-check-sigs', 'accept unsigned paths from caches, too; they are never served or published')
    .option(
      '--seed-for <duration>',
      'continue seeding after the fetch for this time, such as 10m',
      one(parseDuration),
      0,
    )
    .option('--yield', 'leave the internet line to other traffic, and be slower for it')
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
    command<FetchOptions, [readonly string[]]>(async ({ output, signal, options, originOf, config: load }, roots) => {
      const { ofRoot, readFetchRoots } = await import('../../subscription/fetch-roots.ts');
      const { fetchResolution } = await import('../../subscription/fetch-resolution.ts');
      const wanted = await readFetchRoots(roots, { file: options.file });
      const sources = await readSources(
        { ...options, publisher: [...(options.publisher ?? []), ...wanted.publishers] },
        { output, signal, originOf, seeds: options.seedFor > 0 },
      );
      if (options.copy && !options.checkSigs) await assertMayLeaveUnchecked(options.to, signal);
      await using links = await outLinkOf(options, roots.length, signal);
      using display = progressDisplay(output);
      // Nix is asked while the walk begins, so that the warning delays nothing.
      const warned =
        options.copy && options.checkSigs
          ? warnOfIgnoredKeys(sources.keys, {
              named: sources.trustedPublicKeys,
              stores: new Set([options.to]),
              signal,
              warn: (text) => output.warn(text),
            })
          : undefined;
      warned?.catch(() => undefined); // awaited below
      const evaluated = await wanted.evaluate(signal);
      const { runFetch } = await import('../../fetch/run-fetch.ts');
      optimizeLate();
      const run = runFetch({
        roots: wanted.roots,
        fetchMore:
          evaluated.size === 0
            ? undefined
            : async (fetchPart) => {
                for (const [text, resolution] of evaluated) {
                  const { error, lack, notes } = await fetchResolution(resolution, fetchPart);
                  for (const note of notes) output.note(`${text}: ${noteSentence(note)}`);
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
          if (event.type === 'planned') tellPlan(output, event, options.dryRun === true);
        },
        beforeImport: links && ((tops) => links.keep(tops)),
        onDone: async (result) => {
          display.stop();
          if (options.dryRun === true) return;
          const made = await links?.link(result.roots);
          tellDone(output, result, options.to);
          for (const [link, path] of made ?? []) {
            output.result('linked', { link, path });
            output.note(`${link} keeps ${path}`);
          }
        },
        onSeeding: (port) => {
          saveCompiled(); // seeding may be interrupted, which is no good end
          if (output.json) output.result('seeding', { port, durationMs: options.seedFor });
          else output.note(`done; seeding on port ${port} for ${formatDuration(options.seedFor)}`);
        },
      });
      const known = run.catch(async (error: unknown) => {
        throw insteadOfSubscription(error, await load());
      });
      await known.finally(() => warned);
    }),
  );
}

/** @throws USAGE as {@link OutLink.open}, and without an import */
async function outLinkOf(
  { outLink, copy, dryRun, store, to }: FetchOptions,
  count: number,
  signal: AbortSignal,
): Promise<OutLink | undefined> {
  if (outLink === undefined) return undefined;
  if (!copy) throw new NarswarmError('USAGE', '--out-link keeps what is imported: leave out --no-copy');
  if (dryRun === true) return undefined;
  const { OutLink: Link } = await import('../../fetch/import/out-link.ts');
  const files = { stateDir: join(store, STATE_FOLDER), nixStoreDir: nixStoreDir(process.env), count };
  return Link.open(outLink, files, { store: to, signal });
}
