/** Parses the settings of Nix that narswarm uses, in the formats of all its versions. */
import { NarswarmError } from '../../errors.ts';

/** Nix's substituters, trusted keys and download settings. Settings that a version lacks are undefined. */
export interface NixConfig {
  /** URLs of binary caches and other stores, in the order of the configuration. */
  substituters: string[];
  /** `<name>:<base64>`, in the order of the configuration. */
  trustedPublicKeys: string[];
  /** False if narinfos need no signature. */
  requireSigs: boolean;
  /** Files of secret keys. Nix signs with them and trusts their signatures. */
  secretKeyFiles: string[];
  /** File with passwords of caches, by host. */
  netrcFile: string | undefined;
  /** File of certificate authorities (`ssl-cert-file`, from Nix 2.15). Nix has applied its environment already. */
  caFile: string | undefined;
  /** Seconds; 0 if Nix sets no limit of its own. */
  connectTimeout: number | undefined;
  /** Seconds without a byte until a download counts as stalled. */
  stalledDownloadTimeout: number | undefined;
  downloadAttempts: number | undefined;
}

/**
 * Parses the output of `nix config show` or `nix show-config`, with or without `--json`. In JSON a setting may be a
 * value or an object with a `value`; a list may be an array or words. A missing list is empty.
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

/** Writes a configuration as lines that {@link parseNixConfig} reads. Settings that are undefined are left out. */
export function formatNixConfig(config: NixConfig): string {
  const settings = {
    substituters: config.substituters.join(' '),
    'trusted-public-keys': config.trustedPublicKeys.join(' '),
    'require-sigs': config.requireSigs,
    'secret-key-files': config.secretKeyFiles.join(' '),
    'netrc-file': config.netrcFile,
    'ssl-cert-file': config.caFile,
    'connect-timeout': config.connectTimeout,
    'stalled-download-timeout': config.stalledDownloadTimeout,
    'download-attempts': config.downloadAttempts,
  };
  return Object.entries(settings)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key} = ${value}\n`)
    .join('');
}

/** Parses `trusted-users` from the same output. @throws NarswarmError `NIX_FAILED` for another shape */
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
    throw new NarswarmError('NIX_FAILED', 'nix printed its configuration as invalid JSON', { cause });
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

/** Returns the trimmed text of a setting. Undefined if this Nix has no such setting. */
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
