import { Command } from 'commander';
import { fitted } from '../words/fitting.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';
import type { DemoStep } from '../../demo/demo.ts';
import { formatPublisherAddress } from '../../index/address.ts';
import { formatDuration, formatSize } from '../words/values.ts';
import { warningSentence } from '../words/warnings.ts';

export function demoCommand(): Command {
  const demo = new Command('demo')
    .summary('play the whole story on this machine')
    .description(
      'play the whole story on this machine alone, without any network; needs Nix, takes less than a minute',
    );
  addCommon(demo, ['narswarm demo'], ['NIX', 'INTERRUPTED']);
  return demo.action(
    command<CommonOptions, []>(async ({ output, signal }) => {
      const { runDemo } = await import('../../demo/demo.ts');
      const result = await runDemo((step) => output.note(fitted(stepInWords(step), output.columns, () => 3)), signal);
      const rows = [...result.from]
        .toSorted((a, b) => b[1] - a[1])
        .map(([name, bytes]) => `     ${name.padEnd(12)} ${formatSize(bytes).padStart(9)}`);
      output.result(
        'done',
        { ...result, from: Object.fromEntries(result.from) },
        [
          fitted(
            `7  ${result.paths} paths, ${formatSize(result.bytes)} in ${formatDuration(result.durationMs)}, verified and imported with nix copy:`,
            output.columns,
            () => 3,
          ),
          ...rows,
          `     ${'cache'.padEnd(12)} ${formatSize(result.upstreamBytesMeanwhile).padStart(9)}   (it was not asked)`,
          `   The real Nix finds ${result.imported} paths in the fresh store.`,
        ].join('\n'),
      );
    }),
  );
}

function stepInWords(step: DemoStep): string {
  switch (step.kind) {
    case 'building':
      return '1  building a closure with the real Nix';
    case 'compressing':
      return '   signing it, and compressing its NARs with xz';
    case 'serving':
      return `2  serving it as a binary cache at ${step.url}`;
    case 'joined-dht':
      return `3  a private DHT of ${step.nodes} nodes is up`;
    case 'published':
      return `4  a publisher signed a hash map of ${step.records} NARs and announced it in the DHT:\n     ${formatPublisherAddress(step.address)}`;
    case 'seeding': {
      const how = step.from === 'cache' ? 'filled from the cache alone' : 'filled from the swarm';
      return `5  ${step.name} is up, ${how}, and announces itself in the publisher’s cohort`;
    }
    case 'awaiting-announces':
      return '   waiting until the DHT knows all three of them';
    case 'fetching':
      return '6  a new machine fetches the root “demo” without a cache, only with the publisher’s address';
    default:
      return `  (${warningSentence(step.warning)})`;
  }
}
