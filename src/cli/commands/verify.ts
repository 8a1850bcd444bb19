import { Command } from 'commander';
import { hashOfNamed, readNamedPath } from '../../nix/named-path.ts';
import { NarswarmError } from '../../errors.ts';
import type { RepairRound } from '../../fetch/repair.ts';
import type { Damage } from '../../store/damage/damage.ts';
import { faultInWords } from '../words/damage.ts';
import type { Output } from '../output.ts';
import { WorkProgress } from '../live/work-progress.ts';
import { progressDisplay } from '../live/progress-display.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { defaultStoreDir } from '../../config/locations.ts';
import { addCommon, addNetwork } from '../options/shared-options.ts';
import { addSources, readSources, type SourceFlags } from '../options/source-options.ts';
import { formatCount, formatSize } from '../words/values.ts';

interface VerifyFlags extends CommonOptions, SourceFlags {
  readonly store: string;
  readonly deep?: boolean;
  readonly repair?: boolean;
}

export function verifyCommand(): Command {
  const verify = new Command('verify')
    .summary('read NARs again, and find damaged ones')
    .description('read the NARs of the file store again, and quarantine damaged files')
    .argument('[path...]', 'store path, a link to one such as ./result, or its hash part (default: the whole store)')
    .option('--store <dir>', 'file store to verify', defaultStoreDir())
    .option('--deep', 'also decompress the NARs, and check NarHash, NarSize and the signatures')
    .option('--repair', 'fetch damaged files again');
  addSources(verify);
  addNetwork(verify, { scope: 'lan' });
  addCommon(
    verify,
    [
      'narswarm verify',
      'narswarm verify --deep --repair --from https://cache.nixos.org',
      'narswarm verify /nix/store/…-firefox-140 --store /srv/narswarm --json',
    ],
    ['NOT_FOUND', 'STORE', 'NIX', 'INTERRUPTED'],
  );
  return verify.action(
    command<VerifyFlags, [readonly string[]]>(async ({ output, signal, options, originOf, config }, paths) => {
      const { FileStore } = await import('../../store/file-store.ts');
      const { verifyStore } = await import('../../store/verify.ts');
      const store = await FileStore.open(options.store, { create: false });
      const hashes = (await Promise.all(paths.map(readNamedPath))).map(hashOfNamed);
      const deep = options.deep === true;
      const needsTrust = deep || options.repair === true;
      const { subscriptions } = await config();
      const { publishersOf } = await import('../../subscription/source/source.ts');
      // Lost paths of a subscription may come back from its own source: its publisher's hash map and peers.
      const publisher = publishersOf(options.publisher ?? [], subscriptions);
      const sources = needsTrust
        ? await readSources({ ...options, publisher }, { output, signal, originOf })
        : undefined;
      const damages: Damage[] = [];
      using work = new WorkProgress(output);
      const result = await verifyStore({
        store,
        hashes: hashes.length === 0 ? undefined : hashes,
        deep,
        keys: sources?.keys ?? [],
        signal,
        onDamage: (damage) => {
          damages.push(damage);
          tellDamage(output, damage);
        },
        tellHashing: work.tellHashing,
      });
      work.stop();
      const { narInfos, nars, bytes, absent, untrusted } = result;
      const { lostOfAll } = await import('../../subscription/state/lost.ts');
      if (hashes.length === 0)
        for await (const damage of lostOfAll(store, subscriptions, signal)) {
          if (damages.some(({ storeHash }) => storeHash === damage.storeHash)) continue;
          damages.push(damage);
          tellDamage(output, damage);
        }
      let repaired = 0;
      if (options.repair === true && sources !== undefined) {
        const { repairAll } = await import('../../fetch/repair.ts');
        using display = progressDisplay(output);
        const means = { ...sources, storeDir: options.store, seedForMs: 0, signal, deep, ...display.handlers };
        for await (const round of repairAll(damages, means)) {
          display.stop();
          tellRepaired(output, round);
          for (const damage of round.found) tellDamage(output, damage);
          repaired += round.repaired.length;
          damages.push(...round.found);
        }
      }
      const damaged = damages.length;
      const head = `${formatCount(nars, 'NAR')} (${formatSize(bytes)}) of ${formatCount(narInfos, 'path')} read, ${formatCount(damaged, 'file')} damaged`;
      const left = damages.filter(isNeeded).length - repaired + damages.filter(isUnreadable).length;
      output.result('done', { narInfos, nars, bytes, absent, untrusted, damaged, repaired, deep }, head);
      if (absent > 0)
        output.note(
          `${formatCount(absent, 'path')} without a NAR: the target had them when they were fetched, or gc has let go of them`,
        );
      if (untrusted > 0) output.note(`${formatCount(untrusted, 'path')} not signed by a trusted key`);
      if (left > 0) throw notRepaired(damages, options);
    }),
  );
}

/** Reports the repaired files, and their senders. */
function tellRepaired(output: Output, { repaired, sources }: RepairRound): void {
  const from = [...sources.keys()];
  for (const { file, storePath, storeHash } of repaired) {
    const name = storePath ?? storeHash ?? file;
    output.result('repaired', { file, path: storePath ?? null, from }, `repaired: ${name} (${file})`);
  }
  for (const [source, { bytes }] of sources) output.note(`  ${source}  ${formatSize(bytes)}`);
}

function tellDamage(output: Output, { file, storePath, fault, quarantined }: Damage): void {
  const reason = faultInWords(fault);
  const of = storePath === undefined ? '' : ` of ${storePath}`;
  output.result(
    'damaged',
    { file, path: storePath ?? null, fault, reason, quarantined: quarantined ?? null },
    `damaged: ${file}${of}: ${reason}`,
  );
}

/** Returns false for a NAR that no narinfo names: nothing is lost with it. */
function isNeeded({ storeHash }: Damage): boolean {
  return storeHash !== undefined;
}

function isUnreadable({ quarantined, isGone }: Damage): boolean {
  return quarantined === undefined && !isGone;
}

function notRepaired(damages: readonly Damage[], { store, repair: hasTried = false }: VerifyFlags): NarswarmError {
  const [first] = damages;
  const unreadable = damages.filter(isUnreadable).length;
  const wayOut = hasTried
    ? 'name a cache or a publisher that has them, with --from or --publisher'
    : 'run narswarm verify --repair';
  return new NarswarmError(
    'STORE_CORRUPT',
    unreadable > 0
      ? `${formatCount(unreadable, 'file')} of ${store} cannot be read${first === undefined ? '' : ` (${faultInWords(first.fault)})`}: check their permissions`
      : `${store} has damaged files that are not repaired, such as ${first?.file}: ${wayOut}`,
    { facts: { damaged: damages.length, path: store } },
  );
}
