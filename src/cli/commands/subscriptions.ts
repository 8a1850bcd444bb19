import { Command } from 'commander';
import { formatPublisherAddress, mapFolder } from '../../index/address.ts';
import { shownSource, sourceInWords, type Subscription } from '../../subscription/subscription.ts';
import type { Output } from '../output.ts';
import { namesOf } from '../words/publisher-names.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';

export function subscriptionsCommand(): Command {
  const subscriptions = new Command('subscriptions')
    .summary('list the subscriptions')
    .description('list the subscriptions of the config file');
  addCommon(subscriptions, ['narswarm subscriptions', 'narswarm subscriptions --json'], []);
  return subscriptions.action(
    command<CommonOptions, []>(async ({ output, config }) => {
      const { path, subscriptions: declared } = await config();
      const rows = declared.map((subscription) => [
        subscription.name,
        output.forPeople(sourceInWords(subscription)),
        extrasOf(subscription),
      ]);
      const widths = [0, 1].map((column) => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)));
      for (const [index, subscription] of declared.entries()) {
        const {
          name,
          source,
          file,
          import: imports,
          to,
          profile,
          switchTo,
          sources,
          ready,
          publish,
          where,
        } = subscription;
        const facts = {
          name,
          source: shownSource(source),
          file: file ?? null,
          import: imports,
          to: to ?? null,
          profile: profile ?? null,
          switchTo: switchTo ?? null,
          sources,
          ready,
          publish,
          where,
        };
        const line = rows[index]?.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ');
        const isLast = index === declared.length - 1;
        output.result('subscription', facts, [line?.trimEnd(), ...(isLast ? legend(output) : [])].join('\n'));
      }
      if (declared.length === 0) output.note(`no subscriptions in ${path}: add one with narswarm subscribe`);
    }),
  );
}

/** Returns lines that say which address each short name of a publisher stands for. */
function legend(output: Output): string[] {
  const followed = output.followed();
  const names = namesOf(followed);
  if (names.size === 0) return [];
  const addresses = new Map(followed.map((address) => [mapFolder(address), formatPublisherAddress(address)]));
  const width = Math.max(...Array.from(names.values(), (name) => name.length));
  const lines = Array.from(names, ([map, name]) => `  ${name.padEnd(width)}  ${addresses.get(map) ?? ''}`);
  return ['', 'publishers', ...lines];
}

function extrasOf({ import: imports, to, profile, switchTo, sources, ready, publish }: Subscription): string {
  return [
    ...(imports ? [to === undefined ? 'import' : `import to ${to}`] : []),
    ...(profile === undefined ? [] : [`profile ${profile}`]),
    ...(switchTo === undefined ? [] : [`switch to ${switchTo}`]),
    ...(sources ? ['sources'] : []),
    ...(ready ? ['ready'] : []),
    ...(publish ? ['publish'] : []),
  ].join(', ');
}
