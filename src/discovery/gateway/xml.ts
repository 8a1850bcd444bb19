/**
 * The parts of XML that routers' answers need: elements by their local names. Each search ends at the next `<`, so it
 * takes time in proportion to the text.
 */

/** Returns the text of the first element with a name, without spaces around it. */
export function textOf(xml: string, name: string): string | undefined {
  const found = new RegExp(`<(?:[\\w.-]{1,32}:)?${name}(?:\\s[^<>]*)?>([^<]*)<`).exec(xml);
  return found?.[1] === undefined ? undefined : unescape(found[1].trim());
}

/** Returns the contents of the elements with a name that are not inside each other. @param limit how many at most */
export function elementsOf(xml: string, name: string, limit: number): string[] {
  const parts = xml.split(new RegExp(`<(?:[\\w.-]{1,32}:)?${name}(?:\\s[^<>]*)?>`), limit + 1);
  return parts.slice(1).map((part) => part.split(`${name}>`, 1)[0] ?? '');
}

const ENTITIES: Readonly<Record<string, string>> = { amp: '&', lt: '<', gt: '>', quot: '"', apos: "'" };

function unescape(text: string): string {
  return text.replaceAll(/&(amp|lt|gt|quot|apos);/g, (_, name: string) => ENTITIES[name] ?? '');
}
