import type { Endpoint } from './endpoint.ts';

/** Bootstrap nodes of the public DHT, as in bittorrent-dht (k-rpc 5.1.0). */
export const PUBLIC_NODES: readonly Endpoint[] = [
  { host: 'router.bittorrent.com', port: 6881 },
  { host: 'router.utorrent.com', port: 6881 },
  { host: 'dht.transmissionbt.com', port: 6881 },
];
