/** Asks the bootstrap nodes of the DHT whether they are there, and at which address they see this machine. */
import { randomBytes } from 'node:crypto';
import { createSocket, type Socket } from 'node:dgram';
import { lookup } from 'node:dns/promises';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import bencode from 'bencode';
import { formatEndpoint, type Endpoint } from '../../discovery/endpoint.ts';
import { systemCode } from '../../disk/store-error.ts';
import { endOfValue, isBytes, isDictionary } from '../../torrent/bencoding.ts';
import { withinMs } from '../../within.ts';

/** Time for all answers. */
const ANSWER_MS = 4_000;
const NAME_MS = 5_000;
/** Interval at which a silent node is asked again: UDP loses packets. */
const ASK_AGAIN_MS = 1_000;
/** Time for the other nodes after the first answer. */
const OTHERS_MS = 1_000;
const ID_BYTES = 20;
const ENDPOINT_BYTES = 6;

/** The result of asking one node. */
export interface DhtNodeAnswer {
  /** `host:port` as it was given. */
  readonly node: string;
  /** `name`: its name was not found; `silent`: nothing came back. Undefined if it answered. */
  readonly failure: 'name' | 'silent' | undefined;
}

/** The answers of all nodes. */
export interface DhtAnswers {
  readonly nodes: readonly DhtNodeAnswer[];
  /** Addresses and ports at which the nodes see this machine, each once. Not all nodes say. */
  readonly seenAs: readonly Endpoint[];
  /** UDP port that the questions were sent from. */
  readonly port: number;
}

/** Formats a query that changes nothing at a node (BEP 5; BEP 43: read-only nodes are not remembered). */
export function formatQuery(transaction: Uint8Array): Buffer {
  const [id, target] = [randomBytes(ID_BYTES), randomBytes(ID_BYTES)];
  return Buffer.from(bencode.encode({ a: { id, target }, q: 'find_node', ro: 1, t: transaction, y: 'q' }));
}

/**
 * Reads the answer to that query.
 *
 * @returns undefined if it is not an answer; `seenAs` only if the node says (BEP 42)
 */
export function parseAnswer(
  packet: Buffer,
  transaction: Uint8Array,
): { readonly seenAs: Endpoint | undefined } | undefined {
  try {
    const fields: unknown = bencode.decode(packet.subarray(0, endOfValue(packet, 0)));
    if (!isDictionary(fields) || !isDictionary(fields['r'])) return undefined;
    const { t, ip } = fields;
    if (!isBytes(t) || Buffer.compare(t, transaction) !== 0) return undefined;
    if (!isBytes(ip) || ip.length !== ENDPOINT_BYTES) return { seenAs: undefined };
    const bytes = Buffer.from(ip);
    return { seenAs: { host: bytes.subarray(0, 4).join('.'), port: bytes.readUInt16BE(4) } };
  } catch {
    return undefined;
  }
}

/**
 * Asks all nodes at once.
 *
 * @param port UDP port to ask from, if it is free
 * @throws the signal's reason
 */
export async function askDht(
  nodes: readonly Endpoint[],
  { port, host }: { readonly port: number; readonly host?: string | undefined },
  signal: AbortSignal,
): Promise<DhtAnswers> {
  const socket = await bind(port, host).catch(() => bind(0, host));
  try {
    const seenAs = new Map<string, Endpoint>();
    const answered = new AbortController();
    let open = nodes.length;
    const asked = nodes.map(async (node): Promise<DhtNodeAnswer> => {
      const answer = await askOne(socket, node, AbortSignal.any([signal, answered.signal]));
      if (--open === 0) answered.abort();
      const name = formatEndpoint(node);
      if (typeof answer === 'string') return { node: name, failure: answer };
      if (answer.seenAs !== undefined) seenAs.set(formatEndpoint(answer.seenAs), answer.seenAs);
      void sleep(OTHERS_MS, undefined, { signal: answered.signal }).then(
        () => answered.abort(),
        () => undefined,
      );
      return { node: name, failure: undefined };
    });
    const answers = await Promise.all(asked);
    signal.throwIfAborted();
    return { nodes: answers, seenAs: [...seenAs.values()], port: socket.address().port };
  } finally {
    socket.close();
  }
}

async function bind(port: number, host: string | undefined): Promise<Socket> {
  const socket = createSocket('udp4');
  socket.on('error', () => undefined); // a node that cannot be reached counts as silent
  try {
    const failed = once(socket, 'error').then(([error]) => Promise.reject(error as Error));
    socket.bind(port, host);
    await Promise.race([once(socket, 'listening'), failed]);
    failed.catch(() => undefined);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

async function askOne(
  socket: Socket,
  { host, port }: Endpoint,
  signal: AbortSignal,
): Promise<{ readonly seenAs: Endpoint | undefined } | 'name' | 'silent'> {
  const address = await withinMs(NAME_MS, lookup(host, { family: 4 })).catch((error: unknown) => {
    if (systemCode(error) === undefined) throw error;
    return undefined;
  });
  if (address === undefined) return 'name';
  const transaction = randomBytes(4);
  const query = formatQuery(transaction);
  const stop = new AbortController();
  let answer: ReturnType<typeof parseAnswer>;
  const onMessage = (packet: Buffer): void => {
    answer ??= parseAnswer(packet, transaction);
    if (answer !== undefined) stop.abort();
  };
  socket.on('message', onMessage);
  const until = AbortSignal.any([signal, stop.signal, AbortSignal.timeout(ANSWER_MS)]);
  while (!until.aborted) {
    socket.send(query, port, address.address, () => undefined);
    await sleep(ASK_AGAIN_MS, undefined, { signal: until }).catch(() => undefined);
  }
  socket.off('message', onMessage);
  return answer ?? 'silent';
}
