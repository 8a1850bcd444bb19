/** NAT-PMP (RFC 6886): asks a router for mappings in packets of twelve bytes. */
import { createSocket, type Socket } from 'node:dgram';
import { once } from 'node:events';
import {
  LEASE_SECONDS,
  type Gateway,
  type MapAnswer,
  type MappedPort,
  type Place,
  type WantedPort,
} from './mapping.ts';

const PORT = 5351;
const OP_ADDRESS = 0;
const OP = { udp: 1, tcp: 2 } as const;
const IS_ANSWER = 128;
const ADDRESS_BYTES = 12;
const MAPPING_BYTES = 16;
/** Pauses after each packet (RFC 6886, 3.1). The RFC continues for a minute, which no router on a LAN needs. */
const PAUSES_MS = [250, 500, 1_000, 2_000];

/** Asks a router for its address on the other side. Returns undefined if it does not speak NAT-PMP. */
export async function openNatPmp(place: Place, signal: AbortSignal): Promise<Gateway | undefined> {
  const answer = await ask(place, Buffer.from([0, OP_ADDRESS]), ADDRESS_BYTES, signal);
  if (answer === undefined) return undefined;
  const isKnown = answer.readUInt16BE(2) === 0;
  const externalAddress = isKnown ? [...answer.subarray(8, 12)].join('.') : undefined;
  return new NatPmp(place, externalAddress === '0.0.0.0' ? undefined : externalAddress);
}

class NatPmp implements Gateway {
  readonly protocol = 'nat-pmp';
  readonly externalAddress: string | undefined;
  readonly #place: Place;

  constructor(place: Place, externalAddress: string | undefined) {
    this.#place = place;
    this.externalAddress = externalAddress;
  }

  async map(wanted: WantedPort, externalPort: number, signal: AbortSignal): Promise<MapAnswer> {
    const answer = await ask(this.#place, request(wanted, externalPort, LEASE_SECONDS), MAPPING_BYTES, signal);
    if (answer === undefined) return { kind: 'silent' };
    const code = answer.readUInt16BE(2);
    const given = answer.readUInt16BE(10);
    const leaseSeconds = answer.readUInt32BE(12);
    if (code !== 0 || given === 0 || leaseSeconds === 0) return { kind: 'refused', code };
    return { kind: 'mapped', externalPort: given, leaseSeconds };
  }

  async unmap(
    { protocol, internalPort }: Pick<MappedPort, 'protocol' | 'internalPort'>,
    signal: AbortSignal,
  ): Promise<void> {
    await ask(this.#place, request({ protocol, port: internalPort }, 0, 0), MAPPING_BYTES, signal);
  }
}

function request({ protocol, port }: WantedPort, externalPort: number, leaseSeconds: number): Buffer {
  const packet = Buffer.alloc(12);
  packet.writeUInt8(OP[protocol], 1);
  packet.writeUInt16BE(port, 4);
  packet.writeUInt16BE(externalPort, 6);
  packet.writeUInt32BE(leaseSeconds, 8);
  return packet;
}

/**
 * Sends a request until the router answers it. The socket is connected: packets of other hosts do not arrive.
 *
 * @param sizeBytes least size of an answer
 * @returns undefined if the router does not answer
 */
async function ask(
  { gateway, own }: Place,
  packet: Buffer,
  sizeBytes: number,
  signal: AbortSignal,
): Promise<Buffer | undefined> {
  const socket = createSocket('udp4');
  socket.on('error', () => undefined); // also between two packets
  try {
    socket.bind({ address: own, port: 0, exclusive: true });
    await once(socket, 'listening', { signal });
    socket.connect(PORT, gateway);
    await once(socket, 'connect', { signal });
    for (const pauseMs of PAUSES_MS) {
      const answered = answerTo(socket, packet, sizeBytes, AbortSignal.any([signal, AbortSignal.timeout(pauseMs)]));
      socket.send(packet, () => undefined); // a port that is closed is an error of the next read
      const answer = await answered;
      if (answer !== undefined) return answer;
      signal.throwIfAborted();
    }
    return undefined;
  } catch {
    return undefined; // ECONNREFUSED: nothing listens there; or the network has gone
  } finally {
    socket.close();
  }
}

/** Waits for the answer to a request: that of the same operation and port. @throws errors of the socket */
function answerTo(socket: Socket, packet: Buffer, sizeBytes: number, signal: AbortSignal): Promise<Buffer | undefined> {
  const { promise, resolve, reject } = Promise.withResolvers<Buffer | undefined>();
  const onMessage = (message: Buffer): void => {
    const [version, op] = message;
    if (message.length < sizeBytes || version !== 0 || op !== IS_ANSWER + (packet[1] ?? 0)) return;
    const isOurs = sizeBytes === ADDRESS_BYTES || message.readUInt16BE(8) === packet.readUInt16BE(4);
    if (isOurs) resolve(message);
  };
  const onAbort = (): void => resolve(undefined);
  socket.on('message', onMessage);
  socket.once('error', reject);
  signal.addEventListener('abort', onAbort, { once: true });
  return promise.finally(() => {
    socket.off('message', onMessage);
    socket.off('error', reject);
    signal.removeEventListener('abort', onAbort);
  });
}
