/**
 * Keeps Nix's configuration in a file, until something that it depends on changes. To ask Nix takes 40 ms of processor
 * time, a fifth of a run that has nothing to do.
 */
import { createHash } from 'node:crypto';
import {
  accessSync,
  constants,
  existsSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, resolve } from 'node:path';
import { formatNixConfig, parseNixConfig, type NixConfig } from './nix-config.ts';
import { readConfigFiles, readNixConfig } from './nix-settings.ts';
import type { CallOptions } from './run-nix.ts';

interface KeptConfig {
  /** SHA-256 of everything that the configuration depends on. */
  readonly origin: string;
  /** The files of settings, with those that they include. */
  readonly files: readonly string[];
  readonly keptAtMs: number;
  readonly settings: string;
}

/** Nix looks for certificates in several places, so a kept answer is not believed for ever. */
const MAX_AGE_MS = 7 * 24 * 3600 * 1000;
const MAX_INCLUDED = 32;

/** The file that lacks an answer of Nix. */
let unkept: string | undefined;

/**
 * Returns what {@link readNixConfig} does, from `file` if that is still true. Otherwise asks Nix.
 *
 * @param file undefined: Nix is asked each time
 * @throws as {@link readNixConfig}
 */
export async function readKeptNixConfig(file: string | undefined, options: CallOptions): Promise<NixConfig> {
  const kept = file === undefined ? undefined : readKept(file);
  if (kept !== undefined) return kept;
  unkept = file;
  return readNixConfig(options);
}

/** Asks Nix again if {@link readKeptNixConfig} had to, and keeps the answer: at the end, when nobody waits for it. */
export async function keepNixConfig(options: CallOptions): Promise<void> {
  const file = unkept;
  unkept = undefined;
  if (file === undefined) return;
  const files = withIncluded(await readConfigFiles(options));
  const origin = originOf(files);
  const config = await readNixConfig(options);
  // Nothing is kept of a configuration that changed while Nix read it.
  if (files.length > 0 && origin !== undefined && origin === originOf(files)) {
    keep(file, { origin, files, keptAtMs: Date.now(), settings: formatNixConfig(config) });
  }
}

function readKept(file: string): NixConfig | undefined {
  try {
    const { origin, files, keptAtMs, settings } = JSON.parse(readFileSync(file, 'utf8')) as KeptConfig;
    const ageMs = Date.now() - keptAtMs;
    if (!(ageMs >= 0 && ageMs < MAX_AGE_MS) || originOf(files) !== origin) return undefined;
    const config = parseNixConfig(settings);
    return config.caFile === undefined || existsSync(config.caFile) ? config : undefined;
  } catch {
    return undefined; // missing, or damaged
  }
}

function keep(file: string, kept: KeptConfig): void {
  const temporary = `${file}.${process.pid}`;
  try {
    writeFileSync(temporary, JSON.stringify(kept), { mode: 0o600 }); // addresses of caches may have passwords
    renameSync(temporary, file);
  } catch {
    // Nix is asked again the next time.
  }
}

/** Returns the digest of what the configuration depends on. Undefined if there is no `nix`. */
function originOf(files: readonly string[]): string | undefined {
  const program = programOf('nix');
  if (program === undefined) return undefined;
  const { ino, size, mtimeMs, ctimeMs } = statSync(program);
  const hash = createHash('sha256');
  hash.update(JSON.stringify([program, ino, size, mtimeMs, ctimeMs, process.getuid?.(), variables()]));
  for (const path of files) hash.update(JSON.stringify([path, readIfThere(path)]));
  return hash.digest('hex');
}

/** Returns the variables that Nix takes settings, or the places of settings, from. */
function variables(): [name: string, value: string | undefined][] {
  const names = Object.keys(process.env).filter((name) => /^(?:NIX_|LIX_|XDG_|HOME$|USER$|SSL_CERT_)/.test(name));
  return names.toSorted().map((name) => [name, process.env[name]]);
}

/** Returns the program that PATH names, with all links resolved. */
function programOf(name: string): string | undefined {
  for (const dir of (process.env['PATH'] ?? '').split(':')) {
    try {
      const path = resolve(dir, name);
      accessSync(path, constants.X_OK);
      return realpathSync(path);
    } catch {
      // the next folder
    }
  }
  return undefined;
}

/** Adds the files that are included (`include FILE`, `!include FILE`; Nix: src/libutil/config.cc). */
function withIncluded(files: readonly string[]): string[] {
  const all = new Set(files);
  for (const path of all) {
    for (const [, included = ''] of (readIfThere(path) ?? '').matchAll(/^[ \t]*!?include[ \t]+(\S+)/gm)) {
      if (all.size < MAX_INCLUDED) all.add(resolve(dirname(path), included));
      else return [];
    }
  }
  return [...all];
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
