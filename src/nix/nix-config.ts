/** The settings of Nix that narswarm heeds, out of the shapes in which its versions print them. */
import { NarswarmError } from '../errors.ts';

/** Where Nix substitutes from, whom it trusts, and how it downloads. Settings that a version lacks are undefined. */
export interface NixConfig {
  /** URLs of binary caches and other stores, in the order of the configuration. */
  substituters: string[];
  /** `<name>:<base64>`, in the order of the configuration. */
  trustedPublicKeys: string[];
  /** False if narinfos need no signature. */
  requireSigs: boolean;
  /** Files with keys that Nix signs with; it trusts what they have signed. */
  secretKeyFiles: string[];
  /** File with passwords of caches by host. */
  netrcFile: string | undefined;
  /** File with the certificates of authorities (`ssl-cert-file`, from 2.15): the environment is in it. */
  caFile: string | undefined;
  /** Seconds; 0: Nix sets no limit of its own. */
  connectTimeout: number | undefined;
  /** Seconds without a byte. */
  stalledDownloadTimeout: number | undefined;
  downloadAttempts: number | undefined;
}

/**
 * Reads the output of `nix config show` or `nix show-config`, with `--json` or without. In JSON a setting may be an
 * object with a `value` or the value itself, a list or words. A list that is not there is empty.
 *
 * @throws NarswarmError `NIX_FAILED` for JSON in another shape.
 */
export function parseNixConfig(text: string): NixConfig {
  const settings = text.trimStart().startsWith('{') ? parseJson(text) : parseLines(text);
  return {
    substituters: wordsOf(settings, 'substituters'),
    trustedPublicKeys: wordsOf(settings, 'trusted-public-keys'),
    requireSigs: textOf(settings, 'require-sigs') !== 'false',
    secretKeyFiles: wordsOf(settings, 'secret-key-files'),
    netrcFile: textOf(settings, 'netrc-file') || undefined,
    caFile: textOf(settings, 'ssl-cert-file') || undefined,
    connectTimeout: numberOf(settings, 'connect-timeout'),
    stalledDownloadTimeout: numberOf(settings, 'stalled-download-timeout'),
    downloadAttempts: numberOf(settings, 'download-attempts'),
  };
}

/** Reads `trusted-users` of the same output. @throws NarswarmError `NIX_FAILED` for another shape */
export function parseTrustedUsers(text: string): string[] {
  return wordsOf(text.trimStart().startsWith('{') ? parseJson(text) : parseLines(text), 'trusted-users');
}

function parseLines(text: string): Map<string, unknown> {
  return new Map(
    text.split('\n').flatMap((line) => {
      const [, key, value] = /^([^=\s]+) *=(.*)$/.exec(line) ?? [];
      return key === undefined ? [] : [[key, value] as const];
    }),
  );
}

function parseJson(text: string): Map<string, unknown> {
  try {
    return new Map(Object.entries(JSON.parse(text)));
  } catch (cause) {
    throw new NarswarmError('NIX_FAILED', 'nix printed its configuration as broken JSON', { cause });
  }
}

function valueOf(settings: ReadonlyMap<string, unknown>, key: string): unknown {
  const setting = settings.get(key);
  return isRecord(setting) && 'value' in setting ? setting.value : setting;
}

function wordsOf(settings: ReadonlyMap<string, unknown>, key: string): string[] {
  const value = valueOf(settings, key) ?? '';
  if (typeof value === 'string') return value.split(/\s+/).filter((word) => word !== '');
  if (Array.isArray(value) && value.every((word) => typeof word === 'string')) return value;
  throw new NarswarmError('NIX_FAILED', `nix printed the setting ${key} in a shape that narswarm does not know`);
}

/** Text of a setting, without the space around it; undefined if this Nix has none of that name. */
function textOf(settings: ReadonlyMap<string, unknown>, key: string): string | undefined {
  const value = valueOf(settings, key);
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean'
    ? String(value).trim()
    : undefined;
}

function numberOf(settings: ReadonlyMap<string, unknown>, key: string): number | undefined {
  const text = textOf(settings, key) ?? '';
  return /^\d{1,9}$/.test(text) ? Number(text) : undefined;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
