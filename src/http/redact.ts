/** Addresses as people and files may see them. */

/** User and password of any address within a text: of several `@` before the path the last ends them. */
const CREDENTIALS = /([a-z][a-z0-9+.-]*:\/\/)[^\s/?#"'<>]*@/gi;

/** `url` without user, password, query and fragment, any of which may hold a secret. */
export function redactUrl(url: string | URL): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}

/** A text in which no address has a user and a password any more. */
export function withoutPasswords(text: string): string {
  return text.includes('@') ? text.replace(CREDENTIALS, '$1') : text;
}
