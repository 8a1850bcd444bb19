import type { HttpClient } from '../../http/client.ts';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { StorePath } from '../../nix/brands.ts';
import { evaluate } from '../../nix/programs/nix-eval.ts';
import { queryClosure, queryDeriver } from '../../nix/programs/nix-queries.ts';
import type { StoreCallOptions } from '../../nix/programs/run-nix.ts';
import { isDerivationPath } from '../../nix/store-path.ts';
import type { FileStore } from '../../store/file-store.ts';
import { BuildGraph } from '../../nix/derivations/build-graph.ts';
import { fetchList } from './fetch-list.ts';
import { inspectPath } from './inspect-path.ts';
import type { Note } from '../state/note.ts';
import { formatSource, type Source } from './source.ts';

/** The present meaning of a source. */
export interface Resolution {
  /** Paths whose closures are wanted. Empty only if just a build decides them. */
  readonly roots: readonly StorePath[];
  /** The path that the source stands for, if it is one: followers of this machine may ask for it by name. */
  readonly main: StorePath | undefined;
  /** True for lists and profiles: roots that no cache has are left out and reported, and the rest is fetched. */
  readonly mayLack: boolean;
  /**
   * The reason why caches may lack some of the roots although nothing is wrong. Reported by a run that finds such
   * roots.
   */
  readonly lackNote?: Note;
  /**
   * Replacements if no cache has the roots: the outputs of the inputs of their derivation, which a build needs. Empty
   * if there are none.
   */
  readonly buildInputs: readonly StorePath[];
  /**
   * Returns the replacements for a build input that no cache has either. Nearly all outer layers of a NixOS system are
   * made on the machine. Empty if nothing is known.
   */
  readonly buildInputsOf: (path: StorePath) => Promise<readonly StorePath[]>;
  /**
   * The fixed outputs in the build closure of the derivation (the downloads of a rebuild), if they were requested. Some
   * may be in no cache, which is not a failure.
   */
  readonly sources: readonly StorePath[];
  /** Notes for the report. */
  readonly notes: readonly Note[];
}

export interface SourceContext {
  readonly http: Pick<HttpClient, 'getIfChanged'>;
  /** The store whose state folder keeps lists. Paths of lists and profiles must be in its store directory. */
  readonly files: Pick<FileStore, 'stateDir' | 'storeDir'>;
  /** True if {@link Resolution.sources} are wanted. */
  readonly withSources: boolean;
  /** URI of the store in which Nix evaluates and looks up paths. Undefined: Nix's default store. */
  readonly nixStore?: string | undefined;
  /** Finds the path of an output that only the build decides. Default: unknown. */
  readonly realisedPath?: (drvPath: StorePath, outputName: string) => Promise<StorePath | undefined>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Turns a source into store paths. Builds nothing and fetches no NAR. Lets Nix evaluate installables and attributes
 * (see {@link evaluate}), with the outputs that `nix build` would make.
 *
 * @throws NOT_FOUND for a path that does not exist; USAGE for a path that is neither a list nor a profile, or a
 *   malformed list; NIX_MISSING, NIX_FAILED, DERIVATION_INVALID; as {@link fetchList}; the signal's reason
 */
export async function resolveSource(
  source: Exclude<Source, { readonly kind: 'publisher' }>,
  context: SourceContext,
): Promise<Resolution> {
  switch (source.kind) {
    case 'list': {
      const { paths, notes } = await fetchList(source.url, context);
      return listed(paths, notes, context);
    }
    case 'path': {
      const found = await inspectPath(source.path, context.files.storeDir, context.signal);
      return found.kind === 'list' ? listed(found.paths, [], context) : resolveProfile(found.path, context);
    }
    default:
      return resolveByNix(source, context);
  }
}

/** Access to Nix. */
export type NixContext = Pick<SourceContext, 'withSources' | 'nixStore' | 'realisedPath' | 'signal'>;

/** Turns a source that only Nix understands into store paths, as {@link resolveSource} does. */
export async function resolveByNix(
  source: Extract<Source, { readonly kind: 'store-path' | 'installable' | 'attribute' }>,
  context: NixContext,
): Promise<Resolution> {
  if (source.kind !== 'store-path') return resolveEvaluated(source, context);
  return isDerivationPath(source.path)
    ? resolveDerivation(source.path, source.outputs, context)
    : resolveStorePath(source.path, context);
}

const NOTHING = {
  main: undefined,
  mayLack: false,
  buildInputs: [],
  buildInputsOf: async () => [],
  sources: [],
  notes: [],
} as const;

function listed(paths: readonly StorePath[], notes: readonly Note[], { withSources }: NixContext): Resolution {
  const lack: Note = { kind: 'list-without-sources' };
  return {
    ...NOTHING,
    roots: paths,
    main: onlyOne(paths),
    mayLack: true,
    notes: withSources ? [...notes, lack] : notes,
  };
}

async function resolveStorePath(path: StorePath, context: NixContext): Promise<Resolution> {
  return { ...NOTHING, roots: [path], main: path, ...(await sourcesOfPath(path, context)) };
}

async function resolveProfile(path: StorePath, context: NixContext): Promise<Resolution> {
  const roots = await queryClosure(path, nixOptions(context));
  const { sources, notes } = await sourcesOfPath(path, context);
  const lackNote: Note = { kind: 'profile', path, paths: roots.length };
  return { ...NOTHING, roots, main: path, mayLack: true, lackNote, sources, notes };
}

async function resolveEvaluated(
  source: Extract<Source, { readonly kind: 'installable' | 'attribute' }>,
  context: NixContext,
): Promise<Resolution> {
  const file = source.kind === 'attribute' ? source.file : undefined;
  const value = await evaluate(formatSource(source), { ...nixOptions(context), file });
  return value.kind === 'path'
    ? resolveStorePath(value.path, context)
    : resolveDerivation(value.drvPath, value.outputs, context);
}

/** @param names undefined: all outputs */
async function resolveDerivation(
  drvPath: StorePath,
  names: readonly string[] | undefined,
  context: NixContext,
): Promise<Resolution> {
  const graph = new BuildGraph(nixOptions(context));
  const all = await graph.outputNames(drvPath);
  const unknown = names?.find((name) => !all.includes(name));
  if (unknown !== undefined) {
    throw new NarswarmError('NOT_FOUND', `${drvPath} has no output ${unknown}: it has ${all.join(', ')}`, {
      facts: { path: drvPath },
    });
  }
  const wanted = names ?? all;
  const known = await graph.outputs(drvPath, wanted);
  const outputs = await Promise.all(
    known.map(async (path, index) => path ?? context.realisedPath?.(drvPath, wanted[index] ?? '')),
  );
  const roots = outputs.filter((path) => path !== undefined);
  const notes: Note[] = roots.length === outputs.length ? [] : [{ kind: 'undecided-outputs', drvPath }];
  return {
    roots,
    main: onlyOne(roots),
    mayLack: false,
    buildInputs: await graph.inputs(drvPath),
    buildInputsOf: (path) => graph.inputsOfOutput(path),
    sources: context.withSources ? await graph.sources(drvPath) : [],
    notes,
  };
}

/** Returns the sources of a built path, if Nix still knows its derivation. */
async function sourcesOfPath(path: StorePath, context: NixContext): Promise<Pick<Resolution, 'sources' | 'notes'>> {
  if (!context.withSources) return { sources: [], notes: [] };
  const options = nixOptions(context);
  try {
    const drvPath = await queryDeriver(path, options);
    if (drvPath !== undefined) return { sources: await new BuildGraph(options).sources(drvPath), notes: [] };
  } catch (error) {
    if (!isNarswarmError(error, 'NIX_FAILED')) throw error;
  }
  return { sources: [], notes: [{ kind: 'unknown-sources', path }] };
}

function onlyOne(paths: readonly StorePath[]): StorePath | undefined {
  return paths.length === 1 ? paths[0] : undefined;
}

function nixOptions({ nixStore, signal }: NixContext): StoreCallOptions {
  return { store: nixStore, signal };
}
