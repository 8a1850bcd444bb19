import { join, relative, resolve } from 'node:path';
import { Command } from 'commander';
import { NarswarmError } from '../../errors.ts';
import { formatPublisherAddress } from '../../index/address.ts';
import type { StorePath } from '../../nix/brands.ts';
import { queryInvalidPaths } from '../../nix/programs/nix-queries.ts';
import { parseStorePath } from '../../nix/store-path.ts';
import { STATE_FOLDER } from '../../store/state-folder.ts';
import type { Lack } from '../../subscription/state/missing.ts';
import type { PackPlan, Packed } from '../../suitcase/pack.ts';
import { assertFolderWord } from '../words/folder-word.ts';
import { WorkProgress } from '../live/work-progress.ts';
import { toldFailure } from '../words/missing-paths.ts';
import type { Output } from '../output.ts';
import { progressDisplay } from '../live/progress-display.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { shellWord } from '../words/shell-word.ts';
import { addCommon, addNetwork, defaultStoreDir } from '../options/shared-options.ts';
import { addSources, FETCH_STATUSES, readSources, type SourceFlags } from '../options/source-options.ts';
import { suitcaseReadme } from '../words/suitcase-readme.ts';
import { orSubscription } from '../words/unknown-name.ts';
import { formatCount, formatDuration, formatSize } from '../words/values.ts';

/** Limit on paths in a suggested command. */
const NAMED_PATHS = 5;

interface PackFlags extends CommonOptions, SourceFlags {
  readonly file?: string;
  readonly store: string;
  readonly since?: string;
  readonly sources?: boolean;
  readonly verify?: boolean;
  readonly dryRun?: boolean;
}

export function packCommand(): Command {
  const pack = new Command('pack')
    .summary('write closures onto a disk')
    .description(
      'write closures onto a disk for a site without a line: a binary cache for plain Nix and for narswarm unpack',
    )
    .usage('[options] <root|subscription...> <dir>')
    .argument(
      '<root...>',
      'what to pack, as for fetch, or the name of a subscription, which stands for its newest complete generation; the last word is the folder on the disk',
    )
    .option('-f, --file <file>', 'Nix file in which the ROOTs are attributes')
    .option('--store <dir>', 'file store that has the NARs; what it lacks is fetched into it first', defaultStoreDir())
    .option(
      '--since <generation>',
      'leave out what the other site has: the number of a generation of the subscription, or a store path',
    )
    .option('--sources', 'pack the fixed-output sources of the builds, too')
    .option('--verify', 'also read the NARs that are on the disk from earlier runs, and write wrong ones again')
    .option('-n, --dry-run', 'only say how large it is');
  addSources(pack);
  addNetwork(pack, { scope: 'lan' });
  addCommon(
    pack,
    [
      'narswarm pack desktop /media/usb/nix',
      'narswarm pack desktop --since 30 /media/usb/nix',
      'narswarm pack nixpkgs#hello ./result /media/usb/nix --dry-run',
      'narswarm pack $(nix flake archive --json | jq -r ".. | .path? // empty") --from file:///srv/inputs /media/usb/nix',
    ],
    FETCH_STATUSES,
  );
  return pack.action(
    command<PackFlags, [readonly string[]]>(async ({ output, signal, options, originOf, config: load }, words) => {
      const dir = words.at(-1);
      const texts = words.slice(0, -1);
      if (dir === undefined || texts.length === 0)
        throw new NarswarmError('USAGE', 'name what to pack, then the folder on the disk: see narswarm pack --help');
      const config = await load();
      const { subscriptions: configured } = config;
      assertFolderWord(dir, configured, { place: 'last', folder: 'the folder on the disk' });
      const { readWhatToPack } = await import('../../suitcase/what-to-pack.ts');
      const store = { stateDir: join(resolve(options.store), STATE_FOLDER) };
      const { file, since } = options;
      const withSources = options.sources === true;
      const what = await readWhatToPack(texts, { file, since, withSources, store, configured, signal });
      for (const name of what.behind)
        output.warn(`the newest generation of ${name} is not complete here: the one before it is packed`);
      const publisher = [...(options.publisher ?? []), ...what.publishers];
      const sources = await readSources({ ...options, publisher }, { output, signal, originOf });
      const { pack: packInto } = await import('../../suitcase/pack.ts');
      const { ownMaps } = await import('../../suitcase/carried-maps.ts');
      const own = what.subscriptions.some((subscription) => subscription.publish) ? await ownMaps(store) : [];
      const dryRun = options.dryRun === true;
      const startedAtMs = performance.now();
      using display = progressDisplay(output);
      using work = new WorkProgress(output);
      const packed = await packInto({
        ...sources,
        ...display.handlers,
        sources,
        storeDir: options.store,
        dir,
        roots: what.roots,
        optional: what.sources,
        since: what.since,
        maps: [...publisher, ...own],
        verify: options.verify === true,
        words: { what: what.what, since: what.sinceInWords },
        readme: suitcaseReadme,
        now: new Date(),
        dryRun,
        signal,
        lackError: (error, lack, paths) =>
          lackError(error, lack, { paths, roots: what.roots, store: options.store, signal }),
        onPlan: (plan) => tellPlan(output, plan, dir),
        onPack: (event) => {
          if (event.type === 'bytes') work.add({ bytes: event.bytes });
          else if (event.type === 'nar') work.add({ nars: 1 });
          else {
            display.stop();
            work.begin(event.type, event);
          }
        },
      }).catch((error: unknown) => {
        throw orSubscription(error, config);
      });
      work.stop();
      if (!dryRun) tellPacked(output, packed, dir, performance.now() - startedAtMs);
    }),
  );
}

/** Makes the error of missing paths. Those of this machine's own Nix store have a way out of their own. */
async function lackError(
  error: NarswarmError,
  lack: Lack | undefined,
  {
    paths,
    roots,
    store,
    signal,
  }: {
    readonly paths: readonly string[];
    readonly roots: readonly string[];
    readonly store: string;
    readonly signal: AbortSignal;
  },
): Promise<NarswarmError> {
  const told = toldFailure(error, lack);
  const whole = paths.filter((path) => path.includes('/')).map(parseStorePath);
  if (error.code !== 'NARINFO_MISSING' && error.code !== 'NAR_UNAVAILABLE') return told;
  const held = await validOf(whole, signal);
  const [first] = held;
  if (first === undefined) return told;
  const others = held.length === 1 ? '' : ` and ${held.length - 1} more`;
  // A root that is held has its whole closure here, so a command line that can be pasted names the roots.
  const isShort = held.length > NAMED_PATHS && roots.every((root) => held.some((path) => path === root));
  const toAdd = isShort ? roots : held;
  const into = store === defaultStoreDir() ? '' : `--store ${shellWord(store)} `;
  const wayOut = `narswarm add ${into}${toAdd.slice(0, NAMED_PATHS).join(' ')}${toAdd.length > NAMED_PATHS ? ' …' : ''}`;
  return new NarswarmError(
    error.code,
    `no cache gives ${first}${others}, but this machine's Nix store has ${held.length === 1 ? 'it' : 'them'}: ${wayOut}, then run the same command again`,
    { cause: error, facts: { ...error.facts, paths: held } },
  );
}

/** Returns the paths that this machine's Nix store has. None if Nix cannot be asked. */
async function validOf(paths: readonly StorePath[], signal: AbortSignal): Promise<readonly StorePath[]> {
  try {
    const lacking = await queryInvalidPaths(paths, undefined, { signal });
    return paths.filter((path) => !lacking.has(path));
  } catch {
    return [];
  }
}

function tellPlan(output: Output, plan: PackPlan, dir: string): void {
  const { paths, leftOut, unknown, lacking, nars, bytes, thereBytes, fetchBytes, freeBytes, isLinked } = plan;
  const parts = [
    `${formatCount(paths, 'path')} in ${formatCount(nars, 'NAR')}: ${isLinked ? 'links, on the disk of the file store' : `${formatSize(bytes)} to write`}`,
    `${formatSize(thereBytes)} there already`,
    ...(fetchBytes === 0 ? [] : [`${formatSize(fetchBytes)} to fetch first`]),
    ...(leftOut === 0 ? [] : [`${formatCount(leftOut, 'path')} left out, since the other site has them`]),
    ...(lacking === 0 ? [] : [`${formatCount(lacking, 'source')} left out, since nobody has them`]),
    ...(freeBytes === undefined ? [] : [`${formatSize(freeBytes)} free on the disk of ${dir}`]),
  ];
  if (unknown > 0)
    output.warn(
      `${formatCount(unknown, 'path')} of what the other site has ${unknown === 1 ? 'is' : 'are'} not known here, so more is packed than it needs: name a newer generation with --since`,
    );
  const facts = {
    dir,
    paths,
    leftOut,
    unknown,
    lacking,
    nars,
    bytes,
    thereBytes,
    fetchBytes,
    freeBytes,
    linked: isLinked,
  };
  output.result('plan', facts, parts.join(', '));
}

function tellPacked(output: Output, packed: Packed, dir: string, durationMs: number): void {
  const { plan, roots, nars, bytes, mended, maps, refusedRealisations, readme } = packed;
  for (const { address, lackingShards } of maps)
    if (lackingShards > 0)
      output.note(
        `the hash map ${formatPublisherAddress(address)} lacks ${formatCount(lackingShards, 'part')} here; a daemon that follows it fetches all of it`,
      );
  if (mended > 0)
    output.warn(`${formatCount(mended, 'NAR')} on the disk had wrong bytes, and came again: check the disk`);
  if (refusedRealisations > 0)
    output.warn(
      `${formatCount(refusedRealisations, 'realisation')} left out, since this disk refuses a colon in a name: format it as ext4 to carry content-addressed builds`,
    );
  const facts = {
    dir,
    roots,
    paths: plan.paths,
    nars,
    bytes,
    mended,
    maps: maps.length,
    refusedRealisations,
    durationMs: Math.round(durationMs),
  };
  output.result(
    'packed',
    facts,
    [
      `packed  ${formatCount(plan.paths, 'path')}; ${formatCount(nars, 'NAR')} written, ${formatSize(bytes)} in ${formatDuration(durationMs)}`,
      `next    narswarm unpack ${shellWord(dir)}   (at the other site; ${relative(dir, readme)} there says more)`,
    ].join('\n'),
  );
}
