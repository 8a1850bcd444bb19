import { resolve } from 'node:path';
import { Command } from 'commander';
import { NarswarmError } from '../../errors.ts';
import type { FetchEvent } from '../../fetch/events.ts';
import { formatPublisherAddress, type PublisherAddress } from '../../index/address.ts';
import type { ImportWay } from '../../nix/programs/import-way.ts';
import { isTrusted } from '../../nix/signature.ts';
import { publishersOf } from '../../subscription/source/source.ts';
import type { Unpacked } from '../../suitcase/unpack.ts';
import { errorSentence } from '../words/error-sentences.ts';
import { pathsToFetch } from '../words/fetch-report.ts';
import { failureSentence, missingFacts } from '../words/missing-paths.ts';
import type { Output } from '../output.ts';
import { progressDisplay } from '../live/progress-display.ts';
import { command, type CommonOptions } from '../run-command.ts';
import {
  addCommon,
  addKeys,
  addPublishers,
  addShareKeys,
  defaultStoreDir,
  sharedKeys,
} from '../options/shared-options.ts';
import { addImport, addRequire } from '../options/source-options.ts';
import { readTrust } from '../options/trust.ts';
import { alreadyHere, formatCount, formatDuration, formatSize } from '../words/values.ts';

interface UnpackFlags extends CommonOptions {
  readonly store: string;
  readonly import?: boolean;
  readonly importWith?: ImportWay;
  readonly to?: string;
  readonly pin: boolean;
  readonly publisher?: readonly PublisherAddress[];
  readonly trustedPublicKey?: readonly string[];
  readonly shareKeys?: readonly string[];
  readonly require?: number;
  readonly dryRun?: boolean;
}

export function unpackCommand(): Command {
  const unpack = new Command('unpack')
    .summary('take closures from a disk')
    .description(
      'take what narswarm pack has written onto a disk into the file store, verified; a daemon here gives it to the network',
    )
    .argument('<dir>', 'folder on the disk')
    .option('--store <dir>', 'file store to unpack into', defaultStoreDir())
    .option('--import', 'also import it into the Nix store')
    .option('--to <store-uri>', 'Nix store to import into (default: the local one)')
    .option('--no-pin', 'do not pin the roots: gc may remove them');
  addImport(unpack);
  addPublishers(
    unpack,
    'publisher whose hash map on the disk is taken, besides those that are followed here; may be repeated',
  );
  addKeys(unpack);
  addShareKeys(unpack);
  addRequire(unpack);
  unpack.option('-n, --dry-run', 'list the paths that would be unpacked, and their size');
  addCommon(
    unpack,
    [
      'narswarm unpack /media/usb/nix',
      'narswarm unpack /media/usb/nix --import',
      'narswarm unpack /media/usb/nix --trusted-public-key "$(cat lab.public)" --dry-run',
    ],
    ['NOT_FOUND', 'UNTRUSTED', 'SOURCES_FAILED', 'INDEX', 'STORE', 'NIX', 'INTERRUPTED'],
  );
  return unpack.action(
    command<UnpackFlags, [string]>(async ({ output, signal, options, config: load }, dir) => {
      const { trustedPublicKey } = options;
      const folder = resolve(dir);
      const trust = await readTrust({ trustedPublicKey, from: [folder] }, signal, (text) => output.warn(text));
      const [upstream] = trust.upstreams;
      if (upstream === undefined) throw new TypeError('a folder is a cache');
      const { subscriptions } = await load();
      const { unpack: unpackFrom } = await import('../../suitcase/unpack.ts');
      const dryRun = options.dryRun === true;
      const startedAtMs = performance.now();
      using display = progressDisplay(output);
      display.handlers.tell({ type: 'begun' });
      const unpacked = await unpackFrom({
        ...display.handlers,
        dir: folder,
        upstream,
        keys: trust.keys,
        trustedPublicKeys: trustedPublicKey ?? [],
        require: options.require,
        followed: publishersOf(options.publisher ?? [], subscriptions),
        imports: options.import === true,
        importWith: options.importWith,
        to: options.to,
        pins: options.pin,
        storeDir: options.store,
        dryRun,
        now: new Date(),
        signal,
        tell: (event) => {
          display.handlers.tell(event);
          if (event.type === 'planned') tellPlan(output, event, dryRun);
        },
      });
      display.stop();
      const shareKeys = sharedKeys(trust.keys, options, (text) => output.warn(text));
      const private_ = [...unpacked.closure.values()].filter((info) => !isTrusted(info, shareKeys));
      if (!dryRun) {
        tellMaps(output, unpacked);
        tellUnpacked(output, unpacked, { dir, private: private_.length, durationMs: performance.now() - startedAtMs });
      }
      throwIncomplete(unpacked);
    }),
  );
}

function tellMaps(output: Output, { maps }: Unpacked): void {
  for (const address of maps.unfollowed)
    output.note(
      `the hash map ${formatPublisherAddress(address)} is on the disk, and is not followed here: to check its NARs piece by piece, subscribe to it, then run the same command again`,
    );
  for (const failure of maps.failures) output.warn(errorSentence(failure));
}

function tellUnpacked(
  output: Output,
  unpacked: Unpacked,
  { dir, private: unshared, durationMs }: { dir: string; private: number; durationMs: number },
): void {
  const { contents, closure, plans, roots, pinned, imported, maps, missing } = unpacked;
  const failed = new Set<string>(missing.map(({ path }) => path));
  const jobs = plans.flatMap((plan) => plan.jobs).filter((job) => !job.storePaths.every((path) => failed.has(path)));
  const bytes = jobs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  const facts = {
    dir,
    at: contents.at,
    what: contents.what,
    roots,
    paths: closure.size,
    nars: jobs.length,
    bytes,
    held: plans.reduce((sum, { inStore }) => sum + inStore.length, 0),
    pinned,
    imported,
    maps: maps.taken.length,
    unshared,
    missing: missing.map(missingFacts),
    durationMs: Math.round(durationMs),
  };
  if (closure.size > 0 && unshared > 0 && maps.taken.length === 0)
    output.note(
      `${formatCount(unshared, 'path')} signed by no key of share-keys: neighbours do not get ${unshared === 1 ? 'it' : 'them'}, unless a hash map that is followed here lists ${unshared === 1 ? 'it' : 'them'}`,
    );
  output.result(
    'unpacked',
    facts,
    [
      ...roots,
      `unpacked  ${formatCount(closure.size, 'path')}; ${formatCount(jobs.length, 'NAR')} from the disk, ${formatSize(bytes)} in ${formatDuration(durationMs)}${imported ? ', imported' : ''}`,
      ...(pinned.length === 0 ? [] : [`pinned    ${formatCount(pinned.length, 'root')}   (until narswarm unpin PATH)`]),
    ].join('\n'),
  );
}

/** Says before the first byte how much is to be unpacked. A dry run lists it. */
function tellPlan(
  output: Output,
  { plan, closure, partialBytes }: Extract<FetchEvent, { type: 'planned' }>,
  dryRun: boolean,
): void {
  const { jobs, unsized, jobBytes: bytes } = plan;
  const nars = jobs.length + unsized.length;
  const paths = [...jobs.flatMap(({ storePaths }) => storePaths), ...unsized.map(({ storePath }) => storePath)];
  const [inStore, valid] = [plan.inStore.length, plan.valid.length];
  const text = `${formatCount(closure.size, 'path')}: ${formatCount(nars, 'NAR')} to unpack (${formatSize(bytes)}${alreadyHere(partialBytes)}), ${inStore} in the file store${valid === 0 ? '' : `, ${valid} left out that the Nix store has`}`;
  const facts = { paths: closure.size, nars, bytes, partialBytes, inStore, valid };
  if (dryRun) output.result('plan', { ...facts, toUnpack: paths }, [text, ...pathsToFetch(plan)].join('\n'));
  else if (output.json) output.result('plan', facts);
  else output.note(text);
}

/** @throws the failure, if a part of the suitcase is missing. The rest is unpacked */
function throwIncomplete({ error, lack, contents, closure }: Unpacked): void {
  if (error === undefined) return;
  const isLeftOut = contents.since !== undefined && lack !== undefined;
  const wayOut = isLeftOut
    ? ` (without ${contents.since ?? ''}, for which it was packed; pack it again without --since)`
    : '';
  const rest =
    closure.size === 0
      ? ''
      : error.code === 'NIX_FAILED'
        ? '; what was unpacked is in the file store'
        : '; the others are unpacked';
  throw new NarswarmError(error.code, `${failureSentence(error, lack)}${wayOut}${rest}`, {
    cause: error,
    facts: error.facts,
  });
}
