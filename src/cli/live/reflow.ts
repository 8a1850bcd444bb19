/** Terminals made of xterm.js, as they name themselves. */
const OF_XTERM_JS: ReadonlySet<string> = new Set(['vscode', 'Hyper', 'Tabby']);

/**
 * Returns by how many rows a terminal has moved the cursor below its line when it got narrower. 0 for almost all: they
 * leave it where it was, or never wrap lines again. xterm.js counts rows that it inserts below the cursor, too
 * (src/common/buffer/Buffer.ts, `_reflowSmaller`): it expects the cursor at the end. It does not wrap the line in which
 * it finds the cursor meanwhile.
 *
 * @param lengths characters of the lines from the cursor on
 * @param columns of the terminal, before and now
 */
export function rowsBelowCursor(
  lengths: readonly number[],
  columns: { readonly from: number; readonly to: number },
  { TERM_PROGRAM = '', TMUX, STY }: NodeJS.ProcessEnv,
): number {
  const isInside = TMUX !== undefined || STY !== undefined; // tmux or screen, which draw the lines
  if (columns.to >= columns.from || isInside || !OF_XTERM_JS.has(TERM_PROGRAM)) return 0;
  let rows = 0;
  for (const [at, length] of [...lengths.entries()].toReversed())
    if (at !== rows) rows += Math.max(1, Math.ceil(length / columns.to)) - 1;
  return rows;
}
