/** Addresses as people and files may see them. */

/** User and password of an address within a text. */
const USER_INFO = /([a-z][a-z0-9+.-]*:\/\/)([^\s/?#"'<>]*)@/gi;

/** `url` without user, password, query and fragment, any of which may hold a secret. */
export function redactUrl(url: string | URL): string {
  const { protocol, host, pathname } = new URL(url);
  return `${protocol}//${host}${pathname}`;
}

/**
 * A text in which no address has a password any more, nor a user, which is often a token. The user of an ssh address without
 * a password stays: it is part of the name.
 */
export function withoutPasswords(text: string): string {
  if (!text.includes('@')) return text;
  return text.replace(USER_INFO, (whole, scheme: string, info: string) =>
    /ssh(?:-ng)?:\/\/$/i.test(scheme) && !info.includes(':') ? whole : scheme,
  );
}

/** An address as a user gave it; if it is none, everything that could be a password goes. */
export function shownAddress(text: string): string {
  return URL.canParse(text) ? withoutPasswords(text) : text.replace(/:\/\/.*@/s, '://');
}
