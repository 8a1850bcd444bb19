/** What completions and manual are made from: the definitions of the commands, without commander. */
import type { Argument, Command, Option } from 'commander';
import { homeFolder } from '../../config/home.ts';
import { recallExamples } from '../examples.ts';

/**
 * What a shell may offer for a value; `plain`: nothing, since any text may follow; `subscription`: what the config file
 * names, for which {@link LIST_SUBSCRIPTIONS} is run.
 */
export type Values =
  | { readonly kind: 'choices'; readonly choices: readonly string[] }
  | { readonly kind: 'file' | 'dir' | 'subscription' | 'plain' };

export interface ArgumentModel {
  /** As in the help, without brackets: `path`. */
  readonly name: string;
  readonly description: string;
  readonly required: boolean;
  /** May be given several times: the last one. */
  readonly variadic: boolean;
  readonly values: Values;
}

export interface OptionModel {
  /** `-n`, where there is one. */
  readonly short: string | undefined;
  /** `--dry-run`. */
  readonly long: string;
  /** What follows it; undefined for a switch. */
  readonly value: { readonly name: string; readonly required: boolean; readonly values: Values } | undefined;
  readonly repeatable: boolean;
  /** One clause, for shells. */
  readonly summary: string;
  /** All of it, with choices and default, as in the help. The folders of whoever runs this are `~`. */
  readonly description: string;
}

export interface CommandModel {
  /** Words after the program's name: empty for the program itself. */
  readonly path: readonly string[];
  readonly summary: string;
  readonly description: string;
  readonly arguments: readonly ArgumentModel[];
  readonly options: readonly OptionModel[];
  readonly commands: readonly CommandModel[];
  readonly examples: readonly string[];
}

/** Arguments of the program that prints a subscription a line, its name first, which has no spaces. */
export const LIST_SUBSCRIPTIONS = 'subscriptions --quiet';
const TAKES_SUBSCRIPTIONS: ReadonlySet<string> = new Set(['update', 'status', 'unsubscribe']);

const DIR_NAME = /(^|-)(dir|folder)$/;
const FILE_NAME = /^(path|source|root|installable)(-|$)|(^|-)file$/;

/** Describes a command and those below it; what is hidden from help is left out. */
export function describeCommand(command: Command, path: readonly string[] = []): CommandModel {
  const help = command.createHelp();
  const visible = new Set(help.visibleCommands(command));
  const below = command.commands.filter((one) => visible.has(one));
  return {
    path,
    summary: clause(command.description()),
    description: command.description(),
    arguments: command.registeredArguments.map((argument) => describeArgument(argument, command.name())),
    // those of the program itself may follow a command, too
    options: [...help.visibleOptions(command), ...help.visibleGlobalOptions(command)].map((option) =>
      describeOption(option, help.optionDescription(option)),
    ),
    commands: below.map((one) => describeCommand(one, [...path, one.name()])),
    examples: recallExamples(command),
  };
}

/** The command and all below it, in order. */
export function flatten(model: CommandModel): CommandModel[] {
  return [model, ...model.commands.flatMap(flatten)];
}

/** Every spelling of an option: `-n`, `--dry-run`. */
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

/** By what a value is called in the help. */
function valuesOf(name: string, choices: readonly string[] | undefined): Values {
  if (choices !== undefined) return { kind: 'choices', choices };
  if (DIR_NAME.test(name)) return { kind: 'dir' };
  return { kind: FILE_NAME.test(name) ? 'file' : 'plain' };
}

/** What comes before a semicolon, brackets as a whole: a list of matches has one line for each. */
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

/** A manual is made on one machine and read on others. */
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
