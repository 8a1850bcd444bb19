import type { NarInfo } from '../../nix/narinfo.ts';
import { signNarInfo, verifyNarInfo, type PublicKey, type SecretKey } from '../../nix/signature.ts';

/** Both halves of a key that signs narinfos. */
export interface Signer {
  readonly secretKey: SecretKey;
  readonly publicKey: PublicKey;
}

/** Adds a signature to a narinfo. Returns the same object without a signer, or if the key has already signed it. */
export function withSignature(info: NarInfo, signer: Signer | undefined): NarInfo {
  if (signer === undefined || verifyNarInfo(info, [signer.publicKey]) !== undefined) return info;
  return { ...info, signatures: [...info.signatures, signNarInfo(info, signer.secretKey)] };
}
