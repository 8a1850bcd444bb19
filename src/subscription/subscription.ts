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

/** What tells one subscription from another of the same name: a change of it begins anew. */
export function sourceKey({ source, file }: Pick<Subscription, 'source' | 'file'>): string {
  return file === undefined ? source : `${source} of ${file}`;
}

/** Names are used as file names and as names of roots in a hash map. */
export const SUBSCRIPTION_NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/;
