/**
 * The protocol of Linux between the kernel and a file system in a process, as far as a read-only one needs it (Linux:
 * include/uapi/linux/fuse.h, version 7). Pure.
 */

/** The version that is spoken. The kernel keeps to the lower one of both. */
const MAJOR = 7;
const MINOR = 31;
/** Linux 3.15. Older ones have shorter answers. */
const OLDEST_MINOR = 23;

const IN_HEADER_BYTES = 40;
export const OUT_HEADER_BYTES = 16;
const ATTR_BYTES = 88;
const ENTRY_BYTES = 128;
const DIRENT_BYTES = 24;

const PAGE_BYTES = 4096;
/** Most bytes of one read: 32 pages, the kernel's default. */
export const MAX_READ_BYTES = 32 * PAGE_BYTES;
/** A buffer that holds any request of a read-only file system. The kernel wants 8 KiB at least. */
export const REQUEST_BYTES = 64 * 1024;

/** Flags of INIT that are taken if the kernel offers them: those of fuse.h with the same names. */
const ASYNC_READ = 1 << 0;
const DO_READDIRPLUS = 1 << 13;
const READDIRPLUS_AUTO = 1 << 14;
const PARALLEL_DIROPS = 1 << 18;
const CACHE_SYMLINKS = 1 << 23;
const WANTED_FLAGS = ASYNC_READ | DO_READDIRPLUS | READDIRPLUS_AUTO | PARALLEL_DIROPS | CACHE_SYMLINKS;
/** Flags of OPEN and OPENDIR: bytes that the kernel has read before stay valid, and so do listings. */
const KEEP_CACHE = 1 << 1;
const CACHE_DIR = 1 << 3;

/** Numbers of errors on Linux, of every processor. */
export const ERRNO = {
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EROFS: 30,
  ENOSYS: 38,
  EPROTO: 71,
  ESTALE: 116,
} as const;
export type Errno = keyof typeof ERRNO;

const OPCODES = {
  1: 'lookup',
  2: 'forget',
  3: 'getattr',
  5: 'readlink',
  14: 'open',
  15: 'read',
  17: 'statfs',
  18: 'release',
  26: 'init',
  27: 'opendir',
  28: 'readdir',
  29: 'releasedir',
  36: 'interrupt',
  38: 'destroy',
  42: 'batch-forget',
  44: 'readdirplus',
} as const;
type Opcode = (typeof OPCODES)[keyof typeof OPCODES];

/** Opcodes that would write: the kernel itself refuses them on a read-only mount. */
const WRITES: ReadonlySet<number> = new Set([4, 6, 8, 9, 10, 11, 12, 13, 16, 21, 24, 35, 43, 45, 47]);

/** A node as the kernel names it: 64 bits of our own choice, in two halves. The root is 0, 1. */
export interface NodeId {
  readonly high: number;
  readonly low: number;
}

interface Asked {
  /** Names the request in its answer. */
  readonly unique: bigint;
  readonly node: NodeId;
}

/** A request of the kernel. Names are its bytes, one a character (latin1): a NAR may have any. */
export type FuseRequest = Asked &
  (
    | {
        readonly kind: 'init';
        readonly major: number;
        readonly minor: number;
        readonly flags: number;
        readonly readahead: number;
      }
    | { readonly kind: 'lookup'; readonly name: string }
    | { readonly kind: 'read'; readonly handle: number; readonly offset: number; readonly size: number }
    | { readonly kind: 'readdir' | 'readdirplus'; readonly offset: number; readonly size: number }
    | { readonly kind: 'release'; readonly handle: number }
    | { readonly kind: 'interrupt'; readonly interrupted: bigint }
    | { readonly kind: 'write' | 'unknown' }
    | {
        readonly kind: Exclude<
          Opcode,
          'init' | 'lookup' | 'read' | 'readdir' | 'readdirplus' | 'release' | 'interrupt'
        >;
      }
  );

/** Reads one request. @throws RangeError if it is shorter than its kind */
export function parseRequest(bytes: Buffer): FuseRequest {
  const opcode = bytes.readUInt32LE(4);
  const unique = bytes.readBigUInt64LE(8);
  const node = { low: bytes.readUInt32LE(16), high: bytes.readUInt32LE(20) };
  const asked = { unique, node };
  const body = bytes.subarray(IN_HEADER_BYTES);
  const kind: Opcode | undefined = OPCODES[opcode as keyof typeof OPCODES];
  switch (kind) {
    case undefined:
      return { ...asked, kind: WRITES.has(opcode) ? 'write' : 'unknown' };
    case 'init':
      return {
        ...asked,
        kind,
        major: body.readUInt32LE(0),
        minor: body.readUInt32LE(4),
        readahead: body.readUInt32LE(8),
        flags: body.readUInt32LE(12),
      };
    case 'lookup':
      return { ...asked, kind, name: body.toString('latin1', 0, body.indexOf(0)) };
    case 'read':
      return {
        ...asked,
        kind,
        handle: Number(body.readBigUInt64LE(0)),
        offset: Number(body.readBigUInt64LE(8)),
        size: body.readUInt32LE(16),
      };
    case 'readdir':
    case 'readdirplus':
      return { ...asked, kind, offset: Number(body.readBigUInt64LE(8)), size: body.readUInt32LE(16) };
    case 'release':
      return { ...asked, kind, handle: Number(body.readBigUInt64LE(0)) };
    case 'interrupt':
      return { ...asked, kind, interrupted: body.readBigUInt64LE(0) };
    default:
      return { ...asked, kind };
  }
}

/** The answer to a request that failed. */
export function errorReply(unique: bigint, errno: Errno): Buffer {
  const bytes = reply(unique, 0);
  bytes.writeInt32LE(-ERRNO[errno], 4);
  return bytes;
}

/** Room for an answer with so many bytes, with its header. */
export function reply(unique: bigint, length: number): Buffer {
  const bytes = Buffer.alloc(OUT_HEADER_BYTES + length);
  setHeader(bytes, unique);
  return bytes;
}

/** Fills in the header of an answer that is as long as the buffer. */
export function setHeader(bytes: Buffer, unique: bigint): void {
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.writeInt32LE(0, 4);
  bytes.writeBigUInt64LE(unique, 8);
}

/** Answers INIT. The kernel asks again if our major version is the lower one, and ends the mount if it is too old. */
export function initReply(unique: bigint, asked: Extract<FuseRequest, { kind: 'init' }>): Buffer {
  if (asked.major < MAJOR || (asked.major === MAJOR && asked.minor < OLDEST_MINOR)) return errorReply(unique, 'EPROTO');
  const bytes = reply(unique, 64);
  const body = bytes.subarray(OUT_HEADER_BYTES);
  body.writeUInt32LE(MAJOR, 0);
  body.writeUInt32LE(Math.min(MINOR, asked.major > MAJOR ? MINOR : asked.minor), 4);
  body.writeUInt32LE(asked.readahead, 8);
  body.writeUInt32LE((asked.flags & WANTED_FLAGS) >>> 0, 12);
  body.writeUInt16LE(16, 16); // requests that the kernel makes by itself, such as reads ahead
  body.writeUInt16LE(12, 18); // of these, as many as until it counts us as busy
  body.writeUInt32LE(PAGE_BYTES, 20); // of a write, which never comes
  body.writeUInt32LE(1, 24); // nanoseconds that times are exact to
  return bytes;
}

/** Attributes of a file, folder or link. */
export interface Attributes {
  readonly node: NodeId;
  readonly kind: 'regular' | 'directory' | 'symlink';
  readonly isExecutable: boolean;
  readonly sizeBytes: number;
}

/**
 * Seconds for which the kernel need not ask again. Facts from a NAR never change. Where a listing was wrong, the kernel
 * hears of it (ESTALE) when it opens a file.
 */
const VALID_SECONDS = 86_400n;

const MODES = { directory: 0o040555, regular: 0o100444, symlink: 0o120777 } as const;
/** Kinds in a listing of a folder (dirent.h). 0: not said. */
const TYPES = { directory: 4, regular: 8, symlink: 10 } as const;

/** As in a Nix store: everything belongs to root, cannot be written, and is from the first second after 1970. */
function writeAttributes(at: Buffer, { node, kind, isExecutable, sizeBytes }: Attributes): void {
  at.writeUInt32LE(node.low, 0);
  at.writeUInt32LE(node.high, 4);
  at.writeBigUInt64LE(BigInt(sizeBytes), 8);
  at.writeBigUInt64LE(BigInt(Math.ceil(sizeBytes / 512)), 16);
  for (const offset of [24, 32, 40]) at.writeBigUInt64LE(1n, offset);
  at.writeUInt32LE(MODES[kind] | (isExecutable ? 0o111 : 0), 60);
  at.writeUInt32LE(1, 64); // links
  at.writeUInt32LE(PAGE_BYTES, 80);
}

function writeEntry(at: Buffer, attributes: Attributes): void {
  at.writeUInt32LE(attributes.node.low, 0);
  at.writeUInt32LE(attributes.node.high, 4);
  at.writeBigUInt64LE(VALID_SECONDS, 16);
  at.writeBigUInt64LE(VALID_SECONDS, 24);
  writeAttributes(at.subarray(40), attributes);
}

export function entryReply(unique: bigint, attributes: Attributes): Buffer {
  const bytes = reply(unique, ENTRY_BYTES);
  writeEntry(bytes.subarray(OUT_HEADER_BYTES), attributes);
  return bytes;
}

export function attributesReply(unique: bigint, attributes: Attributes): Buffer {
  const bytes = reply(unique, 16 + ATTR_BYTES);
  bytes.writeBigUInt64LE(VALID_SECONDS, OUT_HEADER_BYTES);
  writeAttributes(bytes.subarray(OUT_HEADER_BYTES + 16), attributes);
  return bytes;
}

/** @param handle our own number of an open file; 0 for a folder. The contents of a node never change */
export function openReply(unique: bigint, handle: number): Buffer {
  const bytes = reply(unique, 16);
  bytes.writeBigUInt64LE(BigInt(handle), OUT_HEADER_BYTES);
  bytes.writeUInt32LE(KEEP_CACHE | CACHE_DIR, OUT_HEADER_BYTES + 8);
  return bytes;
}

export function bytesReply(unique: bigint, contents: Uint8Array): Buffer {
  const bytes = reply(unique, contents.length);
  bytes.set(contents, OUT_HEADER_BYTES);
  return bytes;
}

/** @param files all files, folders and links that are known so far */
export function statfsReply(unique: bigint, { sizeBytes, files }: { sizeBytes: number; files: number }): Buffer {
  const bytes = reply(unique, 80);
  const body = bytes.subarray(OUT_HEADER_BYTES);
  body.writeBigUInt64LE(BigInt(Math.ceil(sizeBytes / PAGE_BYTES)), 0);
  body.writeBigUInt64LE(BigInt(files), 24);
  body.writeUInt32LE(PAGE_BYTES, 40);
  body.writeUInt32LE(255, 44); // of a name
  body.writeUInt32LE(PAGE_BYTES, 48);
  return bytes;
}

/** One line of a folder's listing. */
export interface Listed {
  /** Its bytes, one a character. */
  readonly name: string;
  /** Undefined if they are not known without asking somebody: the kernel asks for them if it needs them. */
  readonly attributes: Attributes | undefined;
}

/**
 * Answers READDIR or READDIRPLUS with as many lines as fit.
 *
 * @param lines those from `offset` on
 */
export function listingReply(
  unique: bigint,
  lines: Iterable<Listed>,
  { offset, size, kind }: Extract<FuseRequest, { kind: 'readdir' | 'readdirplus' }>,
): Buffer {
  const room = Math.min(size, MAX_READ_BYTES);
  const body = Buffer.alloc(room);
  const before = kind === 'readdirplus' ? ENTRY_BYTES : 0;
  let length = 0;
  let next = offset;
  for (const { name, attributes } of lines) {
    const lineBytes = before + Math.ceil((DIRENT_BYTES + name.length) / 8) * 8;
    if (length + lineBytes > room) break;
    const line = body.subarray(length, length + lineBytes);
    const isItself = name === '.' || name === '..';
    // With the node 0, the kernel takes the name alone.
    if (before > 0 && attributes !== undefined && !isItself) writeEntry(line, attributes);
    const dirent = line.subarray(before);
    dirent.writeUInt32LE(attributes?.node.low ?? 0xffffffff, 0); // programs take 0 for a removed file
    dirent.writeUInt32LE(attributes?.node.high ?? 0, 4);
    dirent.writeBigUInt64LE(BigInt(++next), 8);
    dirent.writeUInt32LE(name.length, 16);
    dirent.writeUInt32LE(attributes === undefined ? 0 : TYPES[attributes.kind], 20);
    dirent.write(name, DIRENT_BYTES, 'latin1');
    length += lineBytes;
  }
  return bytesReply(unique, body.subarray(0, length));
}
