/** An HTTP proxy and a SOCKS5 proxy on loopback, which know one user and die on demand. */
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';

export interface TestProxy extends AsyncDisposable {
  /** Its address, with the user and password that it wants. */
  readonly url: string;
  /** The hosts and ports that it was asked for, one for each connection, with their kind. */
  readonly targets: readonly string[];
  /** Lets each open connection be reset by the next bytes that come from the client. */
  spoil(): void;
}

const USER = 'us@er';
const PASSWORD = 'p:w';

/** How a proxy begins a connection: finds the target, and says what the client gets and what the target gets first. */
type Begin = (client: Socket) => Promise<{ target: string; translate: (bytes: Buffer) => Buffer; accept: Buffer }>;

async function startProxy(scheme: string, begin: Begin): Promise<TestProxy> {
  const clients = new Set<Socket>();
  const spoilt = new Set<Socket>();
  const targets: string[] = [];
  const serve = async (client: Socket): Promise<void> => {
    const { target, translate, accept } = await begin(client);
    targets.push(target);
    const { hostname, port } = new URL(`tcp://${target.split(' ').at(-1)}`);
    const host = hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.test$/, '');
    const server = connect(Number(port), host === 'cache' ? '127.0.0.1' : host);
    server.on('error', () => client.destroy()).on('close', () => client.end());
    client.on('close', () => server.destroy());
    await once(server, 'connect');
    if (accept.length > 0) client.write(accept);
    client.on('data', (bytes: Buffer) => {
      if (spoilt.has(client)) client.resetAndDestroy();
      else server.write(translate(bytes));
    });
    server.pipe(client);
  };
  const proxy = createServer((client) => {
    clients.add(client);
    client.on('error', () => undefined).on('close', () => clients.delete(client));
    serve(client).catch(() => client.destroy());
  }).listen(0, '127.0.0.1');
  await once(proxy, 'listening');
  return {
    url: `${scheme}://${encodeURIComponent(USER)}:${encodeURIComponent(PASSWORD)}@127.0.0.1:${(proxy.address() as AddressInfo).port}`,
    targets,
    spoil: () => clients.forEach((client) => spoilt.add(client)),
    async [Symbol.asyncDispose]() {
      for (const client of clients) client.destroy();
      proxy.close();
    },
  };
}

async function read(client: Socket, bytes?: number): Promise<Buffer> {
  for (;;) {
    const got = client.read(bytes) as Buffer | null;
    if (got !== null) return got;
    // oxlint-disable-next-line no-await-in-loop -- it waits for more
    await once(client, 'readable');
  }
}

/** Reads requests for http servers itself, and makes tunnels to others. */
export function startHttpProxy(): Promise<TestProxy> {
  const authorization = `proxy-authorization: Basic ${Buffer.from(`${USER}:${PASSWORD}`).toString('base64')}\r\n`;
  return startProxy('http', async (client) => {
    const head = (await read(client)).toString('latin1');
    if (!head.includes(authorization)) {
      client.end('HTTP/1.1 407 Who are you\r\nContent-Length: 0\r\n\r\n');
      throw new Error('a stranger');
    }
    const [, method, target = ''] = /^(CONNECT|GET) (?:http:\/\/)?([^/ ]+)/.exec(head) ?? [];
    if (method === 'CONNECT') {
      const accept = Buffer.from('HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n'); // the length means nothing
      return { target: `CONNECT ${target}`, translate: (bytes) => bytes, accept };
    }
    client.unshift(Buffer.from(head));
    const translate = (bytes: Buffer): Buffer =>
      Buffer.from(
        bytes
          .toString('latin1')
          .replace(/^GET http:\/\/[^/]+/, 'GET ')
          .replace(authorization, ''),
      );
    return { target: `GET ${target}`, translate, accept: Buffer.alloc(0) };
  });
}

/** Sends its answers byte by byte. */
export function startSocksProxy(): Promise<TestProxy> {
  return startProxy('socks5', async (client) => {
    client.setNoDelay(true);
    const methods = await read(client, 2).then(([, count = 0]) => read(client, count));
    if (!methods.includes(2)) {
      client.end(Buffer.of(5, 0xff));
      throw new Error('a stranger');
    }
    for (const byte of [5, 2]) client.write(Buffer.of(byte));
    const [, length = 0] = await read(client, 2);
    const user = (await read(client, length)).toString();
    const password = await read(client, 1).then(([size = 0]) => read(client, size));
    if (user !== USER || password.toString() !== PASSWORD) {
      client.end(Buffer.of(1, 1));
      throw new Error('a stranger');
    }
    for (const byte of [1, 0]) client.write(Buffer.of(byte));
    const [, , , kind] = await read(client, 4);
    const host = await readHost(client, kind);
    const target = `${host}:${(await read(client, 2)).readUInt16BE()}`;
    return { target, translate: (bytes) => bytes, accept: Buffer.of(5, 0, 0, 3, 3, ...Buffer.from('way'), 0, 9) };
  });
}

async function readHost(client: Socket, kind: number | undefined): Promise<string> {
  if (kind === 1) return (await read(client, 4)).join('.');
  if (kind === 3) return read(client, 1).then(async ([size = 0]) => (await read(client, size)).toString());
  const bytes = await read(client, 16);
  return `[${Array.from({ length: 8 }, (_, at) => bytes.readUInt16BE(2 * at).toString(16)).join(':')}]`;
}
