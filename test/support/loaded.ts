/** Loaded into a process by {@link tellLoaded}: records at the end which modules the process has loaded. */
import { readFileSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { registerHooks } from 'node:module';
import { fileURLToPath } from 'node:url';
import { isMainThread } from 'node:worker_threads';

const to = process.env['LOADED_TO'];

if (to !== undefined && isMainThread) {
  const texts: string[] = [];
  registerHooks({
    load(url, context, next) {
      if (url.startsWith('file:')) texts.push(readFileSync(fileURLToPath(url), 'utf8'));
      return next(url, context);
    },
  });
  process.on('exit', () => {
    const { moduleLoadList } = process as unknown as { moduleLoadList: readonly string[] };
    const loaded: Loaded = {
      webTorrent: texts.some((text) => text.includes('node_modules/webtorrent/index.js')),
      dht: texts.some((text) => text.includes('node_modules/bittorrent-dht/client.js')),
      mdns: texts.some((text) => text.includes('node_modules/dns-packet/index.js')),
      tls: moduleLoadList.includes('NativeModule tls'),
      fetchOfNode: moduleLoadList.some((name) => name.endsWith('internal/deps/undici/undici')),
      fetchOfWebTorrent: texts.some((text) => text.includes('cross-fetch-ponyfill/_node.js')),
    };
    writeFileSync(to, JSON.stringify(loaded));
  });
}

/** Modules that a process has loaded until its end. */
export interface Loaded {
  readonly webTorrent: boolean;
  /** The library of the DHT; WebTorrent brings it along. */
  readonly dht: boolean;
  /** The library that finds caches on the local network. */
  readonly mdns: boolean;
  /** Node's TLS, which parses all certificates of authorities at once, in a thread of its own. */
  readonly tls: boolean;
  readonly fetchOfNode: boolean;
  /** The package with which WebTorrent would follow URLs. */
  readonly fetchOfWebTorrent: boolean;
}

/** Environment of a process that records its modules in a file. */
export function tellLoaded(file: string): Record<string, string> {
  return { NODE_OPTIONS: `--import ${import.meta.url}`, LOADED_TO: file };
}

export async function readLoaded(file: string): Promise<Loaded> {
  return JSON.parse(await readFile(file, 'utf8')) as Loaded;
}
