import { Argument, Command, Option } from 'commander';
import { describeCommand, type CommandModel } from '../../../src/cli/shells/model.ts';

/** Text with everything that the shells and roff treat in a special way. */
export const ODD = `it's "odd" [x] (y) \\ $HOME \`id\` a*b .d -e ü%`;
/** Values that a shell would expand, split or run if they were not quoted. */
export const ODD_CHOICES = [`it's`, '$HOME', '`id`', 'par(en)s', 'co:lon', 'back\\slash', 'st*r'] as const;

/** A program with definitions as awkward as possible, and commands below commands. */
export function oddProgram(): CommandModel {
  const set = new Command('set')
    .description(ODD)
    .addArgument(new Argument('<key>', ODD).choices(ODD_CHOICES))
    .argument('[file...]', ODD);
  const show = new Command('show').option('-o, --odd <dir>', ODD).addOption(new Option('--sec <x>').hideHelp());
  const config = new Command('config').description(ODD).addCommand(set).addCommand(show);
  const run = new Command('run')
    .argument('<source>', 'where from')
    .addOption(new Option('-m, --mode <mode>', ODD).choices(ODD_CHOICES).default(ODD_CHOICES[1]))
    .option('--many <a:b>', `${ODD}; may be repeated`)
    .option('--maybe [file]', ODD)
    .option('--no-thing', ODD);
  const secret = new Command('secret');
  const program = new Command('odd').description(ODD).version('1').addCommand(config).addCommand(run);
  return describeCommand(program.addCommand(secret, { hidden: true }));
}
