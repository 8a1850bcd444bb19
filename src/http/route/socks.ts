import { decode } from '../credentials.ts';
import { refusedByProxy } from '../transfer/failure.ts';
import type { Endpoint } from './route.ts';
import { receive, type Tunnel } from './tunnel.ts';
import { ipVersion } from '../../ip-version.ts';

const VERSION = 5;
const NO_PASSWORD = 0;
const PASSWORD = 2;
const PASSWORD_VERSION = 1;
const CONNECT = 1;
const IPV4 = 1;
const NAME = 3;
const IPV6 = 4;

/** Bytes of a reply before its address, and of the port behind it. */
const BEFORE_ADDRESS = 4;
const PORT_BYTES = 2;

const NOT_SOCKS = 'it does not speak SOCKS5';

/** The refusals of RFC 1928, and whether a later attempt would end the same way. */
const REFUSALS: ReadonlyMap<number, readonly [reason: string, isFinal: boolean]> = new Map([
  [2, ['its rules do not allow it', true]],
  [3, ['it has no way to the network of the server', false]],
  [4, ['it has no way to the server', false]],
  [5, ['the server refused the connection', false]],
  [6, ['the server is too far away', false]],
  [7, ['it makes no connections', true]],
  [8, ['it knows no addresses of this kind', true]],
]);

/**
 * Makes tunnels through a SOCKS5 proxy (RFC 1928), with the user and password of its address (RFC 1929). The proxy
 * resolves names: often it alone can.
 */
export function socksTunnel({ username, password }: URL): Tunnel {
  const login = [decode(username), decode(password)] as const;
  return async (socket, target) => {
    socket.write(Buffer.of(VERSION, ...(username === '' ? [1, NO_PASSWORD] : [2, NO_PASSWORD, PASSWORD])));
    const [version, method] = await receive(socket, () => 2);
    if (version !== VERSION) throw refusedByProxy(NOT_SOCKS, true);
    if (method === PASSWORD && username !== '') {
      socket.write(Buffer.concat([Buffer.of(PASSWORD_VERSION), ...login.map(withLength)]));
      const [, status] = await receive(socket, () => 2);
      if (status !== 0) throw refusedByProxy('it refused the user or the password of its address', true);
    } else if (method !== NO_PASSWORD) {
      const reason = username === '' ? 'it wants a user and a password' : 'it does not take a user and a password';
      throw refusedByProxy(reason, true);
    }
    socket.write(formatConnect(target));
    const [replyVersion, reply = 0] = await receive(socket, lengthOfReply);
    if (replyVersion !== VERSION) throw refusedByProxy(NOT_SOCKS, true);
    if (reply !== 0) throw refusedByProxy(...(REFUSALS.get(reply) ?? ['it failed to connect', false]));
  };
}

function formatConnect({ host, port }: Endpoint): Buffer {
  const portBytes = Buffer.alloc(PORT_BYTES);
  portBytes.writeUInt16BE(port);
  return Buffer.concat([Buffer.of(VERSION, CONNECT, 0), formatHost(host), portBytes]);
}

function formatHost(host: string): Buffer {
  const family = ipVersion(host);
  if (family === 0) return Buffer.concat([Buffer.of(NAME), withLength(host)]);
  return family === 4 ? Buffer.of(IPV4, ...host.split('.').map(Number)) : Buffer.of(IPV6, ...bytesOfIpv6(host));
}

/** @param host as in an URL: in groups of hexadecimal digits */
function bytesOfIpv6(host: string): number[] {
  const [before = [], after = []] = host.split('::').map((part) => part.split(':').filter((group) => group !== ''));
  const groups = [...before, ...Array<string>(8 - before.length - after.length).fill('0'), ...after];
  return groups.map((group) => Number.parseInt(group, 16)).flatMap((group) => [group >> 8, group & 0xff]);
}

/** @throws AttemptFailure for a text of more than 255 bytes */
function withLength(text: string): Buffer {
  const bytes = Buffer.from(text);
  if (bytes.length > 255) throw refusedByProxy('SOCKS carries no name, user or password of more than 255 bytes', true);
  return Buffer.concat([Buffer.of(bytes.length), bytes]);
}

function lengthOfReply(bytes: Buffer): number | undefined {
  const [, , , kind, first] = bytes;
  if (kind === undefined) return undefined;
  if (kind === IPV4) return BEFORE_ADDRESS + 4 + PORT_BYTES;
  if (kind === IPV6) return BEFORE_ADDRESS + 16 + PORT_BYTES;
  if (kind === NAME) return first === undefined ? undefined : BEFORE_ADDRESS + 1 + first + PORT_BYTES;
  return BEFORE_ADDRESS; // some proxies refuse without an address
}
