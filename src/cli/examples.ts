import type { Command } from 'commander';

// commander's commands have no place for them. An entry is written once and ends with its command.
const examplesOf = new WeakMap<Command, readonly string[]>();

/** Keeps a command's examples for the manual: commander has them only as a text of the help. */
export function rememberExamples(command: Command, examples: readonly string[]): void {
  examplesOf.set(command, examples);
}

/** Returns the example command lines of a command. Empty if it has none. */
export function recallExamples(command: Command): readonly string[] {
  return examplesOf.get(command) ?? [];
}
