import { NarswarmError } from '../errors.ts';

/** Reads what a subscription follows. @throws USAGE */
export function parseSource(text: string, _options: { file?: string | undefined } = {}): unknown {
  if (text.trim() === '') throw new NarswarmError('USAGE', 'a source is empty: name what to follow');
  return text;
}
