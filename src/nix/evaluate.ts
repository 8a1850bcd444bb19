/** What narswarm has Nix evaluate, and what Nix answers: pure. nix-cli.ts runs it. */
import { NarswarmError } from '../errors.ts';
import type { StorePath } from './brands.ts';
import { quote } from './quote.ts';
import { DEFAULT_STORE_DIR, parseStorePath } from './store-path.ts';

/** The value of an installable: a derivation, or a string that is a store path or lies below one. */
export type Evaluated =
  | {
      readonly kind: 'derivation';
      readonly drvPath: StorePath;
      /** Names of the outputs that `nix build` would make, such as `out`. */
      readonly outputs: readonly string[];
    }
  | { readonly kind: 'path'; readonly path: StorePath };

/** `^*` or `^bin,man` at the end of an installable names outputs. */
const OUTPUTS = /^(.*)\^(\*|[a-zA-Z0-9+\-._?=]+(?:,[a-zA-Z0-9+\-._?=]+)*)$/s;

/** Takes the outputs that an installable names off its end: older versions of Nix do not know them. */
export function splitOutputs(installable: string): {
  readonly reference: string;
  /** Undefined where none are named; `all` for `^*`. */
  readonly outputs: readonly string[] | 'all' | undefined;
} {
  const [, reference, names] = OUTPUTS.exec(installable) ?? [];
  if (reference === undefined || names === undefined) return { reference: installable, outputs: undefined };
  return { reference, outputs: names === '*' ? 'all' : names.split(',') };
}

/**
 * A function in the Nix language (for `--apply`) that gives what {@link parseEvaluated} reads. Where no outputs are
 * named they are chosen as `nix build` does: the one that the value stands for (`curl.dev`), else
 * `meta.outputsToInstall`, else its first (Nix: getDerivations in src/libcmd/installables.cc).
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
 * Reads what Nix printed of that.
 *
 * @param installable for messages
 * @throws NarswarmError `NIX_FAILED` where the value is neither, or Nix printed something else.
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
    throw new NarswarmError('NIX_FAILED', 'nix eval printed broken JSON', { cause });
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
