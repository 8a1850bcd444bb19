import { createHash } from 'node:crypto';
import { shownAddress } from '../redact.ts';

/** A subscription of the configuration. */
export interface Subscription {
  readonly name: string;
  /** The source of its store paths, as written: see source.ts for its forms. */
  readonly source: string;
  /** Nix file in which `source` is an attribute path (`nix eval -f FILE`). */
  readonly file?: string | undefined;
  /** True if an update imports it into the Nix store with `nix copy`. */
  readonly import: boolean;
  /** URI of the store to import into. Undefined: the local store. */
  readonly to?: string | undefined;
  /** Absolute path of a Nix profile that gets each imported generation. */
  readonly profile?: string | undefined;
  /** Absolute path of a link to the running system: an update tells what a switch from it would change. */
  readonly switchTo?: string | undefined;
  /** True to fetch the fixed-output sources of the derivation's build closure, too. */
  readonly sources: boolean;
  /**
   * True to fetch the paths that a rebuild without a network would lack, too. Only with an import into the default
   * store.
   */
  readonly ready: boolean;
  /** True to make it a named root of this machine's own hash map. */
  readonly publish: boolean;
}

/**
 * Returns a key of a subscription's source. If the key changes, the subscription starts again. The key is kept in
 * files, so it has at most a hash of the secret parts of an address. A new password does not change it, nor does another
 * label of a publisher.
 */
export function sourceKey({ source, file }: Pick<Subscription, 'source' | 'file'>): string {
  if (file !== undefined) return `${source} of ${file}`;
  const [address, query] = splitQuery(withoutLabel(source));
  return query === undefined ? address : `${address}?${createHash('sha256').update(query).digest('hex').slice(0, 16)}`;
}

/** Removes the label (`dn`) from the address of a publisher. */
function withoutLabel(source: string): string {
  if (!/xs=urn:btpk:/i.test(source)) return source;
  return source.replace(/&dn=[^&#]*/, '').replace(/\?dn=[^&#]*&/, '?');
}

/** Returns a source for people: without a password, and without the query of a list's address, which may be secret. */
export function shownSource(source: string): string {
  const [address, query] = splitQuery(source);
  return query === undefined ? address : `${address}?…`;
}

/** Returns the source as people give it to `subscribe`, with its file but without passwords, as {@link shownSource}. */
export function sourceInWords({ source, file }: Pick<Subscription, 'source' | 'file'>): string {
  return file === undefined ? shownSource(source) : `-f ${file} ${source}`;
}

/** Splits the address of a list from its query. A publisher's address is its query, which is not secret. */
function splitQuery(source: string): [address: string, query: string | undefined] {
  const shown = shownAddress(source);
  const url = /^https?:/i.test(source) ? URL.parse(source) : null;
  if (url === null || url.search === '' || url.searchParams.has('xs')) return [shown, undefined];
  return [shown.slice(0, shown.indexOf('?')), url.search];
}

/**
 * Returns true if the needs of a rebuild can be fetched: the subscription must be imported into this machine's own Nix
 * store.
 */
export function canBeReady({
  import: imports,
  to,
}: {
  readonly import: boolean;
  readonly to?: string | undefined;
}): boolean {
  return imports && to === undefined;
}

/** Why {@link canBeReady} returns false. */
export const READY_NEEDS = 'a rebuild takes what it needs from the Nix store of this machine';

/** Checks a name. Names are used as file names and as names of roots in a hash map. */
export const SUBSCRIPTION_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
