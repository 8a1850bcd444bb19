/** The link to an imported root that `fetch --out-link` makes, as `nix build` does. */
import { constants } from 'node:fs';
import { access, lstat, readdir, readlink, realpath, rm, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { makeFolder } from '../../disk/make-folder.ts';
import { ownName, stateOfOwner } from '../../disk/owner.ts';
import { storeError, systemCode } from '../../disk/store-error.ts';
import { NarswarmError } from '../../errors.ts';
import type { StorePath } from '../../nix/brands.ts';
import { quote } from '../../nix/quote.ts';
import { linkRoots, placeOfRoots } from '../../nix/roots/root-links.ts';
import type { StoreCallOptions } from '../../nix/programs/run-nix.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import { inState } from '../../store/state-folder.ts';

/** Folder of the links of running fetches. No subscription has such a name. */
const RUNNING = '.fetch';

/**
 * Links that keep imported roots from Nix's garbage collector. Until the import is complete, they are in a folder of this
 * process, so that the user's own link changes only then.
 */
export class OutLink implements AsyncDisposable {
  readonly #file: string;
  readonly #parent: string;
  readonly #nixStoreDir: string;
  readonly #options: StoreCallOptions;
  #own: string | undefined;

  private constructor(
    file: string,
    files: Pick<Parameters<typeof OutLink.open>[1], 'stateDir' | 'nixStoreDir'>,
    options: StoreCallOptions,
  ) {
    this.#file = file;
    this.#parent = parentOf(files);
    this.#nixStoreDir = files.nixStoreDir;
    this.#options = options;
  }

  /**
   * @param files.count number of links that are certain: an installable may have more outputs
   * @param options.store the target of the import
   * @throws USAGE if something else is at one of those places, if their folder is missing, not writable or in the Nix store, or if
   *   no link on this machine can keep paths of the store; NIX_MISSING, NIX_FAILED
   */
  static async open(
    text: string,
    files: { readonly stateDir: string; readonly nixStoreDir: string; readonly count: number },
    options: StoreCallOptions,
  ): Promise<OutLink> {
    const file = resolve(text);
    const folder = await stat(dirname(file)).catch(() => undefined);
    if (folder?.isDirectory() !== true)
      throw new NarswarmError('USAGE', `there is no folder ${dirname(file)} for --out-link: make it first`);
    const place = await realpath(dirname(file));
    if (`${place}/`.startsWith(`${files.nixStoreDir}/`))
      throw new NarswarmError('USAGE', `--out-link would be in the Nix store, in ${place}: choose another folder`);
    await access(dirname(file), constants.W_OK).catch((cause: unknown) => {
      const why = systemCode(cause) ?? String(cause);
      const message = `--out-link cannot write ${dirname(file)} (${why}): choose a folder that is yours`;
      throw new NarswarmError('USAGE', message, { cause });
    });
    for (let index = 0; index < files.count; index++) await assertFree(linkAt(file, index), files.nixStoreDir);
    if ((await placeOfRoots(options)) !== 'here')
      throw new NarswarmError('USAGE', '--out-link keeps paths of a Nix store on this machine only: leave it out');
    return new OutLink(file, files, options);
  }

  /** Keeps paths that are about to be imported. @throws STORE_FULL, STORE_UNWRITABLE; NIX_FAILED; the signal's reason */
  async keep(paths: readonly StorePath[]): Promise<void> {
    const own = (this.#own ??= resolve(this.#parent, await ownName()));
    await inFolder(own, async () => {
      await makeFolder(own);
      await linkRoots(new Map(paths.map((path) => [join(own, baseNameOf(path)), path])), this.#options);
    });
  }

  /**
   * Makes the link to the first root, and links with `-1`, `-2`, … after its name to the others.
   *
   * @returns the links
   * @throws as {@link keep}; USAGE if something else is at one of those places: then there is none
   */
  async link(roots: readonly StorePath[]): Promise<ReadonlyMap<string, StorePath>> {
    const links = new Map(roots.map((root, index) => [linkAt(this.#file, index), root]));
    for (const link of links.keys()) await assertFree(link, this.#nixStoreDir);
    await inFolder(dirname(this.#file), () => linkRoots(links, this.#options));
    return links;
  }

  /** Removes the links of this process, and those of processes that were killed. Never fails: a later one does it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await removeLinks(this.#parent, (folder) => folder === this.#own);
  }
}

/** Removes the links of fetches that were killed. Never fails: a later run does it. */
export async function removeEndedLinks(files: { readonly stateDir: string }): Promise<void> {
  await removeLinks(parentOf(files), () => false);
}

async function removeLinks(parent: string, isOwn: (folder: string) => boolean): Promise<void> {
  for (const owner of await readdir(parent).catch(() => [])) {
    const folder = resolve(parent, owner);
    if (!isOwn(folder) && (await stateOfOwner(owner)) !== 'gone') continue;
    await rm(folder, { recursive: true, force: true }).catch(() => undefined);
  }
}

function parentOf(files: { readonly stateDir: string }): string {
  return join(inState(files, 'gcroots'), RUNNING);
}

function linkAt(file: string, index: number): string {
  return index === 0 ? file : `${file}-${index}`;
}

/** @throws USAGE if there is anything but a link into the Nix store */
async function assertFree(file: string, nixStoreDir: string): Promise<void> {
  const target = await readlink(file).catch(() => undefined);
  if (target?.startsWith(`${nixStoreDir}/`) === true || (await lstat(file).catch(() => undefined)) === undefined)
    return;
  throw new NarswarmError('USAGE', `${quote(file)} is no link into the Nix store: remove it, or choose another name`);
}

async function inFolder(folder: string, make: () => Promise<void>): Promise<void> {
  try {
    await make();
  } catch (error) {
    throw systemCode(error) === undefined ? error : storeError(error, folder);
  }
}
