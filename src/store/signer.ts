import type { NarInfo } from '../nix/narinfo.ts';
import { signNarInfo, verifyNarInfo, type PublicKey, type SecretKey } from '../nix/signature.ts';

/** The two halves of a key that signs narinfos. */
export interface Signer {
  readonly secretKey: SecretKey;
  readonly publicKey: PublicKey;
}

/** The narinfo with one signature more; the same object where there is nobody to sign it, or he has signed it. */
export function withSignature(info: NarInfo, signer: Signer | undefined): NarInfo {
  if (signer === undefined || verifyNarInfo(info, [signer.publicKey]) !== undefined) return info;
  return { ...info, signatures: [...info.signatures, signNarInfo(info, signer.secretKey)] };
}
