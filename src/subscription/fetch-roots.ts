/** Reads the ROOTs of a fetch: all that subscriptions take for a source, and the names of roots. */
import { NarswarmError, isNarswarmError } from '../errors.ts';
import type { PublisherAddress } from '../index/address.ts';
import { splitOutputs } from '../nix/evaluate.ts';
import { findNamedPath } from '../nix/named-path.ts';
import { quote } from '../nix/quote.ts';
import { resolveByNix, type Resolution } from './resolve-source.ts';
import { parseSource } from './source.ts';

/** Roots of a fetch. */
export interface FetchRoots {
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  /** Publishers that a root names itself (`magnet:…#desktop`). */
  readonly publishers: readonly PublisherAddress[];
  /**
   * Has Nix evaluate what only it knows, which may take minutes; by the text that a person gave.
   *
   * @throws NOT_FOUND, NIX_MISSING, NIX_FAILED naming the text
   */
  readonly evaluate: (signal: AbortSignal) => Promise<ReadonlyMap<string, Resolution>>;
}

/**
 * Reads what a person gives `nix copy` or `nix build`: a store path or anything below one, a link to one, its hash part,
 * an installable; and the name of a root in a hash map. A link in the working folder goes before a root of that name; a
 * .drv is the file itself, with `^*` or `^bin,man` after it its outputs. Nix evaluates installables, and builds nothing.
 *
 * @param options.file Nix file in which the texts are attribute paths
 * @throws USAGE, STORE_PATH_INVALID; NOT_FOUND where a path is not there
 */
export async function readFetchRoots(
  texts: readonly string[],
  { file }: { readonly file?: string | undefined } = {},
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
      for (const [text, source] of sources) evaluated.set(text, await evaluate(text, source, signal));
      return evaluated;
    },
  };
}

type NixSource = Parameters<typeof resolveByNix>[0];

/** True for what only a source can be; paths and the names of roots are read more freely than there. */
function isSource(text: string): boolean {
  const { reference, outputs } = splitOutputs(text);
  return /#|^magnet:|^https?:/i.test(text) || (outputs !== undefined && reference.endsWith('.drv'));
}

async function evaluate(text: string, source: NixSource, signal: AbortSignal): Promise<Resolution> {
  try {
    const resolution = await resolveByNix(source, { signal, withSources: false });
    if (resolution.roots.length > 0) return resolution;
    throw new NarswarmError('NOT_FOUND', resolution.notes.join('; '));
  } catch (cause) {
    if (!isNarswarmError(cause, 'NIX_FAILED', 'NOT_FOUND', 'DERIVATION_INVALID')) throw cause;
    throw ofRoot(text, cause);
  }
}

/** A failure that names the root which it is of. */
export function ofRoot(text: string, cause: NarswarmError): NarswarmError {
  return new NarswarmError(cause.code, `${text}: ${cause.message}`, { cause, facts: { ...cause.facts, root: text } });
}

function isForSubscriptions(text: string, what: string): NarswarmError {
  const wayOut = 'narswarm subscribe takes that, and fetch a path, an installable or PUBLISHER#ROOT';
  return new NarswarmError('USAGE', `${quote(text)} is ${what}: ${wayOut}`);
}
