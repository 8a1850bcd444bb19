/** Removes secrets from addresses, for people and files. */

/**
 * Matches user and password of an address in a text. Schemes are short: without a bound, a long word of a stranger would
 * take time in proportion to its square.
 */
const USER_INFO = /([a-z][a-z0-9+.-]{0,31}:\/\/)([^\s/?#"'<>]*)@/gi;

/** Returns `url` without user, password, query and fragment, any of which may hold a secret. */
export function redactUrl(url: string | URL): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}

/**
 * Removes passwords from all addresses in a text, along with users, which are often tokens. Keeps the user of an ssh
 * address without a password: it is part of the name.
 */
export function withoutPasswords(text: string): string {
  if (!text.includes('@')) return text;
  return text.replace(USER_INFO, (whole, scheme: string, info: string) =>
    /ssh(?:-ng)?:\/\/$/i.test(scheme) && !info.includes(':') ? whole : scheme,
  );
}

/**
 * Returns an address that a user gave, without secrets. If it is not an address, removes everything that could be a
 * password.
 */
export function shownAddress(text: string): string {
  return URL.canParse(text) ? withoutPasswords(text) : text.replace(/:\/\/.*@/s, '://');
}
