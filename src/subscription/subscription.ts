import { createHash } from 'node:crypto';
import { shownAddress } from '../redact.ts';

/** A subscription as the configuration has it. */
export interface Subscription {
  readonly name: string;
  /** Where its store paths come from, as written: see source.ts for what it may be. */
  readonly source: string;
  /** Nix file in which `source` is an attribute path (`nix eval -f FILE`). */
  readonly file?: string | undefined;
  /** Whether an update imports it into the Nix store with `nix copy`. */
  readonly import: boolean;
  /** Store URI to import into; undefined: the local store. */
  readonly to?: string | undefined;
  /** Whether the fixed-output sources of the derivation's build closure are wanted, too. */
  readonly sources: boolean;
  /** Whether it becomes a named root of this machine's own hash map. */
  readonly publish: boolean;
}

/**
 * Tells one subscription from another of the same name: a change of it begins again. It is kept in files, so of what
 * may be secret in an address there is a hash at the most; another password is no other source.
 */
export function sourceKey({ source, file }: Pick<Subscription, 'source' | 'file'>): string {
  if (file !== undefined) return `${source} of ${file}`;
  const [address, query] = splitQuery(source);
  return query === undefined ? address : `${address}?${createHash('sha256').update(query).digest('hex').slice(0, 16)}`;
}

/** A source as people may see it: without a password, and without the query of a list's address, which may be one. */
export function shownSource(source: string): string {
  const [address, query] = splitQuery(source);
  return query === undefined ? address : `${address}?…`;
}

/** The source as people give it to `subscribe`, with its file. Leaves out passwords, as {@link shownSource} does. */
export function sourceInWords({ source, file }: Pick<Subscription, 'source' | 'file'>): string {
  return file === undefined ? shownSource(source) : `-f ${file} ${source}`;
}

/** The address of a list and what it is asked; a publisher's address is its parameters, which are no secret. */
function splitQuery(source: string): [address: string, query: string | undefined] {
  const shown = shownAddress(source);
  const url = /^https?:/i.test(source) ? URL.parse(source) : null;
  if (url === null || url.search === '' || url.searchParams.has('xs')) return [shown, undefined];
  return [shown.slice(0, shown.indexOf('?')), url.search];
}

/** Names are used as file names and as names of roots in a hash map. */
export const SUBSCRIPTION_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
