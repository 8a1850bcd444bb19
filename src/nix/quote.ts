const MAX_LENGTH = 120;

/**
 * Characters that control a terminal or the reading order of a line instead of being shown: C0 and C1 controls (0x9b
 * starts an escape sequence in many terminals), line separators, and the bidirectional controls of UAX 9.
 */
const CONTROLS = /[^\P{Cc}\t\n]|[\p{Zl}\p{Zp}\p{Bidi_C}\ufeff]/gu;

/** Quotes and escapes text for an error message. Cuts long text, since a stranger may have sent it. */
export function quote(text: string): string {
  const quoted = text.length <= MAX_LENGTH ? JSON.stringify(text) : `${JSON.stringify(text.slice(0, MAX_LENGTH))}…`;
  return escapeControls(quoted);
}

/** Makes one line of a stranger's text, which then cannot pass for lines of this program. */
export function inOneLine(text: string): string {
  return escapeControls(text).replaceAll(/[\t\n]/g, ' ');
}

/** Escapes each character that controls a terminal as `\u009b`, as JSON does. Keeps tabs and newlines. */
export function escapeControls(text: string): string {
  return text.replaceAll(CONTROLS, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}
