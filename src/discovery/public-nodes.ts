import type { Endpoint } from './endpoint.ts';

/** Nodes by which the public DHT is joined: those of bittorrent-dht (k-rpc 5.1.0). */
export const PUBLIC_NODES: readonly Endpoint[] = [
  { host: 'router.bittorrent.com', port: 6881 },
  { host: 'router.utorrent.com', port: 6881 },
  { host: 'dht.transmissionbt.com', port: 6881 },
];
