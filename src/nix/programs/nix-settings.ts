/** Asks Nix for its version, its configuration and its stores. */
import { parseNixConfig, parseTrustedUsers, type NixConfig } from './nix-config.ts';
import { nixFailed, runFirstKnown, askNix, storeArgs, type CallOptions, type StoreCallOptions } from './run-nix.ts';
import { parseStoreInfo, type StoreDescription } from './store-info.ts';

/** The old name first: newer versions still know it, and older ones start only once. */
const SHOW_CONFIG = [['show-config', '--json'], ['config', 'show', '--json'], ['config', 'show'], ['show-config']];

const STORE_INFO = [
  ['store', 'ping', '--json'],
  ['store', 'ping'],
  ['store', 'info', '--json'],
];

/**
 * Reads the substituters and keys of this machine's Nix configuration, in its order.
 *
 * @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words.
 */
export async function readNixConfig(options: CallOptions = {}): Promise<NixConfig> {
  return parseNixConfig((await runFirstKnown(SHOW_CONFIG, options)).stdout);
}

/**
 * Returns the files that Nix reads its settings from, whether they exist or not. Empty if this Nix does not tell.
 *
 * @throws NarswarmError `NIX_MISSING`
 */
export async function readConfigFiles(options: CallOptions = {}): Promise<string[]> {
  const { stdout } = await askNix('nix', ['--version', '--verbose'], options);
  const [, system] = /^System configuration file: "?([^"\n]+)"?$/m.exec(stdout) ?? [];
  const [, users] = /^User configuration files: (.*)$/m.exec(stdout) ?? [];
  return system === undefined || users === undefined ? [] : [system, ...users.split(':').filter((path) => path !== '')];
}

/** Reads the version of Nix, such as `2.26.3`. @throws as {@link readNixConfig} */
export async function nixVersion(options: CallOptions = {}): Promise<string> {
  const result = await askNix('nix', ['--version'], options);
  if (result.failed) throw nixFailed(result);
  return result.stdout.trim().split(' ').at(-1) ?? '';
}

/**
 * Returns true if one `nix copy` decodes several NARs at a time. Nix 2.8 does not, 2.26 does; Lix has larger numbers.
 *
 * @throws as {@link readNixConfig}
 */
export async function decodesInParallel(options: CallOptions = {}): Promise<boolean> {
  const [major = 0, minor = 0] = (await nixVersion(options)).split('.').map(Number);
  return major > 2 || (major === 2 && minor >= 26);
}

/** Reads `trusted-users`: the Nix daemon accepts settings of these users. @throws as {@link readNixConfig} */
export async function readTrustedUsers(options: CallOptions = {}): Promise<string[]> {
  return parseTrustedUsers((await runFirstKnown(SHOW_CONFIG, options)).stdout);
}

/** Connects to a store. @throws NarswarmError `NIX_MISSING`, or `NIX_FAILED` in Nix's own words */
export async function describeStore(options: StoreCallOptions = {}): Promise<StoreDescription> {
  const commands = STORE_INFO.map((command) => command.concat(storeArgs(options)));
  const { stdout, stderr } = await runFirstKnown(commands, options);
  return parseStoreInfo(stdout === '' ? stderr : stdout);
}
