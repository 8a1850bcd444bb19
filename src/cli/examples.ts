import type { Command } from 'commander';

const examplesOf = new WeakMap<Command, readonly string[]>();

/** Keeps a command's examples where the manual finds them: commander knows them as a text of its help alone. */
export function rememberExamples(command: Command, examples: readonly string[]): void {
  examplesOf.set(command, examples);
}

/** Command lines that show how a command is used; none where nobody gave any. */
export function recallExamples(command: Command): readonly string[] {
  return examplesOf.get(command) ?? [];
}
