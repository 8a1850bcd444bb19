import type { FileHandle } from 'node:fs/promises';
import { readFully } from '../disk/read-small.ts';
import { TreeBuilder, type Tree } from './tree.ts';

const MAGIC = 'nix-archive-1';
const ALIGNMENT = 8;
/** Longest string of the format beside the contents of files: the target of a link. */
const MAX_STRING_BYTES = 4_096;
const AT_ONCE_BYTES = 64 * 1024;

/**
 * Reads the tree of a NAR from a file that holds it uncompressed. Skips the contents of its files.
 *
 * @throws RangeError if it is no NAR, or one that Linux cannot show; the system's error
 */
export async function readNarTree(file: FileHandle): Promise<Tree> {
  const reader = new NarReader(file);
  await reader.expect(MAGIC);
  const builder = new TreeBuilder();
  await readNode(reader, builder, '');
  return builder.build();
}

async function readNode(reader: NarReader, builder: TreeBuilder, name: string): Promise<void> {
  await reader.expect('(');
  await reader.expect('type');
  switch (await reader.string()) {
    case 'regular':
      return readFile(reader, builder, name);
    case 'symlink':
      await reader.expect('target');
      builder.symlink(name, await reader.string());
      return reader.expect(')');
    case 'directory':
      return readFolder(reader, builder, name);
    default:
      throw notNar();
  }
}

async function readFile(reader: NarReader, builder: TreeBuilder, name: string): Promise<void> {
  let isExecutable = false;
  let contents = { offset: 0, sizeBytes: 0 };
  for (let field = await reader.string(); field !== ')'; field = await reader.string()) {
    if (field === 'executable') {
      isExecutable = true;
      await reader.expect('');
    } else if (field === 'contents') contents = await reader.skip();
    else throw notNar();
  }
  builder.regular(name, isExecutable, contents.sizeBytes, contents.offset);
}

async function readFolder(reader: NarReader, builder: TreeBuilder, name: string): Promise<void> {
  builder.beginFolder(name);
  for (let field = await reader.string(); field !== ')'; field = await reader.string()) {
    if (field !== 'entry') throw notNar();
    await reader.expect('(');
    await reader.expect('name');
    const entry = await reader.string();
    await reader.expect('node');
    await readNode(reader, builder, entry);
    await reader.expect(')');
  }
  builder.endFolder();
}

/** Reads strings of the format, one after another, from anywhere in the file. */
class NarReader {
  readonly #file: FileHandle;
  readonly #buffer = Buffer.alloc(AT_ONCE_BYTES);
  #start = 0;
  #length = 0;
  #position = 0;

  constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Returns a string: its bytes, one a character. */
  async string(): Promise<string> {
    const length = await this.#number();
    if (length > MAX_STRING_BYTES) throw notNar();
    const text = (await this.#take(length + paddingOf(length))).toString('latin1', 0, length);
    return text;
  }

  async expect(text: string): Promise<void> {
    if ((await this.string()) !== text) throw notNar();
  }

  /** Passes over a string of any length. */
  async skip(): Promise<{ offset: number; sizeBytes: number }> {
    const sizeBytes = await this.#number();
    const offset = this.#position;
    this.#position += sizeBytes + paddingOf(sizeBytes);
    return { offset, sizeBytes };
  }

  async #number(): Promise<number> {
    const value = Number((await this.#take(ALIGNMENT)).readBigUInt64LE());
    if (!Number.isSafeInteger(value)) throw notNar();
    return value;
  }

  async #take(length: number): Promise<Buffer> {
    const isHere = this.#position >= this.#start && this.#position + length <= this.#start + this.#length;
    if (!isHere) {
      this.#start = this.#position;
      this.#length = await readFully(this.#file.fd, this.#buffer, this.#start);
      if (this.#length < length) throw notNar();
    }
    const at = this.#position - this.#start;
    this.#position += length;
    return this.#buffer.subarray(at, at + length);
  }
}

function paddingOf(length: number): number {
  return (ALIGNMENT - (length % ALIGNMENT)) % ALIGNMENT;
}

function notNar(): RangeError {
  return new RangeError('it is no NAR');
}
