const MAX_LENGTH = 120;

/** Quotes text for an error message, escaped, and cut where a stranger sent something long. */
export function quote(text: string): string {
  return text.length <= MAX_LENGTH ? JSON.stringify(text) : `${JSON.stringify(text.slice(0, MAX_LENGTH))}…`;
}
