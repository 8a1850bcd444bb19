import type { RateLimit } from '../../bytes/rate-limit.ts';
import type { LocalNetworks } from '../../discovery/local-networks.ts';
import type { PeerTable } from '../../discovery/peer-table.ts';
import type { PacketBudget } from '../../wire/packet-budget.ts';
import type { ProcessorBudget } from '../../wire/processor-budget.ts';
import type { SendBudget } from '../../wire/send-budget.ts';
import type { LeastSent } from '../answers/least-sent.ts';
import type { Offer } from '../answers/offer.ts';
import type { Patience } from './patience.ts';
import type { RequestsRoom } from '../answers/requests-room.ts';
import type { WantsRoom } from './wants-room.ts';
import type { WantedFiles } from './wanted.ts';

/** The parts that all links of a process share. */
export interface LinkContext {
  /** 20 bytes that identify this process. */
  readonly peerId: Buffer;
  /** Port at which others reach us. */
  readonly port: () => number;
  readonly peers: PeerTable;
  readonly networks: Pick<LocalNetworks, 'includes'>;
  /** Returns true if the scope lets this host have our NARs. */
  readonly mayHave: (host: string) => boolean;
  readonly wanted: WantedFiles;
  readonly offer: Offer;
  readonly budget: SendBudget;
  readonly wantsRoom: WantsRoom;
  /** Counts narinfos that members look up, by host. */
  readonly narInfos: PacketBudget;
  readonly requestsRoom: RequestsRoom;
  /** Limits the time that the messages of each host take. */
  readonly processor: ProcessorBudget;
  readonly leastSent: LeastSent;
  /** Decides how long members may be silent. */
  readonly patience: Patience;
  /** Buffer for bytes received over connections that we open. */
  readonly readBuffer: Uint8Array;
  readonly downloadLimit: (host: string) => RateLimit | undefined;
  readonly uploadLimit: (host: string) => RateLimit | undefined;
  readonly onUpload: (bytes: number) => void;
}
