import type { Command } from 'commander';
import { fitted, fittedCommand } from '../words/fitting.ts';

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

/** Columns before a command line: an indentation, and the prompt. */
const PROMPT = '  $ ';

/**
 * Returns command lines for a help. Those that are too long go on with a backslash, and have their comment above them: all can
 * be pasted.
 *
 * @param columns width of the terminal
 */
export function fittedExamples(examples: readonly string[], columns: number): string {
  return examples.flatMap((example) => exampleLines(example, columns)).join('\n');
}

function exampleLines(example: string, columns: number): string[] {
  if (PROMPT.length + example.length <= columns) return [`${PROMPT}${example}`];
  const [, line = example, comment] = /^(.*?) {2,}# (.*)$/.exec(example) ?? [];
  const above = comment === undefined ? [] : fitted(comment, columns - 4, () => 0).split('\n');
  const below = fittedCommand(`${PROMPT}${line}`, columns, PROMPT.length + 2);
  return [...above.map((text) => `  # ${text}`), below];
}
