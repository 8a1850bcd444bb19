import { watch } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

/** Returns true if all of `others` are among `names`. */
export function holdsAll(names: ReadonlySet<string>, others: ReadonlySet<string>): boolean {
  return [...others].every((name) => names.has(name));
}

/** Measures the NARs of a store whenever one comes or goes. */
export class NarSize implements AsyncDisposable {
  readonly #dir: string;
  readonly #stop = new AbortController();
  #measuring: Promise<void> = Promise.resolve();
  #names = new Set<string>();
  #whenGone = Promise.withResolvers<void>();
  mostBytes = 0;

  private constructor(store: string) {
    this.#dir = join(store, 'nar');
  }

  static watch(store: string): NarSize {
    const size = new NarSize(store);
    watch(size.#dir, { signal: size.#stop.signal }, () => void size.measure());
    return size;
  }

  /** Measures now. */
  measure(): Promise<void> {
    this.#measuring = this.#measuring.then(async () => {
      const names = await readdir(this.#dir);
      const bytes = await Promise.all(
        names.map((name) =>
          stat(join(this.#dir, name)).then(
            ({ size }) => size,
            () => 0,
          ),
        ),
      );
      if (!holdsAll(new Set(names), this.#names)) this.#whenGone.resolve();
      this.#names = new Set(names);
      this.mostBytes = Math.max(
        this.mostBytes,
        bytes.reduce((sum, one) => sum + one, 0),
      );
    });
    return this.#measuring;
  }

  /** Waits until a NAR that was there is gone. */
  untilOneIsGone(): Promise<void> {
    return this.#whenGone.promise;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort();
    await this.#measuring;
  }
}
