import type { MadeClosure } from '../../src/demo/closure.ts';
import { Lab, narBytesOf } from './lab.ts';
import { requireNamespaces } from './namespaces.ts';

/** A lab for machines on networks of their own, with a closure and the size of its NARs. */
export interface LanLab {
  readonly lab: Lab;
  readonly made: MadeClosure;
  readonly total: number;
}

/** @param blobBytes as of {@link Lab.closure} @param name of the key that signs the closure */
export async function openLanLab(blobBytes: readonly number[], name?: string): Promise<LanLab> {
  requireNamespaces();
  const lab = await Lab.open();
  const made = await lab.closure(blobBytes, name);
  return { lab, made, total: await narBytesOf(made.cacheDir) };
}
