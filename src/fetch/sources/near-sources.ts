import type { Upstream } from '../../http/upstream.ts';
import type { NarInfoSource } from './narinfo-sources.ts';

/** Sources on the local network, which come and go during a fetch. They are not configured, so they may only help. */
export interface NearSources {
  /** Sources of narinfos that may be asked now, before any cache on the internet. */
  readonly sources: readonly NarInfoSource[];
  /** The same sources as one source that waits a moment for new ones, for paths that no other source has. */
  readonly awaited: NarInfoSource;
  /**
   * The same, used instead of `awaited` while no cache has answered: asks again while others may be about to appear, be
   * busy or check a path.
   */
  readonly lasting?: NarInfoSource;
  /** The sources among them that are caches of NARs. */
  readonly upstreams: readonly Upstream[];
}
