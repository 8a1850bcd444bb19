import { resolve } from 'node:path';
import type { Tell } from '../fetch/events.ts';
import { Workplace, type WorkplaceOptions } from '../fetch/workplace.ts';
import { NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { followToStore } from '../nix/follow-links.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { lackOf } from '../subscription/fetch-resolution.ts';
import type { Lack } from '../subscription/state/missing.ts';
import { asError } from '../warning.ts';
import { assertMayMount, assertMountPoint, MountedDevice } from './device.ts';
import { openHashMaps, waysToNar, type FindNarMeans, type MountSources } from './find-nar.ts';
import { Listings } from './listings.ts';
import { MountFolder } from './mount-folder.ts';
import { parseRequest } from './protocol.ts';
import { Trees } from './trees.ts';
import { Unpacker } from './unpacker.ts';
import { UnpackedNars } from './unpacked-nars.ts';
import { View } from './view.ts';

/** Events of a mount. */
export type MountEvent =
  /** It can be looked at. `paths`, and the bytes of their unpacked NARs. */
  | { readonly type: 'mounted'; readonly dir: string; readonly paths: number; readonly narBytes: number }
  /** A file in a path was opened for the first time, or the path could not be listed otherwise. */
  | { readonly type: 'opening'; readonly path: StorePath; readonly narSize: number }
  | { readonly type: 'opened'; readonly path: StorePath; readonly durationMs: number }
  /** The program got an input/output error. The next program that opens the file tries again. */
  | { readonly type: 'failed'; readonly path: StorePath | undefined; readonly error: Error }
  /** No cache has a listing of a path, so its NAR is fetched to list it. */
  | { readonly type: 'unlisted'; readonly path: StorePath };

export interface MountOptions extends WorkplaceOptions {
  readonly sources: MountSources;
  readonly dir: string;
  /** Store paths, their hash parts, or names of roots in a hash map. */
  readonly roots: readonly string[];
  readonly signal: AbortSignal;
  readonly tell: Tell;
  readonly onMount: (event: MountEvent) => void;
  /** Makes the error of missing paths. */
  readonly lackError: (error: NarswarmError, lack: Lack | undefined) => NarswarmError;
}

/**
 * Shows a closure below a folder, read-only, until somebody unmounts it or the signal is aborted. Walks the closure
 * first, and writes its narinfos into the file store; NARs are fetched when a file in them is opened.
 *
 * @throws MOUNT_FAILED; as {@link Workplace.prefetch}
 */
export async function mountClosure(options: MountOptions): Promise<void> {
  const { roots, sources, signal, tell, onMount } = options;
  const dir = resolve(options.dir);
  assertMayMount();
  await assertMountPoint(dir);
  await using workplace = await Workplace.open(options);
  const { store } = workplace;
  if ((await followToStore(dir, store.storeDir).catch(() => undefined)) !== undefined)
    throw new NarswarmError('MOUNT_FAILED', `${dir} is in the Nix store: name a folder elsewhere`);
  // The narinfos of all paths are there from now on, so that each NAR can be committed by itself.
  const { closure, missing } = await workplace.prefetch(
    { ...sources, roots, keepGoing: true, copy: false, holdAll: true, wantedOf: async () => new Set() },
    { tell, signal },
  );
  signal.throwIfAborted();
  const { error, lack } = lackOf(missing, []);
  if (error !== undefined) throw options.lackError(error, lack);

  await using folder = await MountFolder.open(store);
  const stop = new AbortController();
  await using unpacker = new Unpacker(stop.signal);
  const means: FindNarMeans = { workplace, sources, unpacker, tell, signal: stop.signal };
  await openHashMaps(means);
  const nars = new UnpackedNars(folder, {
    waysTo: (info) => waysToNar(info, means),
    onUnpacking: (info, done) => tellUnpacking(info, done, onMount),
  });
  const listings = new Listings(sources.upstreams, workplace.http, stop.signal);
  const onUnlisted = ({ storePath }: NarInfo): void => onMount({ type: 'unlisted', path: storePath });
  const view = new View(
    closure,
    { trees: new Trees(folder), listings, nars, onUnlisted },
    (answer) => device.send(answer),
    (failure, path) => {
      if (!stop.signal.aborted) onMount({ type: 'failed', path: path?.info.storePath, error: asError(failure) });
    },
  );
  const device: MountedDevice = await MountedDevice.mount(dir, (bytes) => void view.take(parseRequest(bytes)));
  try {
    const narBytes = [...closure.values()].reduce((sum, { narSize }) => sum + narSize, 0);
    onMount({ type: 'mounted', dir, paths: closure.size, narBytes });
    await Promise.race([device.ended, aborted(signal)]);
  } finally {
    stop.abort(new NarswarmError('INTERRUPTED', 'it was unmounted'));
    await device[Symbol.asyncDispose]();
    await view[Symbol.asyncDispose]();
  }
}

function tellUnpacking(
  { storePath: path, narSize }: NarInfo,
  done: Promise<unknown>,
  onMount: MountOptions['onMount'],
): void {
  const startedAtMs = performance.now();
  onMount({ type: 'opening', path, narSize });
  done.then(
    () => onMount({ type: 'opened', path, durationMs: performance.now() - startedAtMs }),
    () => undefined, // the program gets the error
  );
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve();
  return new Promise((done) => signal.addEventListener('abort', () => done(), { once: true }));
}
