import { isNarswarmError } from '../errors.ts';

/** Returns undefined for a text of somebody else that is malformed. */
export function unlessInvalid<T>(parse: () => T): T | undefined {
  try {
    return parse();
  } catch (error) {
    if (isNarswarmError(error)) return undefined;
    throw error;
  }
}
