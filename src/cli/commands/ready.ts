import { Command } from 'commander';
import { defaultStoreDir } from '../../config/locations.ts';
import { NarswarmError } from '../../errors.ts';
import type { AssessStep, LackingOffer, Readiness, RebuildTarget } from '../../ready/assess.ts';
import type { Need } from '../../ready/lacking.ts';
import type { Workplace } from '../../fetch/workplace.ts';
import type { Output } from '../output.ts';
import { progressDisplay } from '../live/progress-display.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon, addNetwork } from '../options/shared-options.ts';
import { addSources, FETCH_STATUSES, readSources, type SourceFlags } from '../options/source-options.ts';
import { formatCount, formatSize } from '../words/values.ts';

interface ReadyFlags extends CommonOptions, SourceFlags {
  readonly file?: string;
  readonly store: string;
  readonly sources?: boolean;
  readonly offline?: boolean;
}

const NEEDS: Readonly<Record<Need, string>> = {
  'flake-input': 'flake input',
  'build-input': 'build input',
  source: 'source',
  output: 'output',
};

export function readyCommand(): Command {
  const ready = new Command('ready')
    .summary('tell whether a rebuild needs a network')
    .description(
      'tell whether a rebuild would work without a network now, and list what it would lack: build inputs, sources, flake inputs',
    )
    .argument('<installable...>', 'an installable such as .#default, a store path, or a link to one such as ./result')
    .option('-f, --file <file>', 'Nix file in which the INSTALLABLEs are attributes')
    .option('--store <dir>', 'file store that may hold the rest', defaultStoreDir())
    .option('--sources', 'want the sources of the whole build closure, too: for a rebuild from nothing')
    .option('--offline', 'ask nobody about the missing paths; their sizes are not known then');
  addSources(ready);
  addNetwork(ready, { scope: 'lan' });
  addCommon(
    ready,
    [
      'narswarm ready /etc/nixos#nixosConfigurations.lab.config.system.build.toplevel',
      'narswarm ready --file "<nixpkgs/nixos>" system',
      'narswarm ready .#default --sources && echo "the network may go"',
      'narswarm ready /run/current-system --offline --json | jq -r "select(.event == \\"missing\\").path"',
    ],
    [...FETCH_STATUSES, 'NOT_READY'],
  );
  return ready.action(
    command<ReadyFlags, [readonly string[]]>(async ({ output, signal, options, originOf }, texts) => {
      const targets = await Promise.all(texts.map((text) => targetOf(text, options.file)));
      const { assess } = await import('../../ready/assess.ts');
      const { DryRunStore } = await import('../../store/dry-run-store.ts');
      await using files = await DryRunStore.open(options.store);
      using display = progressDisplay(output);
      await using asking = new AsyncDisposableStack();
      const readiness = await assess(targets, {
        files: files.store,
        countsStored: await asksFileStore(options.store, signal),
        withSources: options.sources === true,
        fetch: options.offline === true ? undefined : await planner(),
        onStep: (step) => output.note(stepInWords(step)),
        signal,
      });
      display.stop();
      tellReadiness(output, texts, readiness);

      /** Returns a function that plans a fetch. Sources are opened for its first call. */
      async function planner(): Promise<Parameters<typeof assess>[1]['fetch']> {
        const sources = await readSources(options, { output, signal, originOf, seeds: true });
        const { Workplace: Place } = await import('../../fetch/workplace.ts');
        let opening: Promise<Workplace> | undefined;
        return async (roots) => {
          opening ??= Place.open({
            ...sources,
            storeDir: options.store,
            dryRun: true,
            onWarning: display.handlers.onWarning,
          }).then((workplace) => asking.use(workplace));
          const what = { ...sources, roots, copy: true, to: undefined, dryRun: true, keepGoing: true };
          return (await opening).prefetch(what, { tell: display.handlers.tell, signal });
        };
      }
    }),
  );
}

/** Reads the installables to rebuild. @throws USAGE for sources of other kinds; NOT_FOUND, STORE_PATH_INVALID */
async function targetOf(text: string, file: string | undefined): Promise<RebuildTarget> {
  const { parseSource } = await import('../../subscription/source/source.ts');
  if (file === undefined && !/#|^magnet:|^https?:/i.test(text)) {
    const { readNamedPath, wholePath } = await import('../../nix/named-path.ts');
    return { kind: 'store-path', path: await wholePath(await readNamedPath(text)) };
  }
  const source = parseSource(text, { file });
  if (source.kind === 'installable' || source.kind === 'attribute') return source;
  const wayOut = 'name an installable such as .#default, an attribute with --file, or a store path';
  throw new NarswarmError('USAGE', `${text} does not say what is built: ${wayOut}`);
}

/** Returns true if Nix asks the daemon of this machine, or the file store itself, for paths that it lacks. */
async function asksFileStore(storeDir: string, signal: AbortSignal): Promise<boolean> {
  const [{ readNixConfig }, { SUBSTITUTER_PORT }] = await Promise.all([
    import('../../nix/programs/nix-settings.ts'),
    import('../../wire/ports.ts'),
  ]);
  const { substituters } = await readNixConfig({ signal });
  return substituters.some((text) => {
    const url = URL.parse(text);
    if (url?.protocol === 'file:') return url.pathname.replace(/\/$/, '') === storeDir;
    return url !== null && /^(?:127\.|localhost$|\[::1\]$)/.test(url.hostname) && url.port === String(SUBSTITUTER_PORT);
  });
}

function stepInWords(step: AssessStep): string {
  switch (step.kind) {
    case 'evaluating':
      return `evaluating ${step.installable} without a network`;
    case 'looking':
      return `${formatCount(step.builds, 'derivation')} may be built again`;
    default:
      return `asking for ${formatCount(step.paths, 'missing path')}`;
  }
}

/** Reports the answer. @throws NOT_READY if it is no */
function tellReadiness(output: Output, texts: readonly string[], readiness: Readiness): void {
  const { lacking, builds, download, underived, unevaluated } = readiness;
  for (const one of lacking) output.result('missing', { ...one }, lackingInWords(one));
  for (const path of underived)
    output.note(`${path}: Nix does not have its derivation, so only the path itself was looked at`);
  const facts = {
    ready: lacking.length === 0,
    missing: lacking.length,
    nowhere: lacking.filter(({ offer }) => offer === 'nowhere').length,
    ...download,
    stored: readiness.stored,
    builds,
    underived,
    unevaluated,
  };
  const what = texts.join(', ');
  if (lacking.length === 0) {
    const rebuilt = builds === 0 ? '' : `: all that its ${formatCount(builds, 'build')} may take is here`;
    output.result('ready', facts, `yes: a rebuild of ${what} needs no network${rebuilt}`);
    if (readiness.stored > 0)
      output.note(
        `${formatCount(readiness.stored, 'path')} of that only in the file store: Nix gets them from narswarm daemon, but not with --offline; narswarm fetch imports them`,
      );
    return;
  }
  output.result('ready', facts);
  throw new NarswarmError('NOT_READY', `no: ${whatIsMissing(what, readiness, facts.nowhere)}`, {
    facts: { missing: lacking.length },
  });
}

function whatIsMissing(what: string, { lacking, download, unevaluated }: Readiness, nowhere: number): string {
  const stored = lacking.filter(({ isStored }) => isStored).length;
  const kinds = [...Map.groupBy(lacking, ({ need }) => need)].map(([need, some]) =>
    formatCount(some.length, NEEDS[need]),
  );
  const parts = [
    ...(download.nars > 0
      ? [`${formatCount(download.nars, 'NAR')} (${formatSize(download.bytes)}) to download with their closures`]
      : []),
    ...(nowhere > 0 ? [`${nowhere} of them in no cache`] : []),
    ...(stored > 0
      ? [`${stored} of them in the file store, where Nix does not ask (narswarm fetch imports them)`]
      : []),
    ...(unevaluated.length > 0 ? ['what its builds need is known once the flake inputs are here'] : []),
  ];
  const rest = parts.length === 0 ? '' : `; ${parts.join('; ')}`;
  const wayOut = 'subscribe to it with --import --ready, and narswarm update fetches everything that a source has';
  return `a rebuild of ${what} without a network lacks ${kinds.join(', ')}${rest}: ${wayOut}`;
}

function lackingInWords({ path, need, neededBy, offer, isStored, sizeBytes }: LackingOffer): string {
  const where = isStored ? 'in the file store' : offer === 'nowhere' ? 'in no cache' : '';
  const size = sizeBytes === undefined ? where : formatSize(sizeBytes);
  const why = neededBy === undefined ? '' : `  for ${neededBy}`;
  return `${NEEDS[need].padEnd(11)}  ${size.padEnd(17)}  ${path}${why}`;
}
