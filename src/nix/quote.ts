const MAX_LENGTH = 120;

/**
 * Characters that act on a terminal, or on the order in which a line is read, instead of being shown: C0 and C1 controls
 * (0x9b starts an escape sequence in many terminals), line separators, and the bidirectional controls of UAX 9.
 */
const CONTROLS = /[^\P{Cc}\t\n]|[\p{Zl}\p{Zp}\p{Bidi_C}\ufeff]/gu;

/** Quotes text for an error message, escaped, and cut where a stranger sent something long. */
export function quote(text: string): string {
  const quoted = text.length <= MAX_LENGTH ? JSON.stringify(text) : `${JSON.stringify(text.slice(0, MAX_LENGTH))}…`;
  return escapeControls(quoted);
}

/** Writes each character that acts on a terminal as `\u009b`, which is also what JSON has it as. Keeps tabs and newlines. */
export function escapeControls(text: string): string {
  return text.replaceAll(CONTROLS, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
