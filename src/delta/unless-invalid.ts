import { isNarswarmError } from '../errors.ts';

/** Parses somebody else's text. Returns undefined if it is malformed. */
export function unlessInvalid<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (isNarswarmError(error)) return undefined;
    throw error;
  }
}
