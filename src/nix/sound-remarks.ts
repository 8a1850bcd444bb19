import type { StoreHash } from './brands.ts';
import { verifiesContentAddress } from './content-address.ts';
import type { NarInfo } from './narinfo.ts';
import { assertTrusted, fingerprint, signerOf, type PublicKey } from './signature.ts';
import { storeHashOf } from './store-path.ts';

/** Limit on kept signatures by unknown keys. They are kept for others, but must not bloat a narinfo. */
const MAX_FOREIGN_SIGNATURES = 16;

/** Base64 digits of an ed25519 signature, without padding. */
const SIGNATURE_DIGITS = 86;

/**
 * Fields that a hash map adds (index/record.ts). They are checked where they are used, and not written to the store.
 */
const KEPT_EXTRA: ReadonlySet<string> = new Set(['InfoHash', 'Pieces']);

/**
 * Admits the narinfo of a source. The signed part counts if a key has signed it, or if the path follows from its
 * content address. Each remark is checked on its own, since a liar can add remarks to a good narinfo. Nix refuses a
 * narinfo with a malformed `CA`, and from 2.34 on also one with a malformed `Sig`. Its import fails for a wrong `CA`.
 *
 * @param expected the store hash that was requested. Undefined: the narinfo may be for any path
 * @param needsSignature false for a source that Nix is told to trust
 * @returns the narinfo without its unsound remarks; the same object if all are sound
 * @throws NarswarmError as {@link assertTrusted}
 */
export function admitNarInfo(
  info: NarInfo,
  keys: readonly PublicKey[],
  expected?: StoreHash,
  needsSignature = true,
): NarInfo {
  const { ca, extra, signatures } = info;
  const isExpected = expected === undefined || storeHashOf(info.storePath) === expected;
  const { sound, signers } = soundSignatures(info, keys);
  const isAddressed = ca !== undefined && verifiesContentAddress(info);
  if (!isExpected || (needsSignature && signers.size === 0 && !isAddressed)) assertTrusted(info, keys, expected);
  const kept = extra.filter(([key]) => KEPT_EXTRA.has(key));
  const areSound = sound.length === signatures.length && sound.every((text, index) => text === signatures[index]);
  const isSound = areSound && kept.length === extra.length;
  const isWhole = isSound && (ca === undefined || isAddressed);
  const admitted = isWhole ? info : withRemarks(info, { signatures: sound, extra: kept }, isAddressed);
  for (const { verified } of signers) verified?.add(admitted);
  return admitted;
}

function withRemarks(
  { ca, ...rest }: NarInfo,
  remarks: Pick<NarInfo, 'signatures' | 'extra'>,
  isAddressed: boolean,
): NarInfo {
  return { ...rest, ...remarks, ...(isAddressed && ca !== undefined ? { ca } : {}) };
}

/** Returns the valid signatures and their keys, and some signatures by unknown keys, without repetition. */
function soundSignatures(info: NarInfo, keys: readonly PublicKey[]): { sound: string[]; signers: Set<PublicKey> } {
  const message = Buffer.from(fingerprint(info));
  const sound = new Set<string>();
  const signers = new Set<PublicKey>();
  let foreign = 0;
  for (const signature of new Set(info.signatures)) {
    const signer = signerOf(signature, message, keys);
    if (typeof signer !== 'string') {
      signers.add(signer);
      sound.add(plainSpelling(signature));
    } else if (signer === 'foreign' && foreign++ < MAX_FOREIGN_SIGNATURES) sound.add(signature);
  }
  return { sound: [...sound], signers };
}

/** Brings a signature to one spelling. Nix ignores text after the padding, so each signature has many. */
function plainSpelling(signature: string): string {
  return `${signature.slice(0, signature.indexOf(':') + 1 + SIGNATURE_DIGITS)}==`;
}
