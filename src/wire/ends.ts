/** The two ends of a connection between the swarm and a peer, for those who speak in the name of either. */
export interface Ends {
  /** True if both sides speak the fast extension (BEP 6). */
  readonly hasFast: boolean;
  /** Says something to the peer, behind the message that is on its way. */
  toPeer(message: Buffer): void;
  /** Says something to the swarm as if the peer had said it. */
  toSwarm(message: Buffer): void;
  /** Ends the connection at once. */
  refuse(): void;
}
