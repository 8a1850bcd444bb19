import type { LiveLines } from '../../src/cli/live/live-lines.ts';
import type { Output } from '../../src/cli/output.ts';

/** Makes an output that keeps notes and warnings, and prints nothing. @param live the lines of its terminal, if it has one */
export function notedOutput(live?: LiveLines): Output & { readonly notes: string[] } {
  const notes: string[] = [];
  const note = (text: string): void => void notes.push(text);
  return {
    json: false,
    isLog: false,
    columns: undefined,
    followed: () => [],
    forPeople: (text: string) => text,
    debug: () => undefined,
    live,
    notes,
    result: () => undefined,
    note,
    warn: note,
  };
}
