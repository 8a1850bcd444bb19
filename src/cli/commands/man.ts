import { Command } from 'commander';
import { VERSION } from '../../version.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';

export function manCommand(): Command {
  const man = new Command('man')
    .summary('print the manual page')
    .description('print the manual page, narswarm(1), as man and mandoc read it');
  addCommon(man, ['narswarm man | man -l -', 'narswarm man > ~/.local/share/man/man1/narswarm.1'], []);
  return man.action(
    command<CommonOptions, []>(async ({ output }) => {
      const { describeCommand } = await import('../shells/model.ts');
      const { manualPage } = await import('../manual/page.ts');
      const page = manualPage(describeCommand(man.parent ?? man), 'narswarm', VERSION);
      output.result('man', { page }, page.trimEnd());
    }),
  );
}
