import assert from 'node:assert/strict';
import { parsePublisherAddress } from '../../src/index/address.ts';
import { cohortInfoHash } from '../../src/index/cohort-key.ts';
import { DhtNode } from '../../src/discovery/dht.ts';
import type { DhtOptions } from '../../src/discovery/dht.ts';
import type { Endpoint } from '../../src/discovery/endpoint.ts';

/** Real DHT nodes on loopback, each of which knows each other one. */
export interface DhtNetwork extends AsyncDisposable {
  readonly nodes: DhtNode[];
  /** Address of the first node, for nodes that join later. */
  readonly bootstrap: Endpoint[];
  /** Starts one more node, which knows all others; closed with the network. */
  join(options?: DhtOptions): Promise<DhtNode>;
}

/** Limit on the time until a process has announced itself. */
const PATIENCE_MS = 180_000;

/** Waits until the DHT knows the process with the peer port `port` as a member of the cohort of a hash map. */
export async function untilInCohort(bootstrap: readonly Endpoint[], address: string, port: number): Promise<void> {
  const { publicKey, salt } = parsePublisherAddress(address);
  await using node = await DhtNode.listen({ host: '127.0.0.1', bootstrap: [...bootstrap] });
  const known = new Set<number>();
  const deadlineMs = performance.now() + PATIENCE_MS;
  while (!known.has(port)) {
    assert.ok(performance.now() < deadlineMs, `the DHT knows ${[...known].join(', ')}, and not ${port}`);
    // oxlint-disable-next-line no-await-in-loop
    await node.lookup(cohortInfoHash(publicKey, salt), { onPeer: (peer) => known.add(peer.port) });
  }
}

/** Starts `count` nodes, at most 20 (the size of a bucket, so that nobody is left out). No public router is asked. */
export async function startDhtNetwork(count: number, host = '127.0.0.1'): Promise<DhtNetwork> {
  assert.ok(count >= 1 && count <= 20);
  const started: DhtNode[] = [];
  const bootstrap: Endpoint[] = [];
  const join = async (options: DhtOptions = {}): Promise<DhtNode> => {
    const node = await DhtNode.listen({ host, bootstrap: [...bootstrap], queryTimeoutMs: 2_000, ...options });
    started.push(node);
    await node.ready();
    return node;
  };
  const close = async (): Promise<void> => {
    await Promise.all(started.map((node) => node.close()));
  };
  try {
    for (let index = 0; index < count; index++) {
      // One after the other: each newcomer asks all earlier nodes, and so becomes known to them.
      // oxlint-disable-next-line no-await-in-loop
      const { port } = await join();
      if (index === 0) bootstrap.push({ host, port });
    }
    for (const node of started) assert.equal(node.nodeCount(), count - 1);
  } catch (error) {
    await close();
    throw error;
  }
  return { nodes: [...started], bootstrap, join, [Symbol.asyncDispose]: close };
}
