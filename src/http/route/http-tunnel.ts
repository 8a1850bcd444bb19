import { basic, decode } from '../credentials.ts';
import { notHttp, refusedByProxy, WANTS_PASSWORD } from '../transfer/failure.ts';
import { parseHead } from '../connection/response-head.ts';
import { receive, type Tunnel } from './tunnel.ts';
import { ipVersion } from '../../ip-version.ts';

/** Limit on the head of a proxy's answer. */
const MAX_HEAD_BYTES = 64 * 1024;

/** Makes tunnels through an HTTP proxy (CONNECT; RFC 9110, 9.3.6). @param authorization headers for the proxy */
export function httpTunnel(authorization: Readonly<Record<string, string>>): Tunnel {
  return async (socket, { host, port }) => {
    const authority = `${ipVersion(host) === 6 ? `[${host}]` : host}:${port}`;
    const headers = Object.entries({ host: authority, ...authorization }).map(
      ([name, value]) => `${name}: ${value}\r\n`,
    );
    socket.write(`CONNECT ${authority} HTTP/1.1\r\n${headers.join('')}\r\n`, 'latin1');
    for (;;) {
      // oxlint-disable-next-line no-await-in-loop -- interim answers come before the answer
      const { statusCode } = parseHead((await receive(socket, lengthOfHead)).toString('latin1'));
      if (statusCode >= 200 && statusCode < 300) return;
      if (statusCode === 407) throw refusedByProxy(`it answered 407: ${WANTS_PASSWORD}`, true);
      if (statusCode >= 200) throw refusedByProxy(`it answered ${statusCode}`, statusCode < 500);
    }
  };
}

/** Returns the headers with the password for a proxy; none if its address has none. */
export function authorizationFor({ username, password }: URL): Readonly<Record<string, string>> {
  return username === '' ? {} : { 'proxy-authorization': basic(decode(username), decode(password)) };
}

function lengthOfHead(bytes: Buffer): number | undefined {
  const end = /\r?\n\r?\n/.exec(bytes.toString('latin1'));
  if (end !== null) return end.index + end[0].length;
  if (bytes.length > MAX_HEAD_BYTES) throw notHttp(`its headers have over ${MAX_HEAD_BYTES} bytes`);
  return undefined;
}
