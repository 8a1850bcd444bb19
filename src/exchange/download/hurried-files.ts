import type { FileHash } from '../../nix/brands.ts';
import { lookForUnits, type Seen, type Sources } from './rarest.ts';
import type { Source, Unit } from './unit.ts';

/** The files that come before all others, since somebody waits for them. */
export class HurriedFiles {
  readonly #units = new Map<FileHash, ReadonlySet<Unit>>();

  /** @param units the missing ranges of the file */
  add(file: FileHash, units: ReadonlySet<Unit> | undefined): void {
    if (units !== undefined) this.#units.set(file, units);
  }

  delete(file: FileHash): void {
    this.#units.delete(file);
  }

  /** As {@link lookForUnits}, among their ranges alone. Undefined if a member has none that is not requested. */
  lookFor(
    source: Source,
    free: ReadonlySet<Unit>,
    sources: Sources,
    options: { readonly count: number; readonly mayAsk: (unit: Unit) => boolean },
  ): Seen | undefined {
    const units = [...this.#units.values()].flatMap((missing) => [...missing].filter((unit) => free.has(unit)));
    if (units.length === 0) return undefined;
    const seen = lookForUnits(source, units, sources, { ...options, isThorough: true });
    return seen.best.length > 0 ? seen : undefined;
  }
}
