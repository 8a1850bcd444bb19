import type { MountFolder } from './mount-folder.ts';
import type { Tree } from './tree.ts';

/** Nodes of the trees that are kept in memory: about 100 MB. Others are read from the disk again. */
const MOST_NODES = 400_000;

/** The trees of store paths, by name: those used last in memory, all of them on the disk. */
export class Trees {
  readonly #folder: Pick<MountFolder, 'readTree' | 'writeTree'>;
  readonly #mostNodes: number;
  /** Those used longest ago come first. */
  readonly #kept = new Map<string, Tree>();
  readonly #reading = new Map<string, Promise<Tree>>();
  #nodes = 0;

  constructor(folder: Pick<MountFolder, 'readTree' | 'writeTree'>, mostNodes = MOST_NODES) {
    this.#folder = folder;
    this.#mostNodes = mostNodes;
  }

  /** Nodes of the trees that are in memory. */
  get nodesInMemory(): number {
    return this.#nodes;
  }

  /** Puts a tree, also in the place of another one. @throws STORE_FULL, STORE_UNWRITABLE */
  async put(name: string, tree: Tree): Promise<void> {
    await this.#folder.writeTree(name, tree);
    this.#keep(name, tree);
  }

  /** Returns a tree if it is in memory. */
  peek(name: string): Tree | undefined {
    const tree = this.#kept.get(name);
    if (tree === undefined) return undefined;
    this.#kept.delete(name);
    this.#kept.set(name, tree);
    return tree;
  }

  /** Returns a tree that was put. @throws the system's error */
  async get(name: string): Promise<Tree> {
    const known = this.peek(name);
    if (known !== undefined) return known;
    const reading =
      this.#reading.get(name) ??
      this.#folder
        .readTree(name)
        .then((tree) => {
          if (!this.#kept.has(name)) this.#keep(name, tree); // a newer one may have been put
          return this.#kept.get(name) ?? tree;
        })
        .finally(() => this.#reading.delete(name));
    this.#reading.set(name, reading);
    return reading;
  }

  #keep(name: string, tree: Tree): void {
    this.#nodes += tree.nodes.length - (this.#kept.get(name)?.nodes.length ?? 0);
    this.#kept.delete(name);
    this.#kept.set(name, tree);
    for (const [other, { nodes }] of this.#kept) {
      if (this.#nodes <= this.#mostNodes || other === name) break;
      this.#kept.delete(other);
      this.#nodes -= nodes.length;
    }
  }
}
