import { Command } from 'commander';
import { command, type CommonOptions } from './run-command.ts';
import { addCommon } from './shared-options.ts';
import { formatDuration, formatSize } from './values.ts';

export function demoCommand(): Command {
  const demo = new Command('demo').description(
    'play the whole story on this machine alone, without any network; needs Nix, takes less than a minute',
  );
  addCommon(demo, ['narswarm demo'], ['NIX', 'INTERRUPTED']);
  return demo.action(
    command<CommonOptions, []>(async ({ output, signal }) => {
      const { runDemo } = await import('../demo/demo.ts');
      const result = await runDemo((line) => output.note(line), signal);
      const rows = [...result.from]
        .toSorted((a, b) => b[1] - a[1])
        .map(([name, bytes]) => `     ${name.padEnd(12)} ${formatSize(bytes).padStart(9)}`);
      output.result(
        'done',
        { ...result, from: Object.fromEntries(result.from) },
        [
          `7  ${result.paths} paths, ${formatSize(result.bytes)} in ${formatDuration(result.durationMs)}, verified and imported with nix copy:`,
          ...rows,
          `     ${'cache'.padEnd(12)} ${formatSize(result.upstreamBytesMeanwhile).padStart(9)}   (it was not asked)`,
          `   The real Nix finds ${result.imported} paths in the fresh store.`,
        ].join('\n'),
      );
    }),
  );
}
