import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** Folder of the package, with package.json and `dist/`: one above both src/ and dist/. */
export const PACKAGE_DIR: string = fileURLToPath(new URL('..', import.meta.url));

/** Version of the package. */
export const VERSION: string = (
  JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8')) as { version: string }
).version;
