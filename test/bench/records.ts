/** Records as those of cache.nixos.org are, from a fixed stream of bytes: the same count always gives the same. */
import { createCipheriv } from 'node:crypto';
import { fileHashOf, narHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { encodeNix32 } from '../../src/nix/nix32.ts';
import { storePathFromBaseName } from '../../src/nix/store-path.ts';
import { toRecord } from '../../src/index/record.ts';
import { narTorrent, pieceLengthOf } from '../../src/torrent/canonical.ts';

const NAMES = (
  'glibc gcc bash coreutils openssl python3 perl systemd util-linux curl zlib ncurses readline sqlite libxml2 icu4c ' +
  'linux firefox thunderbird gtk+3 gtk4 qtbase mesa llvm clang rustc ghc texlive cups ffmpeg gstreamer gimp inkscape ' +
  'haskell-lens-5 python3.12-numpy python3.12-scipy python3.12-requests perl5.38-JSON rubygems nodejs go emacs vim'
).split(' ');
const OUTPUTS = ['', '', '', '-lib', '-dev', '-bin', '-man', '-doc'];
const REFERENCES = 10;

/**
 * `count` records with ten references each, most of them to the same few paths, as closures have it.
 *
 * @param options.seed another one gives other records
 * @param options.firstCharacter of all store hashes. Default: any
 */
export function syntheticRecords(
  count: number,
  { seed = 0, firstCharacter }: { readonly seed?: number; readonly firstCharacter?: string } = {},
): NarInfo[] {
  const random = randomBytes(seed);
  const hash = (): string => {
    const text = encodeNix32(random(20));
    return firstCharacter === undefined ? text : firstCharacter + text.slice(1);
  };
  const baseNames = Array.from({ length: count }, () => `${hash()}-${nameFrom(random(4))}`);
  return baseNames.map((baseName) => recordFrom(random, baseName, baseNames));
}

function recordFrom(random: (count: number) => Buffer, baseName: string, baseNames: readonly string[]): NarInfo {
  const fileHash = fileHashOf(random(32));
  const sizeBytes = sizeFrom(random(4));
  const pieces = random(20 * Math.ceil(sizeBytes / pieceLengthOf(sizeBytes)));
  const references = Array.from({ length: REFERENCES }, () => {
    const fraction = random(4).readUInt32LE() / 2 ** 32;
    return baseNames[Math.floor(fraction ** 4 * baseNames.length)] ?? baseName;
  });
  const info: NarInfo = {
    storePath: storePathFromBaseName(baseName),
    url: `nar/${fileHash}.nar.xz`,
    compression: 'xz',
    fileHash,
    fileSize: sizeBytes,
    narHash: narHashOf(random(32)),
    narSize: sizeBytes * 4 + 120,
    references: [...new Set(references)].toSorted(),
    deriver: `${encodeNix32(random(20))}-${baseName.slice(33)}.drv`,
    signatures: [`cache.nixos.org-1:${random(64).toString('base64')}`],
    extra: [],
  };
  return toRecord(info, narTorrent({ fileHash, extension: 'xz', sizeBytes, pieces }));
}

function nameFrom(bytes: Buffer): string {
  const pick = <Item>(items: readonly Item[], index: number): Item | undefined =>
    items[(bytes[index] ?? 0) % items.length];
  return `${pick(NAMES, 0)}-${(bytes[1] ?? 0) % 30}.${(bytes[2] ?? 0) % 20}.${(bytes[3] ?? 0) % 8}${pick(OUTPUTS, 3)}`;
}

/** Log-normal around 100 KiB: one in nineteen has more than one piece. */
function sizeFrom(bytes: Buffer): number {
  const [a, b] = [bytes.readUInt16LE(0) + 1, bytes.readUInt16LE(2) + 1].map((value) => value / 65_537);
  const normal = Math.sqrt(-2 * Math.log(a ?? 1)) * Math.cos(2 * Math.PI * (b ?? 1));
  return Math.max(200, Math.round(100_000 * Math.exp(1.45 * normal)));
}

function randomBytes(seed: number): (count: number) => Buffer {
  const key = Buffer.alloc(16);
  key.writeUInt32LE(seed);
  const stream = createCipheriv('aes-128-ctr', key, Buffer.alloc(16));
  return (count) => stream.update(Buffer.alloc(count));
}
