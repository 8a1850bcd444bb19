/** Answers a word that names neither a subscription nor a root nor a store path. */
import { hasInWords, type Config } from '../../config/load.ts';
import { nearest } from '../../config/nearest.ts';
import { isNarswarmError, NarswarmError } from '../../errors.ts';

const MORE_FORMS = 'give one of these names, a path such as ./result, or an installable such as nixpkgs#hello';

/**
 * Makes the failure of a command whose words may be names of subscriptions, too: it lists these, and names the nearest
 * one. Returns other failures as they are.
 */
export function orSubscription(error: unknown, { path, subscriptions }: Config): unknown {
  const names = subscriptions.map(({ name }) => name);
  const unknown = unknownRoot(error);
  if (unknown === undefined) return orMisspelt(error, path, names);
  const { root, named } = unknown;
  const meant = nearest(root, [...names, ...named]);
  const wayOut = meant === undefined ? MORE_FORMS : `did you mean ${meant}?`;
  const roots = named.length === 0 ? 'a root of a hash map' : `a root of a hash map (${named.slice(0, 20).join(', ')})`;
  return new NarswarmError(
    'ROOT_UNKNOWN',
    `there is no subscription ${root} in ${path} (${hasInWords(names)}), and it is neither ${roots} nor a store path or the hash part of one: ${wayOut}`,
    { cause: error, facts: { root, named, subscriptions: names, ...(meant === undefined ? {} : { meant }) } },
  );
}

/** Adds the nearest subscription to the failure of a hash map in which a word was looked for as the name of a root. */
function orMisspelt(error: unknown, path: string, names: readonly string[]): unknown {
  if (!isNarswarmError(error) || typeof error.facts['root'] !== 'string') return error;
  const { root } = error.facts;
  const meant = nearest(root, names);
  if (meant === undefined || meant === root) return error;
  const message = `there is no subscription ${root} in ${path}: did you mean ${meant}? Otherwise: ${error.message}`;
  return new NarswarmError(error.code, message, { cause: error, facts: { ...error.facts, meant } });
}

/**
 * Makes the failure of a command that takes no subscription: if the word is the name of one, it says what to do, and
 * otherwise it names the nearest root of a hash map.
 */
export function insteadOfSubscription(error: unknown, { subscriptions }: Config): unknown {
  const unknown = unknownRoot(error);
  if (unknown === undefined) return error;
  const { root, named, message } = unknown;
  const meant = nearest(root, named);
  const facts = { root, named, ...(meant === undefined ? {} : { meant }) };
  if (subscriptions.some(({ name }) => name === root)) {
    const wayOut = `${root} is a subscription: narswarm update ${root} fetches it`;
    return new NarswarmError('ROOT_UNKNOWN', wayOut, { cause: error, facts });
  }
  if (meant === undefined) return error;
  return new NarswarmError('ROOT_UNKNOWN', `${message}: did you mean ${meant}?`, { cause: error, facts });
}

/** Returns the word that no hash map has as the name of a root, and the names that they have. */
function unknownRoot(
  error: unknown,
): { readonly root: string; readonly named: readonly string[]; readonly message: string } | undefined {
  if (!isNarswarmError(error, 'ROOT_UNKNOWN')) return undefined;
  const { root, named } = error.facts;
  return typeof root === 'string' && Array.isArray(named) ? { root, named, message: error.message } : undefined;
}
