/** Text as roff takes it, in the macros of man(7), for groff and mandoc alike. */

/** What mandoc calls good style. */
const MAX_LINE_BYTES = 80;
const ESCAPES: Readonly<Record<string, string>> = {
  '\\': String.raw`\e`,
  '-': String.raw`\-`, // so that it can be copied into a shell: a plain one may become a typographic hyphen
  "'": String.raw`\(aq`,
  '`': String.raw`\(ga`,
  '^': String.raw`\(ha`,
  '~': String.raw`\(ti`,
  '"': String.raw`\(dq`, // it would end an argument of a macro
};

/** Escapes what means something to roff, and writes all that is not ASCII by its number. */
export function escape(text: string): string {
  return text
    .replaceAll(/[\\\-'`^~"]/g, (character) => ESCAPES[character] ?? character)
    .replaceAll(/\P{ASCII}/gu, (character) => `\\[u${codeOf(character)}]`);
}

/** Prose, in lines of at most 80 bytes where words allow; a dot at the start of one would make it a request. */
export function prose(text: string): string {
  const lines: string[] = [];
  for (const plain of escape(text.trim()).split(/\s+/)) {
    const word = plain.includes('/') ? `\\%${plain}` : plain; // a path is never divided
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

/** A heading of the page. */
export function section(title: string): string {
  return `.SH "${escape(title)}"`;
}

/** A heading within a section. */
export function subsection(title: string): string {
  return `.SS "${escape(title)}"`;
}

/** A term, already escaped, and what it means, indented below. */
export function entry(term: string, meaning: string): string[] {
  return ['.TP', term, prose(meaning)];
}

/** Lines that stay as they are, in the typeface of a terminal. */
export function verbatim(lines: readonly string[]): string[] {
  return ['.PP', '.RS 4', '.EX', ...lines.map((text) => `\\&${escape(text)}`), '.EE', '.RE'];
}

/** Four digits or more, as groff wants it. */
function codeOf(character: string): string {
  return (character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0');
}
