import { isAbsolute, resolve } from 'node:path';
import { parseSource } from './source.ts';

/** A source as a configuration keeps it, which means the same in any working folder. */
export interface AbsoluteSource {
  readonly source: string;
  readonly file: string | undefined;
}

const RELATIVE = /^\.{1,2}(?=$|[/#?])[^#?]*/;

/** Makes relative files, profiles and flakes absolute. @throws as {@link parseSource} */
export function absoluteSource(
  text: string,
  options: { file?: string | undefined } & { readonly cwd: string },
): AbsoluteSource {
  const { file, cwd } = options;
  parseSource(text, options);
  if (file === undefined) return { source: text.replace(RELATIVE, (path) => resolve(cwd, path)), file };
  return { source: text, file: isAbsolute(file) || /^<|:/.test(file) ? file : resolve(cwd, file) };
}
