import { EXIT_STATUSES } from '../../errors.ts';
import { flatten, spellings, type ArgumentModel, type CommandModel, type OptionModel } from '../shells/model.ts';
import { ENVIRONMENT, FILES, SEE_ALSO, SIGNALS } from './background.ts';
import { bold, entry, italic, prose, section, subsection, verbatim } from './roff.ts';

/**
 * Makes the manual page of the program, in the macros of man(7). It has no date, so that the same definitions make the
 * same page.
 */
export function manualPage(model: CommandModel, program: string, version: string): string {
  const [, ...commands] = flatten(model);
  const common = optionsOfAll(commands.filter(({ commands: below }) => below.length === 0));
  const lines = [
    `.TH "${program.toUpperCase()}" 1 "" "${program} ${version}" "User Commands"`,
    '.nr HY 0', // searching does not find a hyphenated word
    '.ad l',
    section('NAME'),
    prose(`${program} - ${lowerFirst(model.summary.split(': ')[0] ?? '')}`),
    section('SYNOPSIS'),
    `${bold(program)} ${italic('command')} [${italic('option')} ...] [${italic('argument')} ...]`,
    section('DESCRIPTION'),
    prose(model.description),
    section('OPTIONS'),
    ...[...common.values(), ...model.options.filter(({ long }) => !common.has(long))].flatMap(optionEntry),
    section('COMMANDS'),
    ...commands.flatMap((command) => commandPart(command, common, program)),
    section('EXIT STATUS'),
    ...Object.values(EXIT_STATUSES).flatMap(([status, meaning]) => entry(bold(String(status)), meaning)),
    section('SIGNALS'),
    ...SIGNALS.flatMap(([names, meaning]) => entry(names.map(bold).join(', '), meaning)),
    section('ENVIRONMENT'),
    ...ENVIRONMENT.flatMap(([names, meaning]) => entry(names.map(bold).join(', '), meaning)),
    section('FILES'),
    ...FILES.flatMap(([name, meaning]) => entry(italic(name), meaning)),
    section('SEE ALSO'),
    SEE_ALSO.map(([page, part]) => `${bold(page)}(${part})`).join(',\n'),
  ];
  return `${lines.join('\n')}\n`;
}

/** Returns the options that every command has. They are described once. */
function optionsOfAll(commands: readonly CommandModel[]): ReadonlyMap<string, OptionModel> {
  const has = ({ options }: CommandModel, { long, description }: OptionModel): boolean =>
    options.some((other) => other.long === long && other.description === description);
  const [first, ...others] = commands;
  const shared = (first?.options ?? []).filter((option) => others.every((command) => has(command, option)));
  return new Map(shared.map((option) => [option.long, option]));
}

function commandPart(command: CommandModel, common: ReadonlyMap<string, OptionModel>, program: string): string[] {
  const { path, description, arguments: operands, options, commands, examples } = command;
  const synopsis = [bold([program, ...path].join(' ')), `[${italic('option')} ...]`, ...operands.map(operand)];
  if (commands.length > 0) synopsis.push(`[${italic('command')} ...]`);
  return [
    subsection(path.join(' ')),
    synopsis.join(' '),
    '.PP',
    prose(`${upperFirst(description)}.`),
    ...operands
      .filter(({ description: text }) => text !== '')
      .flatMap((one) => entry(italic(one.name), one.description)),
    ...options.filter(({ long }) => !common.has(long)).flatMap(optionEntry),
    ...(examples.length === 0 ? [] : verbatim(examples)),
  ];
}

function operand({ name, required, variadic }: ArgumentModel): string {
  const text = `${italic(name)}${variadic ? ' ...' : ''}`;
  return required ? text : `[${text}]`;
}

function optionEntry(option: OptionModel): string[] {
  const { value, description } = option;
  const follows = value === undefined ? '' : value.required ? ` ${italic(value.name)}` : ` [${italic(value.name)}]`;
  return entry(`${spellings(option).map(bold).join(', ')}${follows}`, description);
}

function upperFirst(text: string): string {
  return `${text.slice(0, 1).toUpperCase()}${text.slice(1)}`;
}

function lowerFirst(text: string): string {
  return `${text.slice(0, 1).toLowerCase()}${text.slice(1)}`;
}
