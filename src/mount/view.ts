import PQueue from 'p-queue';
import { giveBack, takeBuffer } from '../bytes/lent-buffers.ts';
import { readFully } from '../disk/read-small.ts';
import type { Closure } from '../fetch/walk/closure.ts';
import { linesFrom } from './folder-lines.ts';
import { MountedPath, type MountedPathMeans, type ShownTree } from './mounted-path.ts';
import {
  attributesReply,
  bytesReply,
  entryReply,
  errorReply,
  initReply,
  listingReply,
  MAX_READ_BYTES,
  OUT_HEADER_BYTES,
  openReply,
  reply,
  setHeader,
  statfsReply,
  type Attributes,
  type Errno,
  type FuseRequest,
  type Listed,
  type NodeId,
} from './protocol.ts';
import type { TreeNode } from './tree.ts';
import type { OpenNar } from './unpacked-nars.ts';

/** Reads at the same time, each of at most 128 KiB. */
const READS_AT_ONCE = 16;
/** Listings that are requested at the same time when all paths are listed. */
const LISTINGS_AT_ONCE = 32;

const ROOT: NodeId = { high: 0, low: 1 };
/** Node numbers of a path: twice its own number, so that both generations have theirs. The root has 0. */
const FIRST_HIGH = 2;

interface Handle {
  readonly nar: OpenNar;
  readonly offset: number;
  readonly sizeBytes: number;
}

type RequestOf<Kind extends FuseRequest['kind']> = Extract<FuseRequest, { kind: Kind }>;

/** A failure as an answer to the kernel. */
class Refusal extends Error {
  readonly errno: Errno;

  constructor(errno: Errno) {
    super(errno);
    this.errno = errno;
  }
}

/**
 * Answers the kernel's requests: a folder with the store paths of a closure. Keeps no list of the nodes that the kernel
 * knows: their numbers say which path, generation and node of its tree they are.
 */
export class View implements AsyncDisposable {
  readonly #paths: readonly MountedPath[];
  readonly #byName: ReadonlyMap<string, MountedPath>;
  readonly #narBytes: number;
  readonly #send: (answer: Uint8Array) => void;
  readonly #onFailure: (error: unknown, path: MountedPath | undefined) => void;
  readonly #handles = new Map<number, Handle>();
  readonly #reads = new PQueue({ concurrency: READS_AT_ONCE });
  readonly #listings = new PQueue({ concurrency: LISTINGS_AT_ONCE });
  /** Requests that may wait for a NAR, and have no answer so far. */
  readonly #waiting = new Set<bigint>();
  #nextHandle = 1;
  #hasListed = false;

  /** @param onFailure called with each failure that the kernel gets only as EIO, and with its path */
  constructor(
    closure: Closure,
    means: MountedPathMeans,
    send: (answer: Uint8Array) => void,
    onFailure: (error: unknown, path: MountedPath | undefined) => void,
  ) {
    this.#paths = [...closure.values()].map((info, number) => new MountedPath(info, number, means));
    const named = this.#paths.map((path) => [baseNameOf(path), path] as const);
    this.#byName = new Map(named.toSorted(([one], [other]) => (one < other ? -1 : 1)));
    this.#narBytes = this.#paths.reduce((sum, { info }) => sum + info.narSize, 0);
    this.#send = send;
    this.#onFailure = onFailure;
  }

  /** Answers a request, unless it wants no answer. @throws if the kernel refuses the answer, which is a bug */
  async take(request: FuseRequest): Promise<void> {
    const { unique, kind } = request;
    if (kind === 'forget' || kind === 'batch-forget') return;
    if (kind === 'interrupt') {
      // Until it is answered, the process that waits cannot even be killed.
      if (this.#waiting.delete(request.interrupted)) this.#send(errorReply(request.interrupted, 'EINTR'));
      return;
    }
    if (kind === 'read') return this.#reads.add(() => this.#read(request)); // waits for the disk alone
    this.#waiting.add(unique);
    const answer = await this.#reply(request).catch((error: unknown) => this.#failed(request, error));
    if (this.#waiting.delete(unique)) this.#send(answer);
  }

  /** Closes all open files. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#listings.clear();
    await Promise.allSettled([...this.#handles.values()].map(({ nar }) => nar.release()));
    this.#handles.clear();
  }

  async #reply(request: FuseRequest): Promise<Uint8Array> {
    const { unique, node } = request;
    switch (request.kind) {
      case 'init':
        return initReply(unique, request);
      case 'lookup':
        return entryReply(unique, await this.#lookUp(node, request.name));
      case 'getattr':
        return attributesReply(unique, await this.#attributes(node));
      case 'readlink':
        return bytesReply(unique, Buffer.from(await this.#target(node), 'latin1'));
      case 'opendir':
        return openReply(unique, 0);
      case 'releasedir':
      case 'destroy':
        return reply(unique, 0);
      case 'readdir':
      case 'readdirplus':
        return listingReply(unique, await this.#list(request), request);
      case 'open':
        return this.#openFile(request);
      case 'release': {
        const handle = this.#handles.get(request.handle);
        this.#handles.delete(request.handle);
        await handle?.nar.release();
        return reply(unique, 0);
      }
      case 'statfs':
        return statfsReply(unique, { sizeBytes: this.#narBytes, files: this.#paths.length });
      case 'write':
        throw new Refusal('EROFS');
      default:
        throw new Refusal('ENOSYS');
    }
  }

  #pathOf({ high }: NodeId): MountedPath | undefined {
    return this.#paths[Math.floor((high - FIRST_HIGH) / 2)];
  }

  /**
   * Finds a node below a path. @throws Refusal ESTALE if it belongs to a listing that was wrong: then the kernel looks
   * again
   */
  async #find(node: NodeId): Promise<{ shown: ShownTree; found: TreeNode }> {
    const path = this.#pathOf(node);
    if (path === undefined) throw new Refusal(node.high === 0 ? 'EISDIR' : 'ESTALE');
    const shown = await path.tree();
    const found = shown.tree.nodes[node.low];
    if (found === undefined || generationOf(node) !== shown.generation) throw new Refusal('ESTALE');
    return { shown, found };
  }

  async #lookUp(parent: NodeId, name: string): Promise<Attributes> {
    if (isRoot(parent)) {
      const path = this.#byName.get(name);
      if (path === undefined) throw new Refusal('ENOENT');
      return attributesOf(await this.#treeOf(path), 0);
    }
    const { shown, found } = await this.#find(parent);
    if (found.kind !== 'directory') throw new Refusal('ENOTDIR');
    const index = found.entries.get(name);
    if (index === undefined) throw new Refusal('ENOENT');
    return attributesOf(shown, index);
  }

  async #attributes(node: NodeId): Promise<Attributes> {
    if (isRoot(node)) return ofRoot;
    const { shown } = await this.#find(node);
    return attributesOf(shown, node.low);
  }

  /** Returns the lines of a folder from an offset on. They are made as they are taken: a reply has room for few. */
  async #list({ node, offset }: RequestOf<'readdir' | 'readdirplus'>): Promise<Iterable<Listed>> {
    if (isRoot(node)) {
      this.#listAhead();
      return linesFrom(offset, dots(ofRoot, ofRoot), this.#byName, (path) => {
        const shown = path.peek();
        return shown && attributesOf(shown, 0);
      });
    }
    const { shown, found } = await this.#find(node);
    if (found.kind !== 'directory') throw new Refusal('ENOTDIR');
    const above = node.low === 0 ? ofRoot : attributesOf(shown, found.parent);
    const both = dots(attributesOf(shown, node.low), above);
    return linesFrom(offset, both, found.entries, (index) => attributesOf(shown, index));
  }

  /** Asks for all listings, since somebody lists all paths, and mostly looks at each. */
  #listAhead(): void {
    if (this.#hasListed) return;
    this.#hasListed = true;
    for (const path of this.#byName.values()) void this.#listings.add(() => path.list()).catch(() => undefined);
  }

  async #treeOf(path: MountedPath): Promise<ShownTree> {
    try {
      return await path.tree();
    } catch (error) {
      this.#onFailure(error, path);
      throw new Refusal('EIO');
    }
  }

  /** Returns where a link leads. Only a NAR may say that it leads out of its path: a listing could lead anywhere. */
  async #target(node: NodeId): Promise<string> {
    const { shown, found } = await this.#find(node);
    if (found.kind !== 'symlink') throw new Refusal('EINVAL');
    if (shown.path.isOfNar || !shown.tree.leadsOut(found)) return found.target;
    const nar = await shown.path.open();
    await nar.release();
    if (generationOf(node) !== nar.generation) throw new Refusal('ESTALE');
    return found.target;
  }

  async #openFile({ unique, node }: Pick<FuseRequest, 'unique' | 'node'>): Promise<Uint8Array> {
    const { shown, found: listed } = await this.#find(node);
    if (listed.kind !== 'regular') throw new Refusal('EISDIR');
    const nar = await shown.path.open();
    const found = nar.tree.nodes[node.low];
    const isWanted = this.#waiting.has(unique) && generationOf(node) === nar.generation;
    if (!isWanted || found?.kind !== 'regular' || found.offset === undefined) {
      await nar.release();
      throw new Refusal('ESTALE');
    }
    const handle = this.#nextHandle++;
    this.#handles.set(handle, { nar, offset: found.offset, sizeBytes: found.sizeBytes });
    return openReply(unique, handle);
  }

  /** Answers a read from a lent buffer: with a new one for each, the heap would be collected again and again. */
  async #read(request: RequestOf<'read'>): Promise<void> {
    const { unique, handle, offset, size } = request;
    const open = this.#handles.get(handle);
    const length = Math.max(0, Math.min(size, MAX_READ_BYTES, (open?.sizeBytes ?? 0) - offset));
    const buffer = takeBuffer(OUT_HEADER_BYTES + length);
    try {
      if (open === undefined) throw new Refusal('EINVAL');
      const answer = buffer.subarray(0, OUT_HEADER_BYTES + length);
      setHeader(answer, unique);
      const contents = answer.subarray(OUT_HEADER_BYTES);
      if ((await readFully(open.nar.file.fd, contents, open.offset + offset)) < length)
        throw new RangeError('an unpacked NAR has become shorter');
      this.#send(answer);
    } catch (error) {
      this.#send(this.#failed(request, error));
    } finally {
      giveBack(buffer);
    }
  }

  #failed({ unique, node }: FuseRequest, error: unknown): Uint8Array {
    if (!(error instanceof Refusal)) this.#onFailure(error, this.#pathOf(node));
    return errorReply(unique, error instanceof Refusal ? error.errno : 'EIO');
  }
}

const ofRoot: Attributes = { node: ROOT, kind: 'directory', isExecutable: false, sizeBytes: 0 };

function isRoot({ high, low }: NodeId): boolean {
  return high === ROOT.high && low === ROOT.low;
}

function generationOf({ high }: NodeId): number {
  return high % 2;
}

function attributesOf({ path, tree, generation }: ShownTree, index: number): Attributes {
  const node = tree.nodes[index]!;
  return {
    node: { high: FIRST_HIGH + 2 * path.number + generation, low: index },
    kind: node.kind,
    isExecutable: node.kind === 'regular' && node.isExecutable,
    sizeBytes: node.kind === 'regular' ? node.sizeBytes : node.kind === 'symlink' ? node.target.length : 0,
  };
}

function dots(itself: Attributes, above: Attributes): Listed[] {
  return [
    { name: '.', attributes: itself },
    { name: '..', attributes: above },
  ];
}

function baseNameOf({ info: { storePath } }: MountedPath): string {
  return storePath.slice(storePath.lastIndexOf('/') + 1);
}
