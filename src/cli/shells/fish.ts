import { flatten, LIST_SUBSCRIPTIONS, type CommandModel, type OptionModel, type Values } from './model.ts';

/** Makes the completion for fish: one `complete` for each command, option and argument. */
export function fishCompletion(model: CommandModel, program: string): string {
  const commands = flatten(model);
  const walk = commands
    .filter(({ path }) => path.length > 0)
    .flatMap(({ path }) => [
      `            case ${word(`${path.slice(0, -1).join(' ')} ${path.at(-1)}`)}`,
      `                set command ${word(path.join(' '))}`,
    ]);
  const completions = commands.flatMap((command) => {
    const condition = `-n ${word(`__${program}_in ${word(command.path.join(' '))}`)}`;
    return [
      ...command.commands.map(({ path, summary }) => `-f -a ${word(path.at(-1) ?? '')} -d ${word(summary)}`),
      ...command.options.map((option) => optionFlags(option, program)),
      ...(command.commands.length > 0
        ? []
        : command.arguments.slice(0, 1).map(({ values }) => valueFlags(values, program))),
    ].map((flags) => `complete -c ${program} ${condition} ${flags}`);
  });
  return `# fish completion of ${program}: source it, or put it into a folder of fish_complete_path
function __${program}_in -d 'Whether the words so far are those of this command'
    set -l command ''
    for word in (commandline -opc)[2..-1]
        switch "$command $word"
${walk.join('\n')}
        end
    end
    test "$command" = "$argv"
end
complete -c ${program} -f
${completions.join('\n')}
`;
}

function optionFlags({ short, long, value, summary }: OptionModel, program: string): string {
  const names = [...(short === undefined ? [] : [`-s ${short.slice(1)}`]), `-l ${long.replace(/^--?/, '')}`];
  const follows = value === undefined ? '' : `${value.required ? ' -r' : ''} ${valueFlags(value.values, program)}`;
  return `${names.join(' ')}${follows} -d ${word(summary)}`;
}

/** Returns the flags of `complete` for a value. */
function valueFlags(values: Values, program: string): string {
  if (values.kind === 'choices') return `-f -a ${list(values.choices)}`;
  if (values.kind === 'subscription')
    return `-f -a '(${program} ${LIST_SUBSCRIPTIONS} 2>/dev/null | string replace -r " .*" "")'`;
  if (values.kind === 'dir') return `-f -a '(__fish_complete_directories)'`;
  return values.kind === 'file' ? '-F' : '-f';
}

/** Quotes the list of matches of a `complete`. fish reads it as a command line, so each match is quoted again. */
function list(choices: readonly string[]): string {
  return word(choices.map(word).join(' '));
}

/** Quotes a word with single quotes, in which fish knows two escapes. */
function word(text: string): string {
  return `'${text.replaceAll(/['\\]/g, String.raw`\$&`)}'`;
}
