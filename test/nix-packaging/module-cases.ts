/** Evaluates nix/module.nix for configurations, with the options of NixOS that it touches. */
import assert from 'node:assert/strict';
import { nixEval, tryNixEval } from './nix-eval.ts';

/** A unit as the module describes it. */
export interface ModuleUnit {
  readonly environment: Readonly<Record<string, string>>;
  readonly restartIfChanged?: boolean;
  readonly stopIfChanged?: boolean;
  readonly wantedBy?: readonly string[];
  readonly serviceConfig: Readonly<Record<string, unknown>>;
  readonly unitConfig: Readonly<Record<string, unknown>>;
}

/** The result of the module for a configuration. */
export interface Evaluated {
  /** True if a definition has the wrong type, contradicts another, or names an unknown option. */
  readonly error?: true;
  /** Messages of the assertions that fail. */
  readonly refusals: readonly string[];
  readonly warnings: readonly string[];
  readonly services: Readonly<Record<string, ModuleUnit>>;
  readonly sockets: Readonly<
    Record<string, { wantedBy: readonly string[]; socketConfig: Readonly<Record<string, unknown>> }>
  >;
  readonly timers: Readonly<Record<string, { timerConfig: Readonly<Record<string, unknown>> }>>;
  readonly paths: Readonly<Record<string, { pathConfig: Readonly<Record<string, unknown>> }>>;
  readonly users: Readonly<Record<string, unknown>>;
  readonly tmpfiles: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly allowedTCPPorts: readonly number[];
  readonly allowedTCPPortRanges: readonly { readonly from: number; readonly to: number }[];
  readonly allowedUDPPorts: readonly number[];
  readonly etc: Readonly<Record<string, string>>;
  readonly nix: Readonly<Record<string, unknown>>;
  /** The config file. */
  readonly toml: string;
  /** Store paths that Nix would build before the config file. */
  readonly context: readonly string[];
}

/**
 * Evaluates configurations in one run of Nix.
 *
 * @param cases Nix expressions of configurations; `pkgs` is in scope, paths are relative to the top folder
 * @param nixpkgsLib undefined for the stub
 */
export function evaluate<Name extends string>(
  cases: Readonly<Record<Name, string>>,
  nixpkgsLib?: string,
): Readonly<Record<Name, Evaluated>> {
  return nixEval(expressionOf(cases, nixpkgsLib)) as Readonly<Record<Name, Evaluated>>;
}

/** Returns Nix's message about a configuration that does not evaluate. */
export function evaluationError(text: string, nixpkgsLib?: string): string {
  const { status, stderr } = tryNixEval(expressionOf({ text }, nixpkgsLib, 'failing = true;'));
  assert.notEqual(status, 0, `it evaluates: ${text}`);
  return stderr;
}

function expressionOf(cases: Readonly<Record<string, string>>, nixpkgsLib = '', more = ''): string {
  const attributes = Object.entries<string>(cases).map(([name, text]) => `${JSON.stringify(name)} = ${text};`);
  return `import ./nix/tests/module-eval.nix {
    nixpkgsLib = ${JSON.stringify(nixpkgsLib)};
    cases = pkgs: { ${attributes.join('\n')} };
    ${more}
  }`;
}

/** Returns a unit. Fails if it is missing. */
export function service(evaluated: Evaluated, name: string): ModuleUnit {
  const found = evaluated.services[name];
  assert.ok(found !== undefined, `there is no ${name}.service`);
  return found;
}
