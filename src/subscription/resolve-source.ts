import type { HttpClient } from '../http/client.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { evaluate, queryClosure, queryDeriver, type StoreCallOptions } from '../nix/nix-cli.ts';
import { isDerivationPath } from '../nix/store-path.ts';
import type { FileStore } from '../store/file-store.ts';
import { BuildGraph } from './build-graph.ts';
import { fetchList } from './fetch-list.ts';
import { inspectPath } from './inspect-path.ts';
import { formatSource, type Source } from './source.ts';

/** What a source stands for now. */
export interface Resolution {
  /** Paths whose closures are wanted. Empty only where a build alone tells what they are. */
  readonly roots: readonly StorePath[];
  /** The path that the source is, where it is one: what followers of this machine may ask for by name. */
  readonly main: StorePath | undefined;
  /** True where a root that no cache has is left out and reported, and the rest goes on: lists and profiles. */
  readonly mayLack: boolean;
  /** Why caches lack some of the roots, where that is as it should be: for the report of a run that finds it so. */
  readonly lackNote?: string;
  /**
   * What to take instead where no cache has the roots: the outputs of the inputs of their derivation (what a build of
   * it needs); empty where there is nothing.
   */
  readonly buildInputs: readonly StorePath[];
  /**
   * The same for a path that is among the build inputs itself, or among their inputs, and that no cache has either:
   * of a NixOS system nearly all the outer layers are made on the machine. Empty where nothing is known.
   */
  readonly buildInputsOf: (path: StorePath) => Promise<readonly StorePath[]>;
  /**
   * The fixed outputs of the derivation's build closure, where they were asked for: what a rebuild downloads. Caches lack
   * some of them, and that is no failure.
   */
  readonly sources: readonly StorePath[];
  /** For the report. */
  readonly notes: readonly string[];
}

export interface SourceContext {
  readonly http: Pick<HttpClient, 'getIfChanged'>;
  /** Lists are kept in its state folder; lists and profiles are of paths in its store directory. */
  readonly files: Pick<FileStore, 'stateDir' | 'storeDir' | 'replace'>;
  /** Whether {@link Resolution.sources} are wanted. */
  readonly withSources: boolean;
  /** URI of the store that Nix evaluates in and asks; undefined for Nix's default store. */
  readonly nixStore?: string | undefined;
  /** Finds what an output has become of which only the build tells. Default: nobody knows. */
  readonly realisedPath?: (drvPath: StorePath, outputName: string) => Promise<StorePath | undefined>;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Turns a source into store paths. Nothing is built and no NAR is fetched; installables and attributes are evaluated by
 * Nix (see {@link evaluate}), of which the outputs are taken that `nix build` would make.
 *
 * @throws NOT_FOUND for a path that does not exist; USAGE for one that is neither, or a malformed list; NIX_MISSING,
 *   NIX_FAILED, DERIVATION_INVALID; as {@link fetchList}; the signal's reason
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

/** Means of asking Nix. */
export type NixContext = Pick<SourceContext, 'withSources' | 'nixStore' | 'realisedPath' | 'signal'>;

/** Turns a source that only Nix knows of into store paths, as {@link resolveSource} does. */
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

function listed(paths: readonly StorePath[], notes: readonly string[], { withSources }: NixContext): Resolution {
  const lack = 'a list of store paths does not tell the sources that they were built from: none are taken';
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
  const lackNote = `${path}: its closure on this machine is ${roots.length} ${roots.length === 1 ? 'path' : 'paths'}; those that were built here are in no cache`;
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
  const notes =
    roots.length === outputs.length
      ? []
      : [`${drvPath}: only its build tells where its outputs lie (content-addressed)`];
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

/** The sources of what is already built, as far as Nix remembers what it was built from. */
async function sourcesOfPath(path: StorePath, context: NixContext): Promise<Pick<Resolution, 'sources' | 'notes'>> {
  if (!context.withSources) return { sources: [], notes: [] };
  const options = nixOptions(context);
  try {
    const drvPath = await queryDeriver(path, options);
    if (drvPath !== undefined) return { sources: await new BuildGraph(options).sources(drvPath), notes: [] };
  } catch (error) {
    if (!isNarswarmError(error, 'NIX_FAILED')) throw error;
  }
  const note = `${path}: Nix does not hold the derivation that it was built from, so its sources are unknown; subscribe to an installable to have them`;
  return { sources: [], notes: [note] };
}

function onlyOne(paths: readonly StorePath[]): StorePath | undefined {
  return paths.length === 1 ? paths[0] : undefined;
}

function nixOptions({ nixStore, signal }: NixContext): StoreCallOptions {
  return { store: nixStore, signal };
}
