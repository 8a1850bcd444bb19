/** Store derivations: the .drv files that Nix writes during evaluation (Nix: src/libstore/derivations.cc). */
import { NarswarmError } from '../../errors.ts';
import { ATermReader } from './aterm.ts';
import type { StorePath } from '../brands.ts';
import { quote } from '../quote.ts';
import { parseStorePath } from '../store-path.ts';

export interface DerivationOutput {
  /** The path of the output. Undefined if only the build decides it (content-addressed and impure derivations). */
  readonly path: StorePath | undefined;
  /** The algorithm, such as `sha256`, or `r:sha256` for the hash of a NAR. Empty for an ordinary output. */
  readonly hashAlgo: string;
  /** The hash in hex. Empty for an ordinary output, and for contents that are unknown before the build. */
  readonly hash: string;
}

/** The inputs and the recipe of a build. */
export interface Derivation {
  /** Outputs by name, such as `out`. Never empty. */
  readonly outputs: ReadonlyMap<string, DerivationOutput>;
  /** Input derivations, each with the names of its needed outputs. */
  readonly inputDrvs: ReadonlyMap<StorePath, readonly string[]>;
  /** Input store paths that are not built. */
  readonly inputSrcs: readonly StorePath[];
  /** The system, such as `x86_64-linux` or `builtin`. */
  readonly system: string;
  /** The program that builds it, such as `/bin/sh` or `builtin:fetchurl`. */
  readonly builder: string;
  readonly args: readonly string[];
  readonly env: ReadonlyMap<string, string>;
}

/** The hash that Nix writes for an impure derivation. */
const IMPURE = 'impure';

/**
 * Reads the text of a .drv file, as strictly as Nix writes it: nothing may repeat and nothing may follow it.
 *
 * @throws NarswarmError `DERIVATION_INVALID` and nothing else; `facts.offset` counts characters from 0.
 */
export function parseDerivation(text: string): Derivation {
  const reader = new ATermReader(text);
  if (text.startsWith('DrvWithVersion(')) throw reader.refuse('it is a dynamic derivation, which narswarm cannot read');
  const storePath = (): StorePath => reader.checked(reader.string(), parseStorePath);
  const name = (): string => reader.checked(reader.string(), parseOutputName);
  const strings = (): string[] => reader.list(() => reader.string());

  reader.expect('Derive(');
  const outputs = reader.map(name, () => {
    const path = reader.next(() => reader.string());
    return {
      path: path === '' ? undefined : reader.checked(path, parseStorePath),
      hashAlgo: reader.next(() => reader.string()),
      hash: reader.next(() => reader.string()),
    };
  });
  if (outputs.size === 0) throw reader.refuse('it has no output');
  const inputDrvs = reader.next(() => reader.map(storePath, () => reader.next(() => reader.list(name))));
  const inputSrcs = reader.next(() => reader.list(storePath));
  const system = reader.next(() => reader.string());
  const builder = reader.next(() => reader.string());
  const args = reader.next(strings);
  const env = reader.next(() =>
    reader.map(
      () => reader.string(),
      () => reader.next(() => reader.string()),
    ),
  );
  reader.expect(')');
  reader.end();
  return { outputs, inputDrvs, inputSrcs, system, builder, args, env };
}

/** Returns true if the hash of the only output is known before the build, as for a downloaded source. */
export function isFixedOutput({ outputs }: Derivation): boolean {
  const out = outputs.get('out');
  return outputs.size === 1 && out !== undefined && out.hash !== '' && out.hash !== IMPURE;
}

/**
 * Returns true if only the build decides an output's path: the path follows from contents that are not known before.
 */
export function isFloatingOutput({ outputs }: Derivation, name: string): boolean {
  const output = outputs.get(name);
  return output !== undefined && output.hashAlgo !== '' && output.hash === '';
}

/**
 * Returns true if Nix makes an output on the machine that needs it: nixpkgs marks what is made of a configuration in
 * this way (`preferLocalBuild`, `allowSubstitutes`), such as files of /etc and units.
 */
export function isMadeLocally({ env }: Derivation): boolean {
  const structured = env.get('__json');
  const { preferLocalBuild, allowSubstitutes } =
    structured === undefined ? Object.fromEntries(env) : structuredAttributes(structured);
  return preferLocalBuild === '1' || preferLocalBuild === true || allowSubstitutes === '' || allowSubstitutes === false;
}

function structuredAttributes(json: string): Readonly<Record<string, unknown>> {
  try {
    return Object(JSON.parse(json));
  } catch {
    return {}; // Nix would refuse to build it
  }
}

function parseOutputName(text: string): string {
  if (/^[a-zA-Z0-9+\-._?=]{1,211}$/.test(text)) return text;
  throw new NarswarmError('DERIVATION_INVALID', `${quote(text)} is not the name of an output`);
}
