/**
 * Leaves in package.json only what the packed program needs: `npm pack` runs `manifest.ts reduce` before it packs, and
 * `manifest.ts restore` afterwards. The bundle has all of its packages in it, so nobody who installs it downloads them.
 */
import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const MANIFEST = fileURLToPath(new URL('../package.json', import.meta.url));
/** The whole file, until it is restored. */
const KEPT = fileURLToPath(new URL('../package.json.kept', import.meta.url));
const OF_THE_CHECKOUT: ReadonlySet<string> = new Set(['scripts', 'dependencies', 'devDependencies', 'overrides']);

function reduce(): void {
  const text = readFileSync(MANIFEST, 'utf8');
  const whole = JSON.parse(text) as Readonly<Record<string, unknown>>;
  if (whole['scripts'] === undefined) return; // by an `npm pack` that was killed
  const fields = Object.entries(whole).filter(([field]) => !OF_THE_CHECKOUT.has(field));
  writeFileSync(KEPT, text);
  replace(`${JSON.stringify(Object.fromEntries(fields), undefined, 2)}\n`);
}

function restore(): void {
  if (existsSync(KEPT)) renameSync(KEPT, MANIFEST);
}

/** Writes package.json in one step, since other processes may read it. */
function replace(text: string): void {
  const written = `${MANIFEST}.new`;
  writeFileSync(written, text);
  renameSync(written, MANIFEST);
}

if (process.argv[2] === 'reduce') reduce();
else restore();
