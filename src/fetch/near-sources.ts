import type { Upstream } from '../http/upstream.ts';
import type { NarInfoSource } from './find-narinfo.ts';

/** Sources on the local network, which come and go while a fetch runs. Nobody has configured them: they only help. */
export interface NearSources {
  /** Sources of narinfos that may be asked now, before any cache on the internet. */
  readonly sources: readonly NarInfoSource[];
  /** The same as one source that waits a moment for new ones, for paths that nobody else has. */
  readonly awaited: NarInfoSource;
  /** Those of them that are caches of NARs. */
  readonly upstreams: readonly Upstream[];
}
