/** Formats text for roff, in the macros of man(7), for groff and mandoc. */

/** The line length that mandoc recommends. */
const MAX_LINE_BYTES = 80;
const ESCAPES: Readonly<Record<string, string>> = {
  '\\': String.raw`\e`,
  '-': String.raw`\-`, // for copying into a shell: a plain one may become a typographic hyphen
  "'": String.raw`\(aq`,
  '`': String.raw`\(ga`,
  '^': String.raw`\(ha`,
  '~': String.raw`\(ti`,
  '"': String.raw`\(dq`, // it would end an argument of a macro
};

/** Escapes the special characters of roff. Writes non-ASCII characters by their numbers. */
export function escape(text: string): string {
  return text
    .replaceAll(/[\\\-'`^~"]/g, (character) => ESCAPES[character] ?? character)
    .replaceAll(/\P{ASCII}/gu, (character) => `\\[u${codeOf(character)}]`);
}

/** Wraps prose at 80 bytes if its words allow. Escapes a dot at the start of a line, which would make it a request. */
export function prose(text: string): string {
  const lines: string[] = [];
  for (const plain of escape(text.trim()).split(/\s+/)) {
    const word = plain.includes('/') ? `\\%${plain}` : plain; // a path is never hyphenated
    const last = lines.at(-1);
    if (last !== undefined && last.length + word.length < MAX_LINE_BYTES) lines[lines.length - 1] = `${last} ${word}`;
    else lines.push(word.startsWith('.') ? `\\&${word}` : word);
  }
  return lines.join('\n');
}

export function bold(text: string): string {
  return `\\fB${escape(text)}\\fR`;
}

export function italic(text: string): string {
  return `\\fI${escape(text)}\\fR`;
}

/** Formats a heading of the page. */
export function section(title: string): string {
  return `.SH "${escape(title)}"`;
}

/** Formats a heading inside a section. */
export function subsection(title: string): string {
  return `.SS "${escape(title)}"`;
}

/** Formats an escaped term with its meaning, indented below. */
export function entry(term: string, meaning: string): string[] {
  return ['.TP', term, prose(meaning)];
}

/** Formats literal lines, in the typeface of a terminal. */
export function verbatim(lines: readonly string[]): string[] {
  return ['.PP', '.RS 4', '.EX', ...lines.map((text) => `\\&${escape(text)}`), '.EE', '.RE'];
}

/** Returns the number of a character in at least four digits, as groff requires. */
function codeOf(character: string): string {
  return (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
}
