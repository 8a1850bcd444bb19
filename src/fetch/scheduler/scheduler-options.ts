import type { DirectionLimit } from '../../bytes/rate-limit.ts';
import type { HttpDownloads } from '../../http/client.ts';
import type { Upstream } from '../../http/upstream.ts';
import type { NarInfo } from '../../nix/narinfo.ts';
import type { HeldNars } from '../../serve/held-nars.ts';
import type { FileStore } from '../../store/file-store.ts';
import type { PartialNar } from '../../store/partial.ts';
import type { PartialSession } from '../../store/session.ts';
import type { Network } from '../../swarm/network.ts';
import type { Tell } from '../events.ts';
import type { HurriedNars } from '../download/hurried-nars.ts';
import type { NarJob } from '../plan/job.ts';
import type { PlaceOf } from './task-intake.ts';
import type { UpstreamOrder } from './upstream-order.ts';

/** Sources and target of the NARs. */
export interface SchedulerOptions {
  readonly store: FileStore;
  readonly session: PartialSession;
  /** Undefined: peers are not asked. */
  readonly network: Network | undefined;
  readonly http: HttpDownloads;
  /** Empty: everything must come from peers. */
  readonly upstreams: readonly Upstream[];
  /** The order of these upstreams, which lasts longer than one scheduler. Default: a new one. */
  readonly order?: UpstreamOrder | undefined;
  readonly limit?: DirectionLimit | undefined;
  /** Returns true while no further NAR is to be requested beyond the members: the line is wanted for something else. */
  readonly isHeldBack?: (() => boolean) | undefined;
  readonly tell: Tell;
  /** Without an upstream: time without progress after which the run gives up. Default 60,000. */
  readonly standstillMs?: number | undefined;
  /**
   * True to wait for peers that are there, as long as without an upstream, if upstreams have failed. Default: false, a NAR
   * is given up if no peer has it.
   */
  readonly waitsForPeers?: boolean | undefined;
  /** As in a round (fetch-round.ts). */
  readonly placeOf?: PlaceOf | undefined;
  readonly hurried?: HurriedNars | undefined;
  /** Called with each NAR that begins to arrive. */
  readonly onBegun?: ((info: NarInfo, partial: PartialNar) => void) | undefined;
  /** Called with each NAR as soon as it is verified and in the store. */
  readonly onFetched: (job: NarJob, how: { readonly isOfMembers: boolean }) => void;
  /** False to fetch only the files that narinfos name, and no uncompressed NARs of neighbours. Default: true. */
  readonly mayBeUncompressed?: boolean | undefined;
  /** Serves the NARs that are here to others. */
  readonly held?: HeldNars | undefined;
}
