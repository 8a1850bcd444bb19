import { flatten, LIST_SUBSCRIPTIONS, spellings, type CommandModel, type Values } from './model.ts';

/**
 * Makes the completion for bash: a function and its registration. Does not need the package bash-completion. Handles
 * the split of `--scope=lan` into three words by bash.
 */
export function bashCompletion(model: CommandModel, program: string): string {
  const commands = flatten(model);
  const walk = commands.slice(1).map(({ path }) => {
    const before = path.slice(0, -1).join(' ');
    return `${word(`${before} ${path.at(-1)}`)}) command=${word(path.join(' '))} ;;`;
  });
  const options = commands.map((command) => {
    return `${word(command.path.join(' '))}) ${offerWords(command.options.flatMap(spellings), program)} ;;`;
  });
  const rest = commands.map((command) => `${word(command.path.join(' '))}) ${offerRest(command, program)} ;;`);
  return `# bash completion of ${program}: source it, or put it where bash-completion looks for it
_${program}() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD-1]} command= i
  COMPREPLY=()
  if [[ $current == = ]]; then current=
  elif [[ $previous == = ]]; then previous=\${COMP_WORDS[COMP_CWORD-2]}; fi
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$command \${COMP_WORDS[i]}" in
      ${walk.join('\n      ')}
    esac
  done
  case "$command $previous" in
    ${valueCases(commands, program).join('\n    ')}
  esac
  if [[ $current == -* ]]; then
    case "$command" in
      ${options.join('\n      ')}
    esac
  else
    case "$command" in
      ${rest.join('\n      ')}
    esac
  fi
}
_${program}_words() {
  local word
  for word; do
    [[ $word == "$current"* ]] && COMPREPLY+=("$word")
  done
}
_${program}_subscriptions() {
  local lines
  mapfile -t lines < <(${program} ${LIST_SUBSCRIPTIONS} 2>/dev/null)
  _${program}_words "\${lines[@]%% *}"
}
_${program}_paths() {
  compopt -o filenames 2>/dev/null
  mapfile -t COMPREPLY < <(compgen "$1" -- "$current")
}
complete -F _${program} ${program}
`;
}

/** Returns a case for each way to complete an option's value, with its options. */
function valueCases(commands: readonly CommandModel[], program: string): string[] {
  const patterns = new Map<string, string[]>();
  for (const { path, options } of commands) {
    for (const option of options) {
      if (option.value === undefined) continue;
      const names = spellings(option).map((name) => word(`${path.join(' ')} ${name}`));
      const offer = offerValues(option.value.values, program);
      patterns.set(offer, [...(patterns.get(offer) ?? []), ...names]);
    }
  }
  return [...patterns].map(([offer, names]) => `${names.join('|')}) ${offer}; return ;;`);
}

/** Completes a word that does not begin an option: the name of a command, or an argument. */
function offerRest({ commands, arguments: operands }: CommandModel, program: string): string {
  if (commands.length > 0)
    return offerWords(
      commands.map(({ path }) => path.at(-1) ?? ''),
      program,
    );
  const [first] = operands;
  return first === undefined ? ':' : offerValues(first.values, program);
}

function offerValues(values: Values, program: string): string {
  if (values.kind === 'choices') return offerWords(values.choices, program);
  if (values.kind === 'subscription') return `_${program}_subscriptions`;
  if (values.kind === 'plain') return ':';
  return `_${program}_paths ${values.kind === 'dir' ? '-d' : '-f'}`;
}

function offerWords(words: readonly string[], program: string): string {
  return [`_${program}_words`, ...words.map(word)].join(' ');
}

/** Quotes a word with single quotes, in which bash expands nothing. */
function word(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
