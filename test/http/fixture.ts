/** A cache of two files, a client that hardly waits before it tries again, and a sink that keeps its bytes. */

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { HttpClient, type HttpClientOptions } from '../../src/http/client.ts';
import { type HttpCache, startHttpCache } from '../support/http-cache.ts';

export const NAR = Buffer.from(Array.from({ length: 200_000 }, (_, index) => (index * 7 + (index >> 8)) & 0xff));
/** Limit for tests in which the cache stalls. A busy machine gives a process no time for half a second at most. */
export const STALL_MS = 1_500;
export const CACHE_INFO = Buffer.from('StoreDir: /nix/store\n');

export interface Fixture extends AsyncDisposable {
  readonly root: string;
  readonly cache: HttpCache;
  readonly client: HttpClient;
  readonly narUrl: string;
  readonly infoUrl: string;
}

export async function startFixture(options: HttpClientOptions = {}): Promise<Fixture> {
  const root = await mkdtemp(join(tmpdir(), 'narswarm-http-'));
  await mkdir(join(root, 'nar'));
  await writeFile(join(root, 'nar/x.nar.xz'), NAR);
  await writeFile(join(root, 'nix-cache-info'), CACHE_INFO);
  const cache = await startHttpCache(root);
  const client = new HttpClient({ backoffMs: 1, retries: 2, ...options });
  return {
    root,
    cache,
    client,
    narUrl: `${cache.url}/nar/x.nar.xz`,
    infoUrl: `${cache.url}/nix-cache-info`,
    async [Symbol.asyncDispose]() {
      await client.close();
      await cache.stop();
      await rm(root, { recursive: true });
    },
  };
}

/** A sink that throws if a byte is repeated or out of order. */
export class Collector {
  readonly #chunks: Uint8Array[] = [];
  #position: number;

  constructor(offset = 0) {
    this.#position = offset;
  }

  readonly sink = (chunk: Uint8Array, offset: number): void => {
    if (offset !== this.#position) throw new Error(`byte ${offset} delivered where ${this.#position} was due`);
    this.#chunks.push(Buffer.from(chunk)); // a chunk is lent
    this.#position += chunk.length;
  };

  get bytes(): Buffer {
    return Buffer.concat(this.#chunks);
  }
}
