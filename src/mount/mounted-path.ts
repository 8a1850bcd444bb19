import type { NarInfo } from '../nix/narinfo.ts';
import type { Listings } from './listings.ts';
import type { Tree } from './tree.ts';
import type { Trees } from './trees.ts';
import type { OpenNar, UnpackedNars } from './unpacked-nars.ts';

export interface MountedPathMeans {
  readonly trees: Trees;
  readonly listings: Pick<Listings, 'find'>;
  readonly nars: Pick<UnpackedNars, 'open'>;
  /** Called with each path whose NAR is opened since no cache lists it. */
  readonly onUnlisted?: ((info: NarInfo) => void) | undefined;
}

/** The tree of a path as it is shown now. */
export interface ShownTree {
  readonly path: MountedPath;
  readonly tree: Tree;
  /** The generation of its nodes: 0, or 1 if a listing was wrong. */
  readonly generation: 0 | 1;
}

/**
 * One store path of a mount. Its tree comes from a cache's listing, which may be wrong, or from its NAR. Once the NAR is
 * here, its own tree counts: if it differs, the path has a second generation of nodes, and the first one is stale.
 */
export class MountedPath {
  readonly info: NarInfo;
  /** Its place among the paths, from 0. */
  readonly number: number;
  readonly #means: MountedPathMeans;
  #generation: 0 | 1 = 0;
  #isOfNar = false;
  #hasTree = false;
  #listing: Promise<void> | undefined;
  /** Changes of the tree come one after another. */
  #changing: Promise<unknown> = Promise.resolve();

  constructor(info: NarInfo, number: number, means: MountedPathMeans) {
    this.info = info;
    this.number = number;
    this.#means = means;
  }

  /** Returns its tree if it is in memory. */
  peek(): ShownTree | undefined {
    const tree = this.#hasTree ? this.#means.trees.peek(this.#name) : undefined;
    return tree && { path: this, tree, generation: this.#generation };
  }

  /** Asks the caches for its listing, unless its tree is known. Never throws, except for a full disk. */
  async list(): Promise<void> {
    if (this.#hasTree) return;
    this.#listing ??= this.#list().finally(() => (this.#listing = undefined));
    await this.#listing;
  }

  /** Returns its tree, from a listing if a cache has one. @throws as {@link UnpackedNars.open}; the system's error */
  async tree(): Promise<ShownTree> {
    await this.list();
    if (!this.#hasTree) {
      this.#means.onUnlisted?.(this.info);
      await (await this.open()).release();
    }
    for (;;) {
      const generation = this.#generation;
      const tree = await this.#means.trees.get(this.#name);
      if (generation === this.#generation) return { path: this, tree, generation };
    }
  }

  /** Opens its NAR. From then on it has the tree of the NAR. @throws as {@link UnpackedNars.open} */
  async open(): Promise<OpenNar & Pick<ShownTree, 'generation'>> {
    const nar = await this.#means.nars.open(this.info);
    try {
      await this.#inTurn(() => this.#adopt(nar.tree));
      return { ...nar, generation: this.#generation };
    } catch (error) {
      await nar.release();
      throw error;
    }
  }

  /** True if its tree is that of its NAR. */
  get isOfNar(): boolean {
    return this.#isOfNar;
  }

  get #name(): string {
    return nameOf(this.number, this.#generation);
  }

  async #list(): Promise<void> {
    await this.#means.listings.find(this.info, (listed) =>
      this.#inTurn(async () => {
        if (this.#hasTree) return; // its NAR was opened meanwhile
        await this.#means.trees.put(this.#name, listed);
        this.#hasTree = true;
      }),
    );
  }

  async #adopt(tree: Tree): Promise<void> {
    if (this.#isOfNar) return;
    const listed = this.#hasTree ? await this.#means.trees.get(this.#name) : undefined;
    const generation = listed === undefined || tree.isLike(listed) ? 0 : 1;
    await this.#means.trees.put(nameOf(this.number, generation), tree);
    this.#generation = generation;
    this.#hasTree = true;
    this.#isOfNar = true;
  }

  #inTurn(change: () => Promise<void>): Promise<void> {
    const changed = this.#changing.then(change);
    this.#changing = changed.catch(() => undefined);
    return changed;
  }
}

function nameOf(number: number, generation: 0 | 1): string {
  return `${number}-${generation}.tree`;
}
