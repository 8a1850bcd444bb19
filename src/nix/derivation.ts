/** Store derivations: the .drv files that Nix writes when it evaluates (Nix: src/libstore/derivations.cc). */
import { NarswarmError } from '../errors.ts';
import { ATermReader } from './aterm.ts';
import type { StorePath } from './brands.ts';
import { quote } from './quote.ts';
import { parseStorePath } from './store-path.ts';

/** One output of a derivation. */
export interface DerivationOutput {
  /** Where it will lie; undefined where only the build tells (content-addressed and impure derivations). */
  readonly path: StorePath | undefined;
  /** Such as `sha256` or, for the hash of a NAR, `r:sha256`; empty for an ordinary output. */
  readonly hashAlgo: string;
  /** In hex; empty for an ordinary output, and for one whose content is not known before the build. */
  readonly hash: string;
}

/** What Nix builds, and from what. */
export interface Derivation {
  /** By name, such as `out`; at least one. */
  readonly outputs: ReadonlyMap<string, DerivationOutput>;
  /** The derivations that it needs, and the names of the outputs that it needs of each. */
  readonly inputDrvs: ReadonlyMap<StorePath, readonly string[]>;
  /** Store paths that it needs and that nothing builds. */
  readonly inputSrcs: readonly StorePath[];
  /** Such as `x86_64-linux`, or `builtin`. */
  readonly system: string;
  /** Program that builds it, such as `/bin/sh` or `builtin:fetchurl`. */
  readonly builder: string;
  readonly args: readonly string[];
  readonly env: ReadonlyMap<string, string>;
}

/** What stands in place of the hash of an impure derivation. */
const IMPURE = 'impure';

/**
 * Reads the text of a .drv file, as strictly as Nix writes it: nothing may follow it, nothing comes twice.
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

/** Whether the content of its one output is known before it is built, as that of a source that is downloaded. */
export function isFixedOutput({ outputs }: Derivation): boolean {
  const out = outputs.get('out');
  return outputs.size === 1 && out !== undefined && out.hash !== '' && out.hash !== IMPURE;
}

/** Whether only its build tells where an output is: it is addressed by its contents, which nobody knows before. */
export function isFloatingOutput({ outputs }: Derivation, name: string): boolean {
  const output = outputs.get(name);
  return output !== undefined && output.hashAlgo !== '' && output.hash === '';
}

function parseOutputName(text: string): string {
  if (/^[a-zA-Z0-9+\-._?=]{1,211}$/.test(text)) return text;
  throw new NarswarmError('DERIVATION_INVALID', `${quote(text)} is not the name of an output`);
}
