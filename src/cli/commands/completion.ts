import { Argument, Command } from 'commander';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';

/** Generators of the scripts, loaded on demand. */
const GENERATORS = {
  bash: async () => (await import('../shells/bash.ts')).bashCompletion,
  zsh: async () => (await import('../shells/zsh.ts')).zshCompletion,
  fish: async () => (await import('../shells/fish.ts')).fishCompletion,
};
type Shell = keyof typeof GENERATORS;

export function completionCommand(): Command {
  const completion = new Command('completion')
    .summary('print the completion for a shell')
    .description('print a script that completes commands, options and their values in a shell')
    .addArgument(new Argument('<shell>', 'shell to print it for').choices(Object.keys(GENERATORS)));
  addCommon(
    completion,
    [
      'source <(narswarm completion bash)',
      'narswarm completion zsh > ~/.zfunc/_narswarm',
      'narswarm completion fish > ~/.config/fish/completions/narswarm.fish',
    ],
    [],
  );
  return completion.action(
    command<CommonOptions, [Shell]>(async ({ output }, shell) => {
      const { describeCommand } = await import('../shells/model.ts');
      const generate = await GENERATORS[shell]();
      const script = generate(describeCommand(completion.parent ?? completion), 'narswarm');
      output.result('completion', { shell, script }, script.trimEnd());
    }),
  );
}
