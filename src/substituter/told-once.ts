import { failureOf, type Failure } from '../failure.ts';
import { factsOf, type Warn, type Warning } from '../warning.ts';

/**
 * Passes on each warning once, and counts how often it comes again. Warnings about single NARs are the same if they blame
 * the same sources: an upstream that fails would otherwise be reported for each NAR.
 */
export class ToldOnce {
  readonly #onWarning: Warn;
  readonly #told = new Map<string, { readonly first: Warning; again: number }>();

  constructor(onWarning: Warn) {
    this.#onWarning = onWarning;
  }

  readonly take: Warn = (warning) => {
    const key = keyOf(warning);
    const told = this.#told.get(key);
    if (told !== undefined) told.again++;
    else {
      this.#told.set(key, { first: warning, again: 0 });
      this.#onWarning(warning);
    }
  };

  /** Reports how often each warning came again, and forgets all of them. */
  flush(): void {
    const told = [...this.#told.values()];
    this.#told.clear();
    for (const { first, again } of told) if (again > 0) this.#onWarning({ kind: 'repeated', first, count: again });
  }
}

function keyOf(warning: Warning): string {
  const { kind } = warning;
  switch (kind) {
    case 'peers-again':
      return [kind, ...sourcesOf(warning.failures)].join(' ');
    case 'fetched-again':
      return [kind, ...sourcesOf([failureOf(warning.error)])].join(' ');
    case 'other-description':
      return [kind, ...sourcesOf([warning.failure]), warning.source].join(' ');
    default:
      return JSON.stringify(factsOf(warning));
  }
}

/** Returns the upstreams and peers that failures blame. */
function sourcesOf(failures: readonly Failure[]): string[] {
  const sources = failures.flatMap(({ facts, causes = [] }) => {
    const { url, origins = [] } = (facts ?? {}) as { readonly url?: string; readonly origins?: readonly string[] };
    return [...(url === undefined ? [] : [originOf(url)]), ...origins, ...sourcesOf(causes)];
  });
  return [...new Set(sources)].toSorted();
}

function originOf(url: string): string {
  return URL.canParse(url) ? new URL(url).origin : url;
}
