import { access } from 'node:fs/promises';
import { join } from 'node:path';
import { Command, InvalidArgumentError, Option } from 'commander';
import { parseZstd } from '../../config/zstd-level.ts';
import type { StorePath } from '../../nix/brands.ts';
import { followToStore } from '../../nix/follow-links.ts';
import { findNamedPath, wholePath } from '../../nix/named-path.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { queryRegistrations } from '../../nix/programs/nix-queries.ts';
import { loadSecretKey } from '../../nix/secret-key.ts';
import { formatPublicKey, isTrusted, parsePublicKey } from '../../nix/signature.ts';
import { baseNameOf, DEFAULT_STORE_DIR } from '../../nix/store-path.ts';
import type { Addition } from '../../store/export/add-paths.ts';
import type { AdditionPlan } from '../../store/export/addition-plan.ts';
import { FileStore } from '../../store/file-store.ts';
import { withSignature, type Signer } from '../../store/export/signer.ts';
import { DEFAULT_ZSTD_LEVEL, MAX_ZSTD_LEVEL, type NarFormat } from '../../store/export/write-nar.ts';
import { AdditionProgress } from '../live/addition-progress.ts';
import type { Output } from '../output.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { defaultStoreDir } from '../../config/locations.ts';
import { addCommon, addKeys } from '../options/shared-options.ts';
import { shellWord } from '../words/shell-word.ts';
import { readTrust } from '../options/trust.ts';
import { formatCount, formatDuration, formatSize } from '../words/values.ts';
import { warningsTo } from '../words/warnings.ts';

interface AddOptions extends CommonOptions {
  readonly store: string;
  readonly signKey?: string;
  readonly compression: NarFormat;
  readonly trustedPublicKey?: readonly string[];
  readonly dryRun?: boolean;
}

export function addCommand(): Command {
  const add = new Command('add')
    .summary('export own builds into a file store, signed')
    .description(
      'sign store paths of this machine and their closures, and export them into a file store, ready to publish',
    )
    .argument(
      '<path...>',
      'store path, a link to one such as ./result, or its hash part; in the Nix store that NIX_REMOTE names, such as local?root=/mnt (default: the local one)',
    )
    .option('--store <dir>', 'file store to export into', defaultStoreDir())
    .option('--sign-key <file>', 'secret key of Nix to sign the closures with (nix-store --generate-binary-cache-key)')
    .addOption(
      new Option(
        '--compression <method>',
        `how to compress NARs: zstd, zstd:LEVEL (1 to ${MAX_ZSTD_LEVEL}), xz (an eighth smaller, but 20 times slower to write) or none`,
      )
        .argParser(parseFormat)
        .default({ compression: 'zstd' }, `zstd:${DEFAULT_ZSTD_LEVEL}`),
    )
    .option('-n, --dry-run', 'count the paths that would be exported and signed; with --json, list them');
  addKeys(add);
  addCommon(
    add,
    [
      'narswarm add ./result --sign-key /etc/nix/cache.secret --store /srv/cache',
      'narswarm add $(nix build --print-out-paths) --sign-key cache.secret --compression zstd:19 --json',
      'narswarm add /run/current-system --dry-run',
    ],
    ['NOT_FOUND', 'STORE', 'NIX', 'INTERRUPTED'],
  );
  return add.action(
    command<AddOptions, [readonly string[]]>(async ({ output, signal, options }, texts) => {
      const signer = options.signKey === undefined ? undefined : await openSigner(options.signKey, output);
      const roots = await Promise.all(
        texts.map(async (text) => wholePath((await findNamedPath(text)) ?? (await followToStore(text)))),
      );
      const withoutNix = 'install Nix (on Debian: apt-get install nix-bin), since paths come from its store';
      const closure = await queryRegistrations(roots, { signal, withoutNix });
      const { keys } = await readTrust({ trustedPublicKey: options.trustedPublicKey, from: [] }, signal, (text) =>
        output.warn(text),
      );
      const { planAddition } = await import('../../store/export/addition-plan.ts');
      const { forDryRun } = await import('../../store/claims.ts');
      const { addPaths } = await import('../../store/export/add-paths.ts');
      if (options.dryRun === true) {
        tellPlan(output, await planAddition(forDryRun(closure), await openIfThere(options.store)), signer);
        return;
      }
      const store = await FileStore.open(options.store, { create: true, storeDir: DEFAULT_STORE_DIR });
      using progress = new AdditionProgress(output);
      const warn = warningsTo(output);
      const addition = await addPaths(closure, {
        store,
        format: options.compression,
        signer,
        signal,
        tell: (event) => progress.take(event),
        onWarning: warn,
      });
      progress.stop();
      const { plan } = addition;
      tellOthers(output, plan.others, store);
      const trusted = [...keys, ...(signer === undefined ? [] : [signer.publicKey])];
      const unsigned = addition.infos.filter((info) => !isTrusted(info, trusted));
      tellUnsigned(output, unsigned);
      const { durationMs } = progress;
      tellDone(output, { store, roots, plan, addition, signer, unsigned: unsigned.length, durationMs });
    }),
  );
}

export async function openSigner(file: string, output: Output): Promise<Signer> {
  const secretKey = await loadSecretKey(file);
  if (secretKey.tooOpen) output.warn(`${file} can be read by others: chmod 600 ${file}`);
  return { secretKey, publicKey: parsePublicKey(formatPublicKey(secretKey)) };
}

/** Reads `zstd`, `zstd:LEVEL`, `xz` or `none`. */
function parseFormat(text: string): NarFormat {
  if (text === 'xz' || text === 'none') return { compression: text };
  const zstd = parseZstd(text);
  if (zstd !== undefined) return zstd;
  throw new InvalidArgumentError(`Allowed are zstd, zstd:1 to zstd:${MAX_ZSTD_LEVEL}, xz and none`);
}

/** Opens the file store. Returns undefined if there is none: a dry run creates nothing. */
async function openIfThere(dir: string): Promise<FileStore | undefined> {
  const isThere = await access(join(dir, 'nix-cache-info')).then(
    () => true,
    () => false,
  );
  return isThere ? FileStore.open(dir, { create: false, storeDir: DEFAULT_STORE_DIR }) : undefined;
}

function tellPlan(output: Output, plan: AdditionPlan, signer: Signer | undefined): void {
  const { closure, missing, held, others } = plan;
  const narBytes = missing.reduce((sum, { narSize }) => sum + narSize, 0);
  const toSign = held.filter((info) => withSignature(info, signer) !== info).length;
  output.result(
    'plan',
    {
      paths: closure.length,
      narBytes,
      missing: missing.map(({ storePath }) => storePath),
      held: held.length,
      toSign,
      otherBuilds: others,
    },
    [
      `${formatCount(closure.length, 'path')} in the closure, ${missing.length} to export (${formatSize(narBytes)} before compression)`,
      ...firstOf(missing.map(({ storePath }) => storePath)),
      ...(toSign === 0 ? [] : [`${formatCount(toSign, 'narinfo')} to sign among those already there`]),
      ...(others.length === 0
        ? []
        : [
            `${formatCount(others.length, 'path')} would stay, since the store has another build of ${others.length === 1 ? 'it' : 'them'}:`,
            ...firstOf(others),
          ]),
    ].join('\n'),
  );
}

/** Limit on paths shown to people. With --json, all are listed. */
const SHOWN_PATHS = 5;

function firstOf(paths: readonly StorePath[]): string[] {
  const more = paths.length - SHOWN_PATHS;
  return [
    ...paths.slice(0, SHOWN_PATHS).map((path) => `  ${path}`),
    ...(more > 0 ? [`  and ${more} more (--json lists all)`] : []),
  ];
}

function tellOthers(output: Output, others: readonly StorePath[], { dir }: FileStore): void {
  const [first] = others;
  if (first === undefined) return;
  const text =
    others.length === 1
      ? `${first} stays as it is: ${dir} has another build of it (remove its narinfo to replace it)`
      : `${others.length} paths stay as they are: ${dir} has other builds of them, such as ${first} (remove their narinfos to replace them)`;
  output.warn(text, { paths: others });
}

function tellUnsigned(output: Output, unsigned: readonly NarInfo[]): void {
  const [first] = unsigned;
  if (first === undefined) return;
  const count = unsigned.length === 1 ? '1 path is' : `${unsigned.length} paths are`;
  output.warn(`${count} not signed by a trusted key and will not be served (${first.storePath}): give --sign-key`);
}

interface Done {
  readonly store: FileStore;
  readonly roots: readonly StorePath[];
  readonly plan: AdditionPlan;
  readonly addition: Addition;
  readonly signer: Signer | undefined;
  readonly unsigned: number;
  readonly durationMs: number;
}

function tellDone(output: Output, { store, roots, plan, addition, signer, unsigned, durationMs }: Done): void {
  const { added, addedBytes, addedNarBytes, hashedBytes, signed } = addition;
  const key = signer === undefined ? undefined : formatPublicKey(signer.publicKey);
  const publishing = (flags: readonly string[]): string =>
    ['narswarm', 'publish', '--store', store.dir, ...flags, ...(key === undefined ? [] : ['--trusted-public-key', key])]
      .map(shellWord)
      .join(' ');
  const next = publishing(roots.flatMap(rootFlags));
  const shortNext =
    roots.length > SHOWN_PATHS ? `${publishing([])}   (all of it, or name roots: --root NAME=STOREPATH)` : next;
  output.result(
    'added',
    {
      store: store.dir,
      roots,
      paths: plan.closure.length,
      added,
      bytes: addedBytes,
      narBytes: addedNarBytes,
      durationMs,
      hashedBytes,
      signed,
      unsigned,
      otherBuilds: plan.others.length,
      publicKey: key ?? null,
      next,
    },
    [
      `added   ${formatCount(added, 'path')}, ${formatSize(addedBytes)}${added === 0 ? '' : ` (${formatSize(addedNarBytes)} before compression) in ${formatDuration(durationMs)}`}`,
      `held    ${formatCount(plan.closure.length - added, 'path')} already${signed === 0 ? '' : `, ${signed} of them signed now`}`,
      ...(key === undefined ? [] : [`key     ${key}   (followers trust it: trusted-public-keys)`]),
      ...(unsigned > 0 ? [] : [`next    ${shortNext}`]),
    ].join('\n'),
  );
}

/** Returns the `--root` flag of `publish` for a path: its name without the hash. */
function rootFlags(path: StorePath): string[] {
  const name = baseNameOf(path)
    .slice(33)
    .replaceAll(/[^A-Za-z0-9._-]/g, '-');
  return ['--root', `${name}=${path}`];
}
