/** The table of invariants in ARCHITECTURE.md, and the patch of each row. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

export interface Guard {
  /** The invariant in words. */
  readonly invariant: string;
  /** The second cell: files below `src/`, by path or by name, and functions, as in `PartialNar.settle`. */
  readonly where: readonly string[];
  /** The row's last cell, and the name of its patch: `test/guards/<name>.patch`. Undefined where the cell is missing. */
  readonly name: string | undefined;
  /** Test files, relative to the root, of which one at least fails if the guard is taken out. */
  readonly tests: readonly string[];
}

export const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const HEADER = '| invariant | where | test | guard |';

/** The file with the patch that takes a guard out. */
export function patchFile(name: string): string {
  return fileURLToPath(new URL(`${name}.patch`, import.meta.url));
}

/** The rows of the table, in its order. @throws Error if there is no such table */
export function readGuards(): Guard[] {
  const lines = readFileSync(`${ROOT}ARCHITECTURE.md`, 'utf8').split('\n');
  const header = lines.indexOf(HEADER);
  if (header < 0) throw new Error(`ARCHITECTURE.md has no table with the header ${HEADER}`);
  const rows = lines.slice(header + 2);
  const end = rows.findIndex((line) => !line.startsWith('|'));
  return rows.slice(0, end).map((row) => {
    const [, invariant = '', where = '', tests = '', name] = row.split('|').map((cell) => cell.trim());
    return {
      invariant,
      where: Array.from(where.matchAll(/`([^`]+)`/g), ([, place = '']) => place),
      tests: Array.from(tests.matchAll(/`(test\/[^`]+)`/g), ([, path = '']) => path),
      name: name === '' ? undefined : name?.replaceAll('`', ''),
    };
  });
}
