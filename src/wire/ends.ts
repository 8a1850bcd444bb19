/** The two ends of a connection between the swarm and a peer. Messages can be sent in the name of either. */
export interface Ends {
  /** True if both sides speak the fast extension (BEP 6). */
  readonly hasFast: boolean;
  /** Sends a message to the peer, after the one that is being sent. */
  toPeer(message: Buffer): void;
  /** Sends a message to the swarm, in the name of the peer. */
  toSwarm(message: Buffer): void;
  /** Ends the connection at once. */
  refuse(): void;
}
