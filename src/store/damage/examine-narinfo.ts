import { isNarswarmError } from '../../errors.ts';
import { failureOf } from '../../failure.ts';
import type { StoreHash } from '../../nix/brands.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import { isTrusted, type PublicKey } from '../../nix/signature.ts';
import { storeHashOf } from '../../nix/store-path.ts';
import type { FileStore } from '../file-store.ts';
import type { Fault } from './fault.ts';
import { faultOfUnsignedLines } from './unsigned-lines.ts';

/** A narinfo of the store, or its fault. `info` is undefined if it cannot be parsed. */
export type ExaminedNarInfo =
  /** `isUntrusted`: no trusted key has signed it, as with one's own builds, so it may be right or wrong. */
  | { readonly info: NarInfo; readonly isUntrusted: boolean }
  | { readonly info: NarInfo | undefined; readonly fault: Fault };

interface Means {
  readonly store: FileStore;
  /** True to check signatures and unsigned lines, too. */
  readonly deep: boolean;
  readonly keys: readonly PublicKey[];
}

/** Reads and checks a narinfo. Returns undefined if there is none. @throws STORE_UNWRITABLE if it may not be read */
export async function examineNarInfo(storeHash: StoreHash, means: Means): Promise<ExaminedNarInfo | undefined> {
  const { store } = means;
  try {
    const info = await store.readNarInfo(storeHash);
    const text = info === undefined ? undefined : await store.readNarInfoText(storeHash);
    if (info === undefined) return undefined;
    return text === undefined ? { info, isUntrusted: false } : examined(info, text, storeHash, means);
  } catch (error) {
    if (!isNarswarmError(error, 'STORE_CORRUPT')) throw error;
    const { reason } = failureOf(error.cause);
    return { info: undefined, fault: { kind: 'malformed-narinfo', reason } };
  }
}

/** Checks whether a readable narinfo belongs to this path. */
function examined(info: NarInfo, text: string, storeHash: StoreHash, { store, deep, keys }: Means): ExaminedNarInfo {
  if (storeHashOf(info.storePath) !== storeHash) return { info, fault: { kind: 'other-path', path: info.storePath } };
  try {
    store.narPath(info);
  } catch (error) {
    return { info, fault: { kind: 'malformed-narinfo', reason: failureOf(error).reason } };
  }
  const sound = { info, isUntrusted: false };
  if (!deep) return sound;
  if (isTrusted(info, keys)) {
    const fault = faultOfUnsignedLines(text, info, keys);
    return fault === undefined ? sound : { info, fault };
  }
  const forged = keys.find(({ name }) => info.signatures.some((signature) => signature.startsWith(`${name}:`)));
  return forged === undefined ? { info, isUntrusted: true } : { info, fault: { kind: 'forged', key: forged.name } };
}
