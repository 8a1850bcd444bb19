/**
 * A binary cache with one generated closure, on disk as Nix has it, and a .torrent file a NAR for the clients that need
 * one. The NARs are compressed with xz, as in most caches. Their contents are synthetic, unless others are given: most
 * benchmarks import nothing.
 */
import { createHash, generateKeyPairSync } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import PQueue from 'p-queue';
import { formatCacheInfo } from '../../src/nix/cache-info.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import { formatNarInfo } from '../../src/nix/narinfo.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parseSecretKey, signNarInfo } from '../../src/nix/signature.ts';
import type { SecretKey } from '../../src/nix/signature.ts';
import { DEFAULT_STORE_DIR, storeHashOf, storePathFromBaseName } from '../../src/nix/store-path.ts';
import { narTorrent, pieceLengthOf, torrentFile } from '../../src/torrent/canonical.ts';
import type { ClosureShape } from './closures.ts';
import { makeNar, type MadeNar } from './made-nar.ts';
import { RandomStream } from './random.ts';

/** A NAR file below `nar/`. */
export interface NarFile {
  /** `<nix32 FileHash>.nar.xz` */
  readonly name: string;
  readonly sizeBytes: number;
  /** SHA-256 of its bytes. */
  readonly sha256Hex: string;
}

export interface BinaryCache {
  readonly dir: string;
  /** Holds `<name>.torrent` for each NAR. */
  readonly torrentDir: string;
  /** `NAME:BASE64`, as `--trusted-public-key` takes it. */
  readonly publicKey: string;
  /** The root, which reaches every other path. */
  readonly rootPath: string;
  readonly nars: readonly NarFile[];
  readonly totalBytes: number;
  /** Signs further narinfos of the cache. */
  readonly secretKey: SecretKey;
  /** Base names of the store paths: each refers to later ones only. */
  readonly baseNames: readonly string[];
}

const MAX_REFERENCES = 10;
/** Children of a path in the tree that makes the root reach all: closures are deep rather than wide. */
const FAN_OUT = 2;

/** Makes a NAR whose xz file has about `fileBytes`: the same seed always gives the same. */
export type NarMaker = (seed: string, fileBytes: number) => Promise<MadeNar>;

/** Writes the cache to `dir` and the torrents to `torrentDir`, neither of which may exist. */
export async function writeBinaryCache(
  shape: ClosureShape,
  dir: string,
  torrentDir: string,
  { keyName = 'bench-1', make = makeNar }: { readonly keyName?: string; readonly make?: NarMaker } = {},
): Promise<BinaryCache> {
  const random = new RandomStream(`${shape.name} content`);
  const { secretKey, publicKey } = newKey(keyName);
  await Promise.all([mkdir(join(dir, 'nar'), { recursive: true }), mkdir(torrentDir, { recursive: true })]);
  const cacheInfo = formatCacheInfo({ storeDir: DEFAULT_STORE_DIR, wantMassQuery: true, priority: 40 });
  await writeFile(join(dir, 'nix-cache-info'), cacheInfo);

  // The root comes first here; every path refers to later ones only.
  const order = shape.sizesBytes.map((sizeBytes) => ({ sizeBytes, place: random.fraction() }));
  const sizesBytes = order.toSorted((a, b) => a.place - b.place).map(({ sizeBytes }) => sizeBytes);
  const baseNames = sizesBytes.map((_, index) => `${encodeNix32(random.bytes(20))}-package-${index}`);
  const references = baseNames.map((_, index) => referencesOf(index, baseNames, random));
  const queue = new PQueue({ concurrency: availableParallelism() });
  const write = async (baseName: string, index: number): Promise<NarFile> => {
    const made = await make(`${shape.name} ${index}`, sizesBytes[index] ?? 0);
    const { nar, info, torrent } = describe(baseName, made);
    const text = formatSigned({ ...info, references: references[index] ?? [] }, secretKey);
    await Promise.all([
      writeFile(join(dir, 'nar', nar.name), made.file),
      writeFile(join(torrentDir, `${nar.name}.torrent`), torrent),
      writeFile(join(dir, `${storeHashOf(info.storePath)}.narinfo`), text),
    ]);
    return nar;
  };
  const nars = await queue.addAll(baseNames.map((baseName, index) => () => write(baseName, index)));
  const rootPath = `${DEFAULT_STORE_DIR}/${baseNames[0]}`;
  const totalBytes = nars.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
  return { dir, torrentDir, publicKey, rootPath, nars, totalBytes, secretKey, baseNames };
}

/** A NAR with its narinfo, which is not signed yet, and its torrent. */
export function describe(baseName: string, { file, narHash, narSize }: MadeNar) {
  const digest = createHash('sha256').update(file).digest();
  const fileHash = fileHashOf(digest);
  const pieceLength = pieceLengthOf(file.length);
  const pieces: Buffer[] = [];
  for (let at = 0; at < file.length; at += pieceLength) {
    pieces.push(
      createHash('sha1')
        .update(file.subarray(at, at + pieceLength))
        .digest(),
    );
  }
  const sizeBytes = file.length;
  const torrent = narTorrent({ fileHash, extension: 'xz', sizeBytes, pieces: Buffer.concat(pieces) });
  const nar: NarFile = { name: torrent.name, sizeBytes, sha256Hex: digest.toString('hex') };
  const info: NarInfo = {
    storePath: storePathFromBaseName(baseName),
    url: `nar/${torrent.name}`,
    compression: 'xz',
    fileHash,
    fileSize: sizeBytes,
    narHash,
    narSize,
    references: [],
    signatures: [],
    extra: [],
  };
  return { nar, info, torrent: torrentFile(torrent) };
}

/** Picks its children in the tree, and up to eight others, mostly of the last paths: everything needs libc. */
function referencesOf(index: number, baseNames: readonly string[], random: RandomStream): string[] {
  const chosen = new Set<number>();
  for (let child = 1; child <= FAN_OUT; child++) chosen.add(index * FAN_OUT + child);
  for (let more = random.below(MAX_REFERENCES - FAN_OUT + 1); more > 0; more--) {
    const after = baseNames.length - 1 - index;
    chosen.add(baseNames.length - 1 - Math.floor(random.fraction() ** 4 * after));
  }
  chosen.delete(index);
  return Array.from(chosen, (at) => baseNames[at])
    .filter((name) => name !== undefined)
    .toSorted();
}

/** The text of a narinfo with a signature. */
export function formatSigned(info: NarInfo, secretKey: SecretKey): string {
  return formatNarInfo({ ...info, signatures: [signNarInfo(info, secretKey)] });
}

function newKey(name: string): { secretKey: SecretKey; publicKey: string } {
  const { d = '', x = '' } = generateKeyPairSync('ed25519').privateKey.export({ format: 'jwk' });
  const [seed, point] = [Buffer.from(d, 'base64url'), Buffer.from(x, 'base64url')];
  const secretKey = parseSecretKey(`${name}:${Buffer.concat([seed, point]).toString('base64')}`);
  return { secretKey, publicKey: `${name}:${point.toString('base64')}` };
}
