/** Daemons as substituters of the real Nix, in front of a cache that can misbehave. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startHttpCache, type HttpCache } from './http-cache.ts';
import { ALONE, Lab, readNarInfos, type CliProcess, type ProcessOptions } from './lab.ts';
import { NixClient, nixMinorVersion, type NixClientOptions } from './nix-client.ts';

/** Makes a closure in a cache that Nix asks after the daemon: without a priority it would be asked first. */
export async function cacheAfterDaemon(lab: Lab, blobBytes: readonly number[]): Promise<MadeClosure> {
  const made = await lab.closure(blobBytes);
  await writeFile(join(made.cacheDir, 'nix-cache-info'), 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 40\n');
  return made;
}

/** A file of a cache. */
export interface CachedFile {
  /** Its path below the cache, with a leading slash. */
  readonly url: string;
  /** Its path below a substituter that names it. */
  readonly ownUrl: string;
  readonly sizeBytes: number;
  /** Bytes that a substituter gives to this machine's Nix: old ones get the decoded NAR. */
  readonly givenBytes: number;
}

/** The file of a cache that has the most bytes. */
export async function largestOf(made: MadeClosure): Promise<CachedFile> {
  const files = Array.from(await readNarInfos(made.cacheDir), ([hash, { url, fileSize = 0, narSize }]) => ({
    url: `/${url}`,
    ownUrl: `/${url}?path=${hash}`,
    sizeBytes: fileSize,
    givenBytes: nixMinorVersion() < 16 ? narSize : fileSize,
  }));
  const [first] = files.toSorted((a, b) => b.sizeBytes - a.sizeBytes);
  if (first === undefined) throw new Error(`${made.cacheDir} is empty`);
  return first;
}

/** A daemon, the cache that it asks, and the one that Nix asks after it. Both hold the same. */
export interface Substitution extends AsyncDisposable {
  readonly daemon: CliProcess;
  /** Address of the substituter. */
  readonly url: string;
  readonly store: string;
  readonly upstream: HttpCache;
  readonly second: HttpCache;
  /** A Nix with an empty store, which asks the daemon first. */
  nix(settings?: NixClientOptions['settings']): Promise<NixClient>;
}

export interface SubstitutionOptions extends ProcessOptions {
  /** Default: a new one. */
  readonly store?: string;
  /** Default: a free one. */
  readonly port?: string;
}

export async function startSubstitution(
  lab: Lab,
  made: MadeClosure,
  options: SubstitutionOptions = {},
): Promise<Substitution> {
  await using stack = new AsyncDisposableStack();
  const upstream = stack.use(await startHttpCache(made.cacheDir));
  const second = stack.use(await startHttpCache(made.cacheDir));
  const store = options.store ?? (await lab.folder('store'));
  const sources = ['--from', upstream.url, '--trusted-public-key', made.publicKey];
  const listen = ['--substituter-listen', '127.0.0.1', '--substituter-port', options.port ?? '0'];
  const { process: daemon, ready } = await lab.service(
    ['daemon', '--store', store, ...listen, ...sources, ...ALONE],
    options,
  );
  stack.use(daemon);
  const [url = ''] = ready['substituters'] as readonly string[];
  const nix: Substitution['nix'] = (settings) =>
    NixClient.of(lab, {
      substituters: [url, second.url],
      publicKey: made.publicKey,
      ...(settings === undefined ? {} : { settings }),
    });
  const open = stack.move();
  return { daemon, url, store, upstream, second, nix, [Symbol.asyncDispose]: () => open.disposeAsync() };
}

/** The requests for NARs that a cache has got: how often for each. */
export function narRequests({ requests }: HttpCache): Map<string, number> {
  const counts = new Map<string, number>();
  for (const { url } of requests) if (url.startsWith('/nar/')) counts.set(url, (counts.get(url) ?? 0) + 1);
  return counts;
}
