/** A substituter on an HTTP port, with one upstream that can misbehave. */
import { randomBytes } from 'node:crypto';
import { HttpPort } from '../../src/daemon/http-port.ts';
import { HttpClient } from '../../src/http/client.ts';
import { parseUpstream } from '../../src/http/upstream.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';
import { StoreOffer } from '../../src/serve/store-offer.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { addRoutes } from '../../src/substituter/routes.ts';
import { Substituter, type SubstituterOptions } from '../../src/substituter/substituter.ts';
import type { Warning } from '../../src/warning.ts';
import { startHttpCache, type HttpCache } from '../support/http-cache.ts';
import type { Lab } from '../support/lab.ts';
import { WrittenCache, type WrittenPath } from '../support/written-cache.ts';

export interface Scene {
  readonly store: FileStore;
  readonly offer: StoreOffer;
  /** The upstream, and what it holds: `top` refers to `middle`, and that to `leaf`. */
  readonly cache: HttpCache;
  /** The folder of the upstream. */
  readonly cacheDir: string;
  readonly written: WrittenCache;
  readonly top: WrittenPath;
  readonly middle: WrittenPath;
  readonly leaf: WrittenPath;
  /** Paths that `top` refers to, too. Each refers to the one before it. */
  readonly others: readonly WrittenPath[];
  readonly substituter: Substituter;
  readonly url: string;
  readonly warnings: readonly Warning[];
  /** The options of the substituter. A test may change when fetches end, and its sources. */
  readonly options: { idleMs?: number; lookingMs?: number; sources: SubstituterOptions['sources'] };
}

/** @param options.leafBytes size of the leaf's contents, which do not compress */
export async function scene(
  lab: Lab,
  {
    leafBytes = 100,
    shares = true,
    others: count = 0,
    ...more
  }: { readonly leafBytes?: number; readonly shares?: boolean; readonly others?: number } & Pick<
    SubstituterOptions,
    'lookingMs' | 'onEnded' | 'stillMs'
  > = {},
): Promise<Scene> {
  const written = await WrittenCache.create(await lab.folder('cache'), 'substituter-1');
  const leaf = await written.add('leaf', { contents: randomBytes(Math.ceil(leafBytes / 2)).toString('hex') });
  const middle = await written.add('middle', { references: [leaf.baseName] });
  const others: WrittenPath[] = [];
  for (let index = 0; index < count; index++)
    others.push(
      await written.add(`other-${index}`, {
        contents: randomBytes(300_000).toString('hex'),
        references: others.slice(-1).map(({ baseName }) => baseName),
      }),
    );
  const top = await written.add('top', { references: [middle, ...others].map(({ baseName }) => baseName) });
  const cache = lab.use(await startHttpCache(written.dir));
  const store = await FileStore.open(await lab.folder('store'), { create: true });
  const keys = [parsePublicKey(written.publicKey)];
  const warnings: Warning[] = [];
  const onWarning = (warning: Warning): number => warnings.push(warning);
  const offer = lab.use(await StoreOffer.open({ store, keys, shareKeys: shares ? keys : [], onWarning }));
  const http = lab.use(new HttpClient({ backoffMs: 10, retries: 1 }));
  const options: SubstituterOptions & Scene['options'] = {
    store,
    network: undefined,
    http,
    offer,
    keys,
    onWarning,
    ...more,
    sources: async () => ({ near: [], upstreams: [parseUpstream(cache.url)], publishers: [] }),
  };
  const substituter = lab.use(new Substituter(options));
  const port = lab.use(
    await HttpPort.open({
      listen: [{ host: '127.0.0.1', port: 0 }],
      routes: (app) => addRoutes(app, substituter),
    }),
  );
  const url = `http://127.0.0.1:${port.addresses[0]?.port}`;
  const cacheDir = written.dir;
  return { store, offer, cache, cacheDir, written, top, middle, leaf, others, substituter, url, warnings, options };
}

/** The URL of a path's narinfo. */
export function narInfoUrl({ url }: Scene, { baseName }: WrittenPath): string {
  return `${url}/${baseName.slice(0, 32)}.narinfo`;
}

/** The URL of a path's NAR, as its narinfo names it. */
export function narUrl({ url }: Scene, { info, baseName }: WrittenPath): string {
  return `${url}/${info.url}?path=${baseName.slice(0, 32)}`;
}
