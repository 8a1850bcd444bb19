/**
 * Computes the hash that names a derivation's outputs in a binary cache's `realisations/`. It is the same for
 * derivations that differ only in how their inputs were made (Nix: `hashDerivationModulo` in
 * src/libstore/derivations.cc).
 */
import { createHash } from 'node:crypto';
import type { StorePath } from '../brands.ts';
import { isFixedOutput, type Derivation } from './derivation.ts';

/** Reads the derivation of an input. */
export type ReadDerivation = (path: StorePath) => Promise<Derivation>;

/** Computes these hashes. Reads each derivation once. */
export class DerivationHasher {
  readonly #read: ReadDerivation;
  /**
   * Hashes of inputs. Fixed outputs have one each, under the name of the output; other derivations have one for all
   * outputs.
   */
  readonly #ofInputs = new Map<StorePath, Promise<string>>();

  constructor(read: ReadDerivation) {
    this.#read = read;
  }

  /**
   * Returns the SHA-256 (hex) that comes before the `!` in the ids of a derivation's realisations.
   *
   * @throws the error of reading a derivation
   */
  async outputHash(derivation: Derivation): Promise<string> {
    return isFixedOutput(derivation) ? fixedHash(derivation) : this.#hash(derivation, true);
  }

  async #hash(derivation: Derivation, masksOutputs: boolean): Promise<string> {
    const inputs = new Map<string, Set<string>>();
    for (const [path, names] of derivation.inputDrvs) {
      const hash = await this.#ofInput(path);
      inputs.set(hash, new Set([...(inputs.get(hash) ?? []), ...names]));
    }
    return sha256(format(derivation, inputs, masksOutputs));
  }

  #ofInput(path: StorePath): Promise<string> {
    const known = this.#ofInputs.get(path);
    if (known !== undefined) return known;
    const hash = this.#read(path).then((input) => (isFixedOutput(input) ? fixedHash(input) : this.#hash(input, false)));
    this.#ofInputs.set(path, hash);
    return hash;
  }
}

function fixedHash({ outputs }: Derivation): string {
  const { path = '', hashAlgo = '', hash = '' } = outputs.get('out') ?? {};
  return sha256(`fixed:out:${hashAlgo}:${hash}:${path}`);
}

/** Formats a derivation as Nix does, with hashes instead of its input derivations. */
function format(
  { outputs, inputSrcs, system, builder, args, env }: Derivation,
  inputs: ReadonlyMap<string, ReadonlySet<string>>,
  masksOutputs: boolean,
): string {
  const shown = (path: string): string => (masksOutputs ? '' : path);
  const parts = [
    list(
      outputs,
      ([name, { path = '', hashAlgo, hash }]) => `(${[name, shown(path), hashAlgo, hash].map(quoted).join()})`,
    ),
    list([...inputs].toSorted(byKey), ([hash, names]) => `(${quoted(hash)},${list([...names].toSorted(), quoted)})`),
    list(inputSrcs, quoted),
    quoted(system),
    quoted(builder),
    list(args, quoted),
    list(env, ([name, value]) => `(${quoted(name)},${quoted(outputs.has(name) ? shown(value) : value)})`),
  ];
  return `Derive(${parts.join()})`;
}

function byKey([a]: readonly [string, unknown], [b]: readonly [string, unknown]): number {
  return a < b ? -1 : 1;
}

function list<Item>(items: Iterable<Item>, write: (item: Item) => string): string {
  return `[${Array.from(items, write).join()}]`;
}

const ESCAPES: Readonly<Record<string, string>> = { '\n': 'n', '\r': 'r', '\t': 't' };

function quoted(text: string): string {
  return `"${text.replace(/[\n\r\t"\\]/g, (character) => `\\${ESCAPES[character] ?? character}`)}"`;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('hex');
}
