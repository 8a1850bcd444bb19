import type { Socket } from 'node:net';
import type { SecureContext } from 'node:tls';
import { loadAuthorities } from './authorities.ts';
import { hungUp } from '../transfer/failure.ts';
import { ipVersion } from '../../ip-version.ts';

/** Makes TLS connections to one host. */
export class TlsClient {
  readonly #host: string;
  readonly #caFile: string | undefined;
  #secureContext: Promise<SecureContext | undefined> | undefined;
  /** The TLS session of the last connection, which saves the next one a handshake. */
  #session: Buffer | undefined;

  constructor(host: string, caFile: string | undefined) {
    this.#host = host;
    this.#caFile = caFile;
  }

  /** Reads the certificates before the first connection, since plain http does not need them. Returns a handshake. */
  async prepare(): Promise<(connected: Socket) => Promise<Socket>> {
    this.#secureContext ??= loadAuthorities(this.#caFile);
    const [tls, secureContext] = await Promise.all([import('node:tls'), this.#secureContext]);
    const host = this.#host;
    return (connected) => {
      const { promise, resolve, reject } = Promise.withResolvers<Socket>();
      const socket = tls.connect({
        socket: connected,
        host,
        ALPNProtocols: ['http/1.1'],
        ...(ipVersion(host) === 0 ? { servername: host.replace(/\.$/, '') } : {}),
        ...(secureContext === undefined ? {} : { secureContext }),
        ...(this.#session === undefined ? {} : { session: this.#session }),
      });
      socket.on('session', (session) => (this.#session = session));
      socket.on('error', reject).once('close', () => reject(hungUp()));
      socket.once('secureConnect', () => resolve(socket));
      return promise;
    };
  }
}
