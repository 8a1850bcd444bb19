/**
 * Realisations: records of the store path that a content-addressed output became, as binary caches keep them. Up to Nix
 * 2.34 they are in `realisations/<hash>!<output>.doi`, later in `build-trace-v2/<derivation>/<output>.doi` (Nix:
 * src/libstore/realisation.cc, binary-cache-store.cc).
 */
import { sign } from 'node:crypto';
import { NarswarmError, isNarswarmError } from '../errors.ts';
import { judgeSignature, type PublicKey, type SecretKey } from './signature.ts';
import type { NarInfo } from './narinfo.ts';
import { baseNameOf, parseBaseName } from './store-path.ts';

/** One realisation in a binary cache. */
export interface Realisation {
  /** Its file, relative to the cache. The name says which output it is about. */
  readonly file: string;
  /** The contents of the file, on one line. Nix reads them and checks their signatures. */
  readonly text: string;
  /** Base name of the path that the output became. */
  readonly outPath: string;
  /** Realisations that Nix needs along with this one: their files, with the base names of their paths. */
  readonly dependents: ReadonlyMap<string, string>;
  /** The signed part. */
  readonly fingerprint: string;
  /** `<key name>:<base64>`; not checked here. */
  readonly signatures: readonly string[];
}

/** Limit on the size of a realisation. It takes some hundred bytes, and a hundred for each dependency. */
export const MAX_REALISATION_BYTES = 256 * 1024;

const HASH = /^realisations\/(sha256:[0-9a-f]{64})!([a-zA-Z0-9+\-._?=]{1,211})\.doi$/;
const TRACE = /^build-trace-v2\/([0-9a-z]{32}-[a-zA-Z0-9+\-._?=]{1,211}\.drv)\/([a-zA-Z0-9+\-._?=]{1,211})\.doi$/;

/**
 * Returns the file of an output in caches of Nix up to 2.34, by the hash of its derivation ({@link DerivationHasher}).
 */
export function realisationFile(derivationHash: string, outputName: string): string {
  return `realisations/sha256:${derivationHash}!${outputName}.doi`;
}

/** Returns the file of an output in caches of Nix from 2.35 on, by the base name of its derivation. */
export function buildTraceFile(derivation: string, outputName: string): string {
  return `build-trace-v2/${derivation}/${outputName}.doi`;
}

/** Returns true for a name of a realisation's file. Any other could lead anywhere on the disk, or in a cache. */
export function isRealisationFile(file: string): boolean {
  return HASH.test(file) || TRACE.test(file);
}

/** A path that a content-addressed derivation may have made. Only the derivation shows whether it did. */
export interface Made {
  /** Base name of the path. */
  readonly outPath: string;
  /** Base name of the .drv file that built it, whose inputs were already resolved. */
  readonly deriver: string;
  /** Name of the derivation, without `.drv`. */
  readonly derivationName: string;
  readonly outputName: string;
}

/**
 * Returns the output that a path may be, judged by its narinfo. Undefined if no content-addressed derivation can have
 * made it.
 */
export function madeBy({ storePath, ca, deriver }: Pick<NarInfo, 'storePath' | 'ca' | 'deriver'>): Made | undefined {
  if (ca?.startsWith('fixed:') !== true || deriver?.endsWith('.drv') !== true) return undefined;
  const outPath = baseNameOf(storePath);
  const name = outPath.slice(33);
  const derivationName = deriver.slice(33, -'.drv'.length);
  if (name === derivationName) return { outPath, deriver, derivationName, outputName: 'out' };
  if (!name.startsWith(`${derivationName}-`)) return undefined;
  return { outPath, deriver, derivationName, outputName: name.slice(derivationName.length + 1) };
}

/** Reads the output of `nix realisation info --json`. Skips unknown entries. */
export function parseRealisations(json: string): Realisation[] {
  const values: unknown = JSON.parse(json);
  return list(values).flatMap((value) => {
    const id = isRecord(value) ? value['id'] : undefined;
    return typeof id === 'string' ? (parseRealisation(`realisations/${id}.doi`, JSON.stringify(value)) ?? []) : [];
  });
}

/** Adds a signature to a realisation. Returns the same object if the key has already signed it. */
export function signRealisation(realisation: Realisation, { name, key }: SecretKey): Realisation {
  const { file, fingerprint, signatures, text } = realisation;
  const signature = `${name}:${sign(null, Buffer.from(fingerprint), key).toString('base64')}`;
  if (signatures.includes(signature)) return realisation;
  const value = { ...(JSON.parse(text) as object), signatures: [...signatures, signature] };
  return parseRealisation(file, JSON.stringify(value)) ?? realisation;
}

/** Reads a realisation. Undefined if the name is not one of a realisation, or the text does not belong to the name. */
export function parseRealisation(file: string, text: string): Realisation | undefined {
  if (text.length > MAX_REALISATION_BYTES) return undefined;
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? (readHashed(file, value) ?? readTrace(file, value)) : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || isNarswarmError(error)) return undefined;
    throw error;
  }
}

/** Returns true if one of the keys has signed a realisation: Nix registers only those. Never throws. */
export function isTrustedRealisation({ fingerprint, signatures }: Realisation, keys: readonly PublicKey[]): boolean {
  const message = Buffer.from(fingerprint);
  return signatures.some((signature) => judgeSignature(signature, message, keys) === 'good');
}

function readHashed(file: string, value: Record<string, unknown>): Realisation | undefined {
  const [, hash, output] = HASH.exec(file) ?? [];
  if (hash === undefined || value['id'] !== `${hash}!${output}`) return undefined;
  const outPath = parseBaseName(asText(value['outPath']));
  const of = value['dependentRealisations'] ?? {};
  const pairs = Object.entries(isRecord(of) ? of : {}).map(([id, path]) => [id, parseBaseName(asText(path))] as const);
  const dependents = pairs.toSorted(([a], [b]) => (a < b ? -1 : 1));
  const signed = { dependentRealisations: Object.fromEntries(dependents), id: value['id'], outPath };
  return {
    file,
    text: JSON.stringify(value),
    outPath,
    dependents: new Map(dependents.map(([id, path]) => [`realisations/${id}.doi`, path])),
    fingerprint: JSON.stringify(signed),
    signatures: list(value['signatures']).map(asText),
  };
}

function readTrace(file: string, value: Record<string, unknown>): Realisation | undefined {
  const [, derivation, outputName] = TRACE.exec(file) ?? [];
  if (derivation === undefined) return undefined;
  const outPath = parseBaseName(asText(value['outPath']));
  const signatures = list(value['signatures']).map((signature) =>
    isRecord(signature) ? `${asText(signature['keyName'])}:${asText(signature['sig'])}` : asText(signature),
  );
  const signed = { key: { drvPath: derivation, outputName }, value: { outPath } };
  return {
    file,
    text: JSON.stringify(value),
    outPath,
    dependents: new Map(),
    fingerprint: JSON.stringify(signed),
    signatures,
  };
}

function asText(value: unknown): string {
  if (typeof value === 'string') return value;
  throw new NarswarmError('NARINFO_INVALID', 'corrupt realisation');
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
