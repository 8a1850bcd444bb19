/** Sources and files that mean something in the folder of a shell alone: an update runs in another one. */
import { isAbsolute, resolve } from 'node:path';

const RELATIVE_SOURCE = /^\.{1,2}(?=$|[/#?])[^#?]*/;

/** True for `.#attribute`, `./list.txt` and the like. */
export function isRelativeSource(source: string): boolean {
  return RELATIVE_SOURCE.test(source);
}

/** True for a path that is relative; `<nixpkgs>` and URLs are none. */
export function isRelativeFile(file: string): boolean {
  return !isAbsolute(file) && !file.startsWith('<') && !file.includes(':');
}

/** The same source for any folder; what follows `#` or `?` stays as it is. */
export function absoluteSource(source: string, folder: string): string {
  return source.replace(RELATIVE_SOURCE, (path) => resolve(folder, path));
}

/** The same file for any folder. */
export function absoluteFile(file: string, folder: string): string {
  return isRelativeFile(file) ? resolve(folder, file) : file;
}
