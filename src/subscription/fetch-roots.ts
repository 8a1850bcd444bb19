/** Reads the ROOTs of a fetch: sources as in subscriptions, and names of roots. */
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { PublisherAddress } from '../index/address.ts';
import { splitOutputs } from '../nix/installable.ts';
import { findNamedPath } from '../nix/named-path.ts';
import { quote } from '../nix/quote.ts';
import { resolveByNix, type Resolution } from './source/resolve-source.ts';
import { parseSource } from './source/source.ts';

export interface FetchRoots {
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  /** Publishers that the roots themselves name (`magnet:…#desktop`). */
  readonly publishers: readonly PublisherAddress[];
  /**
   * Lets Nix evaluate a root, which may take minutes. `text` is the user's own.
   *
   * @throws NOT_FOUND, NIX_MISSING, NIX_FAILED naming the text
   */
  readonly evaluate: (signal: AbortSignal) => Promise<ReadonlyMap<string, Resolution>>;
}

/**
 * Reads a root in the forms of `nix copy` and `nix build`: a store path or a path below one, a link to one, its hash
 * part, or an installable. Also accepts the name of a root in a hash map; a link of that name in the working folder
 * comes first. A .drv path means the file itself; with `^*` or `^bin,man` after it, it means outputs. Nix evaluates
 * installables and builds nothing.
 *
 * @param options.file Nix file in which the texts are attribute paths
 * @param options.withSources true to find the sources of evaluated roots, too. Default: false
 * @throws USAGE, STORE_PATH_INVALID; NOT_FOUND if a path does not exist
 */
export async function readFetchRoots(
  texts: readonly string[],
  { file, withSources = false }: { readonly file?: string | undefined; readonly withSources?: boolean } = {},
): Promise<FetchRoots> {
  const roots = new Set<string>();
  const sources = new Map<string, NixSource>();
  const publishers: PublisherAddress[] = [];
  for (const text of texts) {
    if (file === undefined && !isSource(text)) {
      roots.add((await findNamedPath(text)) ?? text);
      continue;
    }
    const source = parseSource(text, { file });
    if (source.kind === 'list' || source.kind === 'path') throw isForSubscriptions(text, 'a list of store paths');
    if (source.kind !== 'publisher') sources.set(text, source);
    else if (source.root === undefined) throw isForSubscriptions(text, 'a whole hash map');
    else {
      roots.add(source.root);
      publishers.push(source.address);
    }
  }
  return {
    roots: [...roots],
    publishers,
    async evaluate(signal) {
      const evaluated = new Map<string, Resolution>();
      for (const [text, source] of sources) evaluated.set(text, await evaluate(text, source, { withSources, signal }));
      return evaluated;
    },
  };
}

type NixSource = Parameters<typeof resolveByNix>[0];

/** Returns true for a text that only a source may have. Roots may also be paths and names in other forms. */
function isSource(text: string): boolean {
  const { reference, outputs } = splitOutputs(text);
  return /#|^magnet:|^https?:/i.test(text) || (outputs !== undefined && reference.endsWith('.drv'));
}

async function evaluate(
  text: string,
  source: NixSource,
  context: { readonly withSources: boolean; readonly signal: AbortSignal },
): Promise<Resolution> {
  try {
    const resolution = await resolveByNix(source, context);
    if (resolution.roots.length > 0) return resolution;
    throw new NarswarmError('NOT_FOUND', 'only its build decides the paths of its outputs (content-addressed)');
  } catch (cause) {
    if (!isNarswarmError(cause, 'NIX_FAILED', 'NOT_FOUND', 'DERIVATION_INVALID')) throw cause;
    throw ofRoot(text, cause);
  }
}

/** Makes a failure that names its root. */
export function ofRoot(text: string, cause: NarswarmError): NarswarmError {
  return new NarswarmError(cause.code, `${text}: ${cause.message}`, { cause, facts: { ...cause.facts, root: text } });
}

function isForSubscriptions(text: string, what: string): NarswarmError {
  const wayOut = 'give it to narswarm subscribe; fetch takes a path, an installable or PUBLISHER#ROOT';
  return new NarswarmError('USAGE', `${quote(text)} is ${what}: ${wayOut}`);
}
