/** Signed binary caches that a test writes by hand: paths with any contents, and narinfos with any fields. */
import { createHash, generateKeyPairSync, type KeyObject } from 'node:crypto';
import { execFileSync } from 'node:child_process';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import { formatNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import { parseRealisation, realisationFile, signRealisation } from '../../src/nix/realisation.ts';
import { formatPublicKey, signNarInfo } from '../../src/nix/signature.ts';
import { storePathFromBaseName } from '../../src/nix/store-path.ts';

export interface WrittenPath {
  readonly baseName: string;
  readonly info: NarInfo;
  /** The NAR as the cache holds it, xz. */
  readonly file: Buffer;
}

export interface WrittenPathOptions {
  /** Name to take the hash part from. Default: the path's own. */
  readonly hashOf?: string;
  /** Contents of the path, a single file. Default: its name and references. */
  readonly contents?: string;
  readonly references?: readonly string[];
  /** Changes of the narinfo after it was signed. */
  readonly lie?: (info: NarInfo) => Partial<NarInfo>;
}

export class WrittenCache {
  readonly dir: string;
  readonly publicKey: string;
  readonly #key: { readonly name: string; readonly key: KeyObject };

  private constructor(dir: string, name: string, key: KeyObject) {
    this.dir = dir;
    this.#key = { name, key };
    this.publicKey = formatPublicKey(this.#key);
  }

  /** Makes an empty cache in an existing folder. Signs with a new key of that name, or with another cache's key. */
  static async create(dir: string, keyOf: string | WrittenCache): Promise<WrittenCache> {
    await mkdir(join(dir, 'nar'));
    await writeFile(join(dir, 'nix-cache-info'), 'StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n');
    if (keyOf instanceof WrittenCache) return new WrittenCache(dir, keyOf.#key.name, keyOf.#key.key);
    return new WrittenCache(dir, keyOf, generateKeyPairSync('ed25519').privateKey);
  }

  /** Adds a path. */
  async add(name: string, options: WrittenPathOptions = {}): Promise<WrittenPath> {
    const digest = createHash('sha256')
      .update(options.hashOf ?? name)
      .digest();
    const baseName = `${encodeNix32(digest.subarray(0, 20))}-${name}`;
    const references = options.references ?? [];
    const text = options.contents ?? [name, ...references.map((reference) => `/nix/store/${reference}`)].join('\n');
    const nar = narOf(Buffer.from(text));
    const file = execFileSync('xz', ['-c', '-0'], { input: nar, maxBuffer: Infinity });
    const fileHash = fileHashOf(createHash('sha256').update(file).digest());
    const unsigned: NarInfo = {
      storePath: storePathFromBaseName(baseName),
      url: `nar/${fileHash}.nar.xz`,
      compression: 'xz',
      fileHash,
      fileSize: file.length,
      narHash: narHashOf(createHash('sha256').update(nar).digest()),
      narSize: nar.length,
      references: references.toSorted(),
      signatures: [],
      extra: [],
    };
    const info = { ...unsigned, signatures: [signNarInfo(unsigned, this.#key)] };
    await writeFile(join(this.dir, info.url), file);
    const said = { ...info, ...options.lie?.(info) };
    await writeFile(join(this.dir, `${baseName.slice(0, 32)}.narinfo`), formatNarInfo(said));
    return { baseName, info, file };
  }

  /** Adds a signed realisation that leads to a path. Returns its file, below the cache. */
  async addRealisation({ baseName }: Pick<WrittenPath, 'baseName'>): Promise<string> {
    const hash = createHash('sha256').update(baseName).digest('hex');
    const file = realisationFile(hash, 'out');
    const value = { id: `sha256:${hash}!out`, outPath: baseName, dependentRealisations: {}, signatures: [] };
    const unsigned = parseRealisation(file, JSON.stringify(value));
    if (unsigned === undefined) throw new Error(`${file} is no realisation`);
    await mkdir(join(this.dir, 'realisations'), { recursive: true });
    await writeFile(join(this.dir, file), signRealisation(unsigned, this.#key).text);
    return file;
  }
}

/** The NAR of one file that is not executable (Nix: src/libutil/archive.cc). */
function narOf(contents: Buffer): Buffer {
  const token = (bytes: Buffer): Buffer => {
    const length = Buffer.alloc(8);
    length.writeBigUInt64LE(BigInt(bytes.length));
    return Buffer.concat([length, bytes, Buffer.alloc((8 - (bytes.length % 8)) % 8)]);
  };
  const words = ['nix-archive-1', '(', 'type', 'regular', 'contents'].map((word) => Buffer.from(word));
  return Buffer.concat([...words, contents, Buffer.from(')')].map(token));
}
