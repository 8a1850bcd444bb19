/** The files, folders and links of one store path. */

interface NodeBase {
  /** Its bytes, one a character (latin1). Empty for the root. */
  readonly name: string;
  /** Index of its folder; of the root, its own. */
  readonly parent: number;
}

export interface FileNode extends NodeBase {
  readonly kind: 'regular';
  readonly isExecutable: boolean;
  readonly sizeBytes: number;
  /** Where its contents are in the NAR. Undefined if it is only in a listing of a cache. */
  readonly offset: number | undefined;
}

export interface LinkNode extends NodeBase {
  readonly kind: 'symlink';
  /** Its bytes, one a character. */
  readonly target: string;
}

export interface FolderNode extends NodeBase {
  readonly kind: 'directory';
  /** Indexes of its entries, by name, in the order of their bytes. */
  readonly entries: ReadonlyMap<string, number>;
}

export type TreeNode = FileNode | LinkNode | FolderNode;

/** Most nodes of one store path. Larger ones cannot be shown. */
export const MAX_NODES = 2_000_000;
const MAX_DEPTH = 1_000;
const MAX_NAME_BYTES = 255;
const MAX_TARGET_BYTES = 4_095;

/** A tree. Nodes are numbered by a walk in the order of names, folders first: equal trees have equal numbers. */
export class Tree {
  readonly nodes: readonly TreeNode[];

  constructor(nodes: readonly TreeNode[]) {
    this.nodes = nodes;
  }

  /** True if both show the same; where the contents are does not matter. */
  isLike(other: Tree): boolean {
    if (this.nodes.length !== other.nodes.length) return false;
    return this.nodes.every((node, index) => isSameNode(node, other.nodes[index]));
  }

  /** False if a link certainly stays in the tree, even if there are other links on its way. */
  leadsOut(link: LinkNode): boolean {
    if (link.target.startsWith('/') || this.nodes[0] === link) return true;
    const steps = link.target.split('/').filter((step) => step !== '' && step !== '.');
    let folder = link.parent;
    while (steps[0] === '..') {
      if (folder === 0) return true;
      folder = this.nodes[folder]!.parent;
      steps.shift();
    }
    return steps.includes('..');
  }
}

function isSameNode(one: TreeNode, other: TreeNode | undefined): boolean {
  if (other === undefined || one.name !== other.name || one.parent !== other.parent) return false;
  switch (one.kind) {
    case 'regular':
      return other.kind === 'regular' && one.sizeBytes === other.sizeBytes && one.isExecutable === other.isExecutable;
    case 'symlink':
      return other.kind === 'symlink' && one.target === other.target;
    default:
      return other.kind === 'directory' && one.entries.size === other.entries.size;
  }
}

/**
 * Makes a tree from its nodes in the order of a walk: each folder, then its entries, in the order of names.
 *
 * @throws RangeError for names and targets that Linux does not have, and for trees beyond all measure
 */
export class TreeBuilder {
  readonly #nodes: TreeNode[] = [];
  /** The folders that the walk is in. */
  readonly #open: { readonly index: number; readonly entries: Map<string, number>; last: string }[] = [];

  regular(name: string, isExecutable: boolean, sizeBytes: number, offset?: number): void {
    if (!Number.isSafeInteger(sizeBytes) || sizeBytes < 0) throw new RangeError('a file has no such size');
    this.#add({ kind: 'regular', name, parent: this.#enter(name), isExecutable, sizeBytes, offset });
  }

  symlink(name: string, target: string): void {
    if (target.length === 0 || target.length > MAX_TARGET_BYTES || target.includes('\0'))
      throw new RangeError('a link has no such target');
    this.#add({ kind: 'symlink', name, parent: this.#enter(name), target });
  }

  beginFolder(name: string): void {
    if (this.#open.length === MAX_DEPTH) throw new RangeError('the folders are too deep');
    const entries = new Map<string, number>();
    const parent = this.#enter(name);
    this.#open.push({ index: this.#nodes.length, entries, last: '' });
    this.#add({ kind: 'directory', name, parent, entries });
  }

  endFolder(): void {
    this.#open.pop();
  }

  build(): Tree {
    if (this.#nodes.length === 0) throw new RangeError('there is nothing in it');
    return new Tree(this.#nodes);
  }

  /** Notes a name in the present folder. @returns the index of that folder */
  #enter(name: string): number {
    const folder = this.#open.at(-1);
    if (folder === undefined) {
      if (this.#nodes.length > 0 || name !== '') throw new RangeError('there is one root');
      return 0;
    }
    if (name === '.' || name === '..' || name.length > MAX_NAME_BYTES || /[/\0]/.test(name))
      throw new RangeError('a file has no such name');
    if (name <= folder.last) throw new RangeError('names are in order, each once');
    folder.last = name;
    folder.entries.set(name, this.#nodes.length);
    return folder.index;
  }

  #add(node: TreeNode): void {
    if (this.#nodes.length === MAX_NODES) throw new RangeError('there are too many files');
    this.#nodes.push(node);
  }
}
