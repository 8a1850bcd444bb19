/**
 * A home router: answers NAT-PMP, SSDP and the SOAP of UPnP, and remembers the mappings. Binds the standard ports of one
 * IPv4 address, such as 127.0.9.1, or that of a network namespace (as a program: `node fake-gateway.ts ADDRESS [JSON]`).
 */
import { createSocket, type RemoteInfo, type Socket } from 'node:dgram';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { text } from 'node:stream/consumers';

export interface GatewayMapping {
  readonly protocol: 'tcp' | 'udp';
  readonly client: string;
  readonly internalPort: number;
  /** As asked for. 0: for ever. */
  readonly leaseSeconds: number;
}

export interface FakeGatewayOptions {
  readonly natPmp?: boolean;
  readonly upnp?: boolean;
  /** Address on the other side. */
  readonly externalAddress?: string;
  /** Lease that NAT-PMP gives, whatever is asked for. */
  readonly leaseSeconds?: number;
  /** Version of the device and of its services. */
  readonly version?: 1 | 2;
  /** Refuses leases, as many routers do (UPnP error 725). */
  readonly onlyPermanent?: boolean;
  /** Refuses everything: the result of NAT-PMP, and the error of UPnP. */
  readonly refuses?: { readonly natPmp: number; readonly upnp: number };
  /** Answers SSDP from this address, as another host of the network. */
  readonly ssdpFrom?: string;
  /** Replaces the address of the description that SSDP tells. */
  readonly location?: string;
  /** Replaces the address of the service in the description. */
  readonly control?: string;
  /** Answers HTTP requests instead of the router. */
  readonly onHttp?: (request: IncomingMessage, response: ServerResponse) => void;
  /** Changes the answers of NAT-PMP. */
  readonly onNatPmp?: (answer: Buffer) => Buffer | undefined;
}

export class FakeGateway implements AsyncDisposable {
  readonly address: string;
  /** Each mapping by its protocol and external port, as in `tcp 16277`. */
  readonly mappings = new Map<string, GatewayMapping>();
  /** What was asked so far: `nat-pmp address`, `upnp AddPortMapping`, `ssdp`, `http /path` and the like. */
  readonly asked: string[] = [];
  readonly #options: FakeGatewayOptions;
  readonly #sockets: Socket[] = [];
  #http: Server | undefined;

  private constructor(address: string, options: FakeGatewayOptions) {
    this.address = address;
    this.#options = options;
  }

  static async start(address: string, options: FakeGatewayOptions = {}): Promise<FakeGateway> {
    const gateway = new FakeGateway(address, options);
    const { natPmp = true, upnp = true } = options;
    if (natPmp) await gateway.#listen(5351, (message, from, socket) => gateway.#onNatPmp(message, from, socket));
    if (upnp) {
      const other = options.ssdpFrom === undefined ? undefined : createSocket('udp4').bind(0, options.ssdpFrom);
      if (other !== undefined) gateway.#sockets.push(other);
      await gateway.#listen(1900, (message, from, socket) => gateway.#onSsdp(message, from, other ?? socket));
      gateway.#http = createServer((request, response) => void gateway.#onHttp(request, response));
      gateway.#http.listen(0, address);
      await once(gateway.#http, 'listening');
    }
    return gateway;
  }

  get port(): number {
    const address = this.#http?.address();
    return typeof address === 'object' && address !== null ? address.port : 0;
  }

  count(what: string): number {
    return this.asked.filter((one) => one === what).length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.close();
    this.#http?.closeAllConnections();
    this.#http?.close();
    await Promise.resolve();
  }

  async #listen(port: number, onMessage: (message: Buffer, from: RemoteInfo, socket: Socket) => void): Promise<void> {
    const socket = createSocket('udp4');
    socket.on('message', (message, from) => onMessage(message, from, socket));
    socket.bind({ address: this.address, port });
    await once(socket, 'listening');
    this.#sockets.push(socket);
  }

  #onNatPmp(message: Buffer, { address, port }: RemoteInfo, socket: Socket): void {
    const { refuses, externalAddress = '203.0.113.7', onNatPmp = (same) => same } = this.#options;
    const op = message.readUInt8(1);
    this.asked.push(op === 0 ? 'nat-pmp address' : message.readUInt32BE(8) === 0 ? 'nat-pmp unmap' : 'nat-pmp map');
    const answer = Buffer.alloc(op === 0 ? 12 : 16);
    answer.writeUInt8(op + 128, 1);
    answer.writeUInt32BE(1_000, 4);
    if (op === 0) Buffer.from(externalAddress.split('.').map(Number)).copy(answer, 8);
    else {
      if (refuses === undefined) this.#mapByNatPmp(message, answer, address);
      else answer.writeUInt16BE(refuses.natPmp, 2);
      message.copy(answer, 8, 4, 6);
    }
    const sent = onNatPmp(answer);
    if (sent !== undefined) socket.send(sent, port, address);
  }

  #mapByNatPmp(message: Buffer, answer: Buffer, client: string): void {
    const protocol = message.readUInt8(1) === 1 ? 'udp' : 'tcp';
    const internalPort = message.readUInt16BE(4);
    const lease = message.readUInt32BE(8);
    const given = lease === 0 ? 0 : (this.#options.leaseSeconds ?? lease);
    let external = message.readUInt16BE(6);
    if (lease === 0) {
      for (const [key, one] of this.mappings)
        if (one.client === client && one.internalPort === internalPort && one.protocol === protocol)
          this.mappings.delete(key);
    } else {
      while ((this.mappings.get(`${protocol} ${external}`)?.client ?? client) !== client) external++;
      this.mappings.set(`${protocol} ${external}`, { protocol, client, internalPort, leaseSeconds: given });
      answer.writeUInt16BE(external, 10);
    }
    answer.writeUInt32BE(given, 12);
  }

  #onSsdp(message: Buffer, { address, port }: RemoteInfo, socket: Socket): void {
    const type = /^ST: (.+)\r$/m.exec(message.toString())?.[1] ?? '';
    const { version = 1, location = `http://${this.address}:${this.port}/desc.xml` } = this.#options;
    this.asked.push('ssdp');
    if (!type.endsWith(`:${version}`)) return;
    socket.send(`HTTP/1.1 200 OK\r\nST: ${type}\r\nEXT:\r\nLOCATION: ${location}\r\n\r\n`, port, address);
  }

  async #onHttp(request: IncomingMessage, response: ServerResponse): Promise<void> {
    this.asked.push(`http ${request.url ?? ''}`);
    if (this.#options.onHttp !== undefined) return this.#options.onHttp(request, response);
    if (request.method === 'GET') {
      response.setHeader('Content-Type', 'text/xml').end(this.#description());
      return;
    }
    const body = await text(request);
    const action = /#(\w+)"$/.exec(String(request.headers['soapaction']))?.[1] ?? '';
    this.asked.push(`upnp ${action}`);
    const argument = (name: string): string => new RegExp(`<${name}>([^<]*)</`).exec(body)?.[1] ?? '';
    const result = this.#act(action, argument);
    const [status, inner] =
      typeof result === 'number'
        ? [
            500,
            `<s:Fault><faultcode>s:Client</faultcode><faultstring>UPnPError</faultstring><detail><UPnPError xmlns="urn:schemas-upnp-org:control-1-0"><errorCode>${result}</errorCode><errorDescription>no</errorDescription></UPnPError></detail></s:Fault>`,
          ]
        : [200, `<u:${action}Response xmlns:u="x">${result}</u:${action}Response>`];
    response.writeHead(status, { 'Content-Type': 'text/xml' });
    response.end(
      `<?xml version="1.0"?>\n<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body>${inner}</s:Body></s:Envelope>\n`,
    );
  }

  /** @returns the inner XML of the answer, or an error number */
  #act(action: string, argument: (name: string) => string): string | number {
    const { refuses, onlyPermanent = false, externalAddress = '203.0.113.7' } = this.#options;
    const protocol = argument('NewProtocol') === 'UDP' ? 'udp' : 'tcp';
    const key = `${protocol} ${argument('NewExternalPort')}`;
    const client = argument('NewInternalClient');
    const known = this.mappings.get(key);
    switch (action) {
      case 'GetExternalIPAddress':
        return `<NewExternalIPAddress>${externalAddress}</NewExternalIPAddress>`;
      case 'GetSpecificPortMappingEntry':
        return known === undefined
          ? 714
          : `<NewInternalPort>${known.internalPort}</NewInternalPort><NewInternalClient>${known.client}</NewInternalClient>`;
      case 'DeletePortMapping':
        return this.mappings.delete(key) ? '' : 714;
      case 'AddPortMapping': {
        const leaseSeconds = Number(argument('NewLeaseDuration'));
        if (refuses !== undefined) return refuses.upnp;
        if (onlyPermanent && leaseSeconds !== 0) return 725;
        // As cheap routers do, it takes a port away from another machine without a word.
        this.mappings.set(key, { protocol, client, internalPort: Number(argument('NewInternalPort')), leaseSeconds });
        return '';
      }
      default:
        return 401;
    }
  }

  #description(): string {
    const { version = 1, control = '/ctl?id=1&amp;to=WANIPConn1' } = this.#options;
    const service = (type: string, url: string): string =>
      `<service><serviceType>urn:schemas-upnp-org:service:${type}</serviceType><serviceId>x</serviceId><SCPDURL>/x.xml</SCPDURL><controlURL>${url}</controlURL></service>`;
    return `<?xml version="1.0"?>
<root xmlns="urn:schemas-upnp-org:device-1-0"><device><deviceType>urn:schemas-upnp-org:device:InternetGatewayDevice:${version}</deviceType>
<serviceList>${service('Layer3Forwarding:1', '/other')}</serviceList>
<deviceList><device><deviceList><device><serviceList>
${service('WANCommonInterfaceConfig:1', '/other')}${service(`WANIPConnection:${version}`, control)}
</serviceList></device></deviceList></device></deviceList></device></root>`;
  }
}

if (import.meta.main) {
  const [address = '', options = '{}'] = process.argv.slice(2);
  const gateway = await FakeGateway.start(address, JSON.parse(options) as FakeGatewayOptions);
  process.stdout.write('ready\n');
  process.on('SIGTERM', () => process.exit(0));
  // Each line that is asked for is the present state.
  process.stdin.on('data', () => {
    process.stdout.write(
      `${JSON.stringify({ mappings: Object.fromEntries(gateway.mappings), asked: gateway.asked })}\n`,
    );
  });
}
