/** The two settings of Nix that narswarm starts from, out of the shapes in which its versions print them. */
import { NarswarmError } from '../errors.ts';

/** Where Nix substitutes from and whom it trusts. */
export interface NixConfig {
  /** URLs of binary caches, in the order of the configuration. */
  substituters: string[];
  /** `<name>:<base64>`, in the order of the configuration. */
  trustedPublicKeys: string[];
}

/**
 * Reads the output of `nix config show` or `nix show-config`, with `--json` or without. In JSON a setting may be an
 * object with a `value` or the value itself, a list or words. A setting that is not there is empty.
 *
 * @throws NarswarmError `NIX_FAILED` for JSON in another shape.
 */
export function parseNixConfig(text: string): NixConfig {
  const settings = text.trimStart().startsWith('{') ? parseJson(text) : parseLines(text);
  return {
    substituters: wordsOf(settings, 'substituters'),
    trustedPublicKeys: wordsOf(settings, 'trusted-public-keys'),
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

function wordsOf(settings: ReadonlyMap<string, unknown>, key: string): string[] {
  const setting = settings.get(key) ?? '';
  const value = isRecord(setting) ? setting.value : setting;
  if (typeof value === 'string') return value.split(/\s+/).filter((word) => word !== '');
  if (Array.isArray(value) && value.every((word) => typeof word === 'string')) return value;
  throw new NarswarmError('NIX_FAILED', `nix printed the setting ${key} in a shape that narswarm does not know`);
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
