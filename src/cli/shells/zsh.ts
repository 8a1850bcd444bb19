import {
  flatten,
  LIST_SUBSCRIPTIONS,
  spellings,
  type ArgumentModel,
  type CommandModel,
  type OptionModel,
  type Values,
} from './model.ts';

/**
 * Makes the completion for zsh: one function per command. Source it, or put it into a folder of fpath as `_<program>`.
 */
export function zshCompletion(model: CommandModel, program: string): string {
  return `#compdef ${program}
# zsh completion of ${program}: source it after compinit, or put it into a folder of fpath as _${program}
${flatten(model)
  .map((command) => commandFunction(command, program))
  .join('\n')}
_${program}_subscription_names() {
  local -a names=(\${\${(f)"$(${program} ${LIST_SUBSCRIPTIONS} 2>/dev/null)"}%% *})
  compadd "$@" -a names
}
if [[ $funcstack[1] == _${program} ]]; then _${program} "$@"; else compdef _${program} ${program}; fi
`;
}

function commandFunction(command: CommandModel, program: string): string {
  const name = functionName(command, program);
  const options = command.options.map((option) => `    ${optionSpec(option, program)}`);
  if (command.commands.length === 0) {
    const specs = [
      ...options,
      ...command.arguments.map((argument, index) => `    ${argumentSpec(argument, index + 1, program)}`),
    ];
    return `${name}() {\n  _arguments -s -S \\\n${specs.join(' \\\n')}\n}`;
  }
  const names = command.commands.map(
    ({ path, summary }) => `    ${word(`${escapeColons(path.at(-1) ?? '')}:${escapeColons(summary)}`)}`,
  );
  const cases = command.commands.map((one) => `    ${word(one.path.at(-1) ?? '')}) ${functionName(one, program)} ;;`);
  return `${name}() {
  local context state state_descr line
  typeset -A opt_args
  local -a commands=(
${names.join('\n')}
  )
  _arguments -C -S \\
${options.map((line) => `${line} \\`).join('\n')}
    '1: :->command' '*:: :->rest'
  case $state in
    command) _describe -t commands command commands ;;
    rest) case $line[1] in
${cases.join('\n')}
    esac ;;
  esac
}`;
}

function functionName({ path }: CommandModel, program: string): string {
  return ['', program, ...path].join('_').replace(/^__/, '_');
}

/**
 * Formats an option: `'(-n --dry-run)'{-n,--dry-run}'[…]'` or `--store='[…]:dir:_files -/'`, after `'*'` if it may
 * repeat.
 */
function optionSpec(option: OptionModel, program: string): string {
  const { value, summary, repeatable } = option;
  const names = spellings(option);
  const spelt = names.map((name) => spell(name, option));
  const given = spelt.length === 1 ? spelt.join('') : `{${spelt.join(',')}}`;
  const before = repeatable ? `'*'` : names.length === 1 ? '' : word(`(${names.join(' ')})`);
  const what = `[${summary.replaceAll(/[\\[\]]/g, String.raw`\$&`)}]`;
  if (value === undefined) return `${before}${given}${word(what)}`;
  const colons = value.required ? ':' : '::';
  return `${before}${given}${word(`${what}${colons}${escapeColons(value.name)}:${action(value.values, program)}`)}`;
}

/** Spells an option so that its value may follow an equals sign or be the next word. */
function spell(name: string, { value }: OptionModel): string {
  return value !== undefined && name.startsWith('--') ? `${name}=` : name;
}

function argumentSpec({ name, values, variadic, required }: ArgumentModel, position: number, program: string): string {
  const place = variadic ? '*' : String(position);
  return word(`${place}:${required ? '' : ':'}${escapeColons(name)}:${action(values, program)}`);
}

function action(values: Values, program: string): string {
  if (values.kind === 'choices') {
    const words = values.choices.map(word).join(' '); // zsh evaluates them
    return `(${words.replaceAll(':', String.raw`\:`)})`;
  }
  if (values.kind === 'subscription') return `_${program}_subscription_names`;
  if (values.kind === 'dir') return '_files -/';
  return values.kind === 'file' ? '_files' : ' ';
}

function escapeColons(text: string): string {
  return text.replaceAll(/[\\:]/g, String.raw`\$&`);
}

/** Quotes a word with single quotes, in which zsh expands nothing. */
function word(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
