/** Expressions in which Nix evaluates installables, and parsing of the results: pure. nix-eval.ts runs them. */
import { NarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { quote } from './quote.ts';
import { DEFAULT_STORE_DIR, parseStorePath } from './store-path.ts';

/** The value of an installable: a derivation, or a string that is a store path or is below one. */
export type Evaluated =
  | {
      readonly kind: 'derivation';
      readonly drvPath: StorePath;
      /** Names of the outputs that `nix build` would build, such as `out`. */
      readonly outputs: readonly string[];
    }
  | { readonly kind: 'path'; readonly path: StorePath };

/** Matches `^*` or `^bin,man` at the end of an installable, which names outputs. */
const OUTPUTS = /^(.*)\^(\*|[a-zA-Z0-9+\-._?=]+(?:,[a-zA-Z0-9+\-._?=]+)*)$/s;

/** Splits the named outputs from the end of an installable: older versions of Nix do not know them. */
export function splitOutputs(installable: string): {
  readonly reference: string;
  /** Undefined if none are named; `all` for `^*`. */
  readonly outputs: readonly string[] | 'all' | undefined;
} {
  const [, reference, names] = OUTPUTS.exec(installable) ?? [];
  if (reference === undefined || names === undefined) return { reference: installable, outputs: undefined };
  return { reference, outputs: names === '*' ? 'all' : names.split(',') };
}

/**
 * Returns a function in the Nix language (for `--apply`). Its result is parsed by {@link parseEvaluated}. Without named
 * outputs, chooses as `nix build` does: the output that the value stands for (`curl.dev`), else
 * `meta.outputsToInstall`, else the first (Nix: getDerivations in src/libcmd/installables.cc).
 */
export function evaluateExpression(outputs: readonly string[] | 'all' | undefined): string {
  return `value:
    let
      installed = builtins.tryEval (value.meta.outputsToInstall or [ ]);
      chosen =
        if value.outputSpecified or false || !installed.success || installed.value == [ ]
        then [ (value.outputName or "out") ]
        else installed.value;
      named = ${nixNames(outputs)};
    in
      if builtins.isAttrs value && value ? drvPath then {
        drvPath = builtins.unsafeDiscardStringContext value.drvPath;
        outputs = if named == null then chosen else named;
      }
      else if builtins.isAttrs value && value ? outPath then { path = builtins.unsafeDiscardStringContext value.outPath; }
      else if builtins.isString value then { path = builtins.unsafeDiscardStringContext value; }
      else { }`;
}

/**
 * Parses the JSON that Nix printed for {@link evaluateExpression}.
 *
 * @param installable named in messages
 * @throws NarswarmError `NIX_FAILED` if the value is neither a derivation nor a path, or if the JSON is broken.
 */
export function parseEvaluated(json: string, installable: string): Evaluated {
  const { drvPath, outputs, path } = parseObject(json);
  if (typeof drvPath === 'string' && isNames(outputs)) {
    return { kind: 'derivation', drvPath: parseStorePath(drvPath), outputs };
  }
  const [, storePath] =
    typeof path === 'string' ? (/^(\/(?:[^/]+\/)*?[0-9a-df-np-sv-z]{32}-[^/]+)/.exec(path) ?? []) : [];
  if (storePath !== undefined) return { kind: 'path', path: parseStorePath(storePath) };
  throw new NarswarmError(
    'NIX_FAILED',
    `${quote(installable)} is neither a derivation nor a store path (${DEFAULT_STORE_DIR}/…): name a package or a system`,
  );
}

function parseObject(json: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(json));
  } catch (cause) {
    throw new NarswarmError('NIX_FAILED', 'nix eval printed invalid JSON', { cause });
  }
}

function isNames(value: unknown): value is readonly string[] {
  return Array.isArray(value) && value.length > 0 && value.every((name) => typeof name === 'string');
}

function nixNames(outputs: readonly string[] | 'all' | undefined): string {
  if (outputs === undefined) return 'null';
  if (outputs === 'all') return '(value.outputs or [ "out" ])';
  return `[ ${outputs.map((name) => JSON.stringify(name)).join(' ')} ]`;
}
