/** The command definitions without commander, as the source of completions and the manual. */
import type { Argument, Command, Option } from 'commander';
import { homeFolder } from '../../config/home.ts';
import { recallExamples } from '../options/examples.ts';

/**
 * The values that a shell may offer. `plain`: none, since any text is valid. `subscription`: the subscriptions of the
 * config file, listed by {@link LIST_SUBSCRIPTIONS}.
 */
export type Values =
  | { readonly kind: 'choices'; readonly choices: readonly string[] }
  | { readonly kind: 'file' | 'dir' | 'subscription' | 'plain' };

export interface ArgumentModel {
  /** Its name in help, without brackets: `path`. */
  readonly name: string;
  readonly description: string;
  readonly required: boolean;
  /** True if it may repeat. Only the last argument may. */
  readonly variadic: boolean;
  readonly values: Values;
}

export interface OptionModel {
  /** The short form, such as `-n`. Undefined if it has none. */
  readonly short: string | undefined;
  /** The long form, such as `--dry-run`. */
  readonly long: string;
  /** The value of the option. Undefined for a switch. */
  readonly value: { readonly name: string; readonly required: boolean; readonly values: Values } | undefined;
  readonly repeatable: boolean;
  /** One clause, for shells. */
  readonly summary: string;
  /** The whole help text, with choices and default. The user's folders appear as `~`. */
  readonly description: string;
}

export interface CommandModel {
  /** Words after the program's name. Empty for the program itself. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly description: string;
  readonly arguments: readonly ArgumentModel[];
  readonly options: readonly OptionModel[];
  readonly commands: readonly CommandModel[];
  readonly examples: readonly string[];
}

/** Arguments that make the program print one subscription per line. The name comes first and has no spaces. */
export const LIST_SUBSCRIPTIONS = 'subscriptions --quiet';
const TAKES_SUBSCRIPTIONS: ReadonlySet<string> = new Set(['update', 'status', 'unsubscribe']);

const DIR_NAME = /(^|-)(dir|folder)$/;
const FILE_NAME = /^(path|source|root|installable)(-|$)|(^|-)file$/;

/** Describes a command and its subcommands, without those hidden from help. */
export function describeCommand(command: Command, path: readonly string[] = []): CommandModel {
  const help = command.createHelp();
  const visible = new Set(help.visibleCommands(command));
  const below = command.commands.filter((one) => visible.has(one));
  return {
    path,
    summary: clause(command.description()),
    description: command.description(),
    arguments: command.registeredArguments.map((argument) => describeArgument(argument, command.name())),
    // options of the program may follow a command, too
    options: [...help.visibleOptions(command), ...help.visibleGlobalOptions(command)].map((option) =>
      describeOption(option, help.optionDescription(option)),
    ),
    commands: below.map((one) => describeCommand(one, [...path, one.name()])),
    examples: recallExamples(command),
  };
}

/** Returns the command and all its subcommands, in order. */
export function flatten(model: CommandModel): CommandModel[] {
  return [model, ...model.commands.flatMap(flatten)];
}

/** Returns every spelling of an option: `-n`, `--dry-run`. */
export function spellings({ short, long }: OptionModel): string[] {
  return short === undefined ? [long] : [short, long];
}

function describeArgument(argument: Argument, command: string): ArgumentModel {
  const isSubscription = argument.name() === 'name' && TAKES_SUBSCRIPTIONS.has(command);
  return {
    name: argument.name(),
    description: argument.description,
    required: argument.required,
    variadic: argument.variadic,
    values: isSubscription ? { kind: 'subscription' } : valuesOf(argument.name(), argument.argChoices),
  };
}

function describeOption(option: Option, description: string): OptionModel {
  const { short, long = short ?? '', flags, required, optional, argChoices } = option;
  const name = /[<[]([^\]>]+?)(?:\.\.\.)?[\]>]/.exec(flags)?.[1] ?? 'value';
  const takesValue = required || optional;
  return {
    short: short === long ? undefined : short,
    long,
    value: takesValue ? { name, required, values: valuesOf(name, argChoices) } : undefined,
    repeatable: option.variadic || /may be repeated/.test(option.description),
    summary: clause(option.description),
    description: withoutHome(description),
  };
}

/** Returns the completions for a value. Its name in help decides. */
function valuesOf(name: string, choices: readonly string[] | undefined): Values {
  if (choices !== undefined) return { kind: 'choices', choices };
  if (DIR_NAME.test(name)) return { kind: 'dir' };
  return { kind: FILE_NAME.test(name) ? 'file' : 'plain' };
}

/** Returns the text before the first semicolon outside brackets: shells show one line per option. */
function clause(text: string): string {
  let depth = 0;
  for (let index = 0; index < text.length; index++) {
    const character = text[index];
    if (character === '(') depth++;
    if (character === ')') depth--;
    if (character === ';' && depth === 0) return text.slice(0, index);
  }
  return text;
}

/** Replaces the user's folders by `~`: a manual is made on one machine and read on others. */
function withoutHome(text: string): string {
  const folders = [
    [process.env['XDG_CACHE_HOME'], '~/.cache'],
    [process.env['XDG_CONFIG_HOME'], '~/.config'],
    [process.env['XDG_STATE_HOME'], '~/.local/state'],
    [homeFolder().dir, '~'],
  ] as const;
  return folders.reduce(
    (rest, [dir, name]) =>
      dir === undefined || dir === '' || dir === '/' ? rest : rest.replaceAll(`${dir}/`, `${name}/`),
    text,
  );
}
