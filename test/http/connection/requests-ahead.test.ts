import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { HttpClient } from '../../../src/http/client.ts';
import { RequestsAhead } from '../../../src/http/connection/requests-ahead.ts';

/** A request as a server reads it. */
interface Request {
  readonly path: string;
  readonly socket: Socket;
  /** Its number on the connection, from 1. */
  readonly number: number;
  /** Number of requests that were read together with it, itself included. */
  readonly together: number;
}

/** A server that reads the requests of each packet, as real ones do, and a client with one connection. */
async function serve(answer: (request: Request) => void, connectionsPerOrigin = 1) {
  const sockets: Socket[] = [];
  const requests: Request[] = [];
  const server = createServer((socket) => {
    sockets.push(socket);
    let number = 0;
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      const paths = Array.from(bytes.toString('latin1').matchAll(/^GET (\S+) /gm), ([, path = '']) => path);
      for (const path of paths) {
        const request = { path, socket, number: ++number, together: paths.length };
        requests.push(request);
        if (!socket.destroyed) answer(request);
      }
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const client = new HttpClient({ backoffMs: 1, retries: 0, connectionsPerOrigin });
  const get = async (path: string, isShort = true): Promise<string> =>
    Buffer.from((await client.getBytes(`${url}${path}`, { maxBytes: 100_000, isShort })) ?? []).toString();
  return {
    url,
    client,
    sockets,
    requests,
    get,
    /** Gets several files at once; each holds its path. */
    getAll: async (paths: readonly string[]) =>
      assert.deepEqual(await Promise.all(paths.map((path) => get(path))), [...paths]),
    async [Symbol.asyncDispose]() {
      await client.close();
      for (const socket of sockets) socket.destroy();
      server.close();
    },
  };
}

const ok = (path: string, more = ''): string =>
  `HTTP/1.1 200 OK\r\n${more}Content-Length: ${path.length}\r\n\r\n${path}`;
const echo = ({ socket, path }: Request): void => void socket.write(ok(path));
const paths = (count: number): string[] => Array.from({ length: count }, (_, index) => `/${index}`);
/** The most requests that a server read together. */
const most = (requests: readonly Request[]): number => Math.max(...requests.map(({ together }) => together));

/** Requests that were sent ahead are answered within 1.5 s. */
const LONGER_THAN_PATIENCE_MS = 1_600;

/**
 * Answers the first request for `/third` when it gets a message. Shared memory: number of these answers that it has
 * written, number of requests for `/third`.
 */
const ANSWERING_THREAD = `
  const { parentPort, workerData: counts } = require('node:worker_threads');
  const ok = 'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok';
  const server = require('node:net').createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (bytes) => {
      for (const [, path] of bytes.toString('latin1').matchAll(/^GET (\\S+) /gm)) {
        if (path !== '/third' || Atomics.add(counts, 1, 1) > 0) socket.write(ok);
        else parentPort.once('message', () => socket.write(ok, () => Atomics.notify(counts, Atomics.add(counts, 0, 1))));
      }
    });
  });
  server.listen(0, '127.0.0.1', () => parentPort.postMessage(server.address().port));
`;

suite('requests are sent ahead of answers', () => {
  test('if these are short, over a connection that has answered one', async () => {
    await using server = await serve(echo);
    await server.getAll(['/first']);
    await server.getAll(paths(40));
    assert.equal(server.sockets.length, 1);
    assert.equal(server.requests.length, 41, 'each is sent once');
    assert.ok(most(server.requests) > 1);
    assert.ok(most(server.requests) <= 8);
  });

  test('not before the first answer, nor behind a long one', async () => {
    await using server = await serve(echo);
    await server.getAll(paths(5));
    assert.equal(server.requests[0]?.together, 1);
    const before = server.requests.length;
    await Promise.all(paths(5).map((path) => server.get(path, false)));
    assert.deepEqual(
      server.requests.slice(before).map(({ together }) => together),
      Array(5).fill(1),
    );
  });

  test('not behind a long answer, also if that comes late', async () => {
    let long: Request | undefined;
    let behind = 0;
    await using server = await serve((request) => {
      if (request.path === '/long') long = request;
      else {
        if (request.socket === long?.socket) {
          behind++;
          echo(long);
        }
        echo(request);
      }
    }, 2);
    await server.getAll(paths(2));
    const waiting = server.get('/long', false);
    await server.getAll(paths(8));
    assert.equal(behind, 0);
    if (long !== undefined) echo(long);
    assert.equal(await waiting, '/long');
  });

  test('and are more on one connection while another is busy with a long answer', async () => {
    await using server = await serve((request) => {
      if (request.path !== '/long') echo(request);
    }, 2);
    await server.getAll(paths(2));
    const waiting = server.get('/long', false);
    waiting.catch(() => undefined); // the server never answers
    const evenly = 5; // of nine requests on two connections
    for (let turn = 0; turn < 100 && most(server.requests) <= evenly; turn++) {
      // oxlint-disable-next-line no-await-in-loop -- each lets the number grow
      await server.getAll(paths(8));
    }
    assert.ok(most(server.requests) > evenly);
  });

  test('only once all connections are used', async () => {
    await using server = await serve(echo, 4);
    await server.getAll(paths(4));
    await server.getAll(paths(4));
    assert.equal(most(server.requests), 1);
    assert.equal(server.sockets.length, 4);
  });

  test('and answers that come in pieces, or several at once, reach their requests', async () => {
    const held: string[] = [];
    await using server = await serve(({ socket, path, together }) => {
      if (held.push(ok(path)) < together) return;
      const whole = held.splice(0).join('');
      for (let at = 0; at < whole.length; at += 30) socket.write(whole.slice(at, at + 30));
    });
    await server.getAll(['/first']);
    await server.getAll(paths(8)); // 2 to 9 on the connection
  });

  test('and a connection on which several answers came at once goes on', async () => {
    const held: string[] = [];
    await using server = await serve(({ socket, path, together }) => {
      if (held.push(ok(path)) === together) socket.write(held.splice(0).join(''));
    });
    await server.getAll(['/first']);
    await server.getAll(paths(6));
    await sleep(LONGER_THAN_PATIENCE_MS);
    await server.getAll(paths(6));
    assert.equal(server.sockets.length, 1);
  });

  test('and an answer that came while this process had no time is taken', async (t) => {
    const counts = new Int32Array(new SharedArrayBuffer(8));
    const server = new Worker(ANSWERING_THREAD, { eval: true, workerData: counts });
    t.after(() => server.terminate());
    const [port] = (await once(server, 'message')) as [number];
    const client = new HttpClient({ backoffMs: 1, retries: 0, connectionsPerOrigin: 1 });
    t.after(() => client.close());
    const get = (path: string) => client.getBytes(`http://127.0.0.1:${port}${path}`, { maxBytes: 9, isShort: true });
    await get('/first');
    const second = get('/second');
    const third = get('/third');
    await second;
    server.postMessage('answer');
    Atomics.wait(counts, 0, 0); // until the answer is in the socket
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LONGER_THAN_PATIENCE_MS);
    await third;
    assert.equal(counts[1], 1, 'it was asked for once');
  });

  test('and are sent again if the server closes the connection behind an answer', async () => {
    await using server = await serve(({ socket, path, number }) => {
      if (number % 3 === 0) socket.end(ok(path, 'Connection: close\r\n'));
      else if (!socket.writableEnded) socket.write(ok(path));
    });
    await server.getAll(['/first']);
    await server.getAll(paths(20));
  });

  test('and are sent again, one by one, if the connection breaks each time', async () => {
    await using server = await serve(({ socket, path, number }) => {
      if (number === 1) socket.write(ok(path));
      else socket.destroy();
    });
    await server.getAll(['/first']);
    await server.getAll(paths(20));
  });

  test('and are sent again if the server forgets those behind the first', async () => {
    let answered: unknown;
    const forgotten: string[] = [];
    const deaf = new Set<unknown>(); // an answer to a later request would pass for that of a forgotten one
    await using server = await serve((request) => {
      if (deaf.has(request.socket) || (request.together > 1 && answered === request.socket)) {
        deaf.add(request.socket);
        forgotten.push(request.path);
        return;
      }
      answered = request.together > 1 ? request.socket : undefined;
      echo(request);
    });
    await server.getAll(['/first']);
    while (forgotten.length === 0) await server.getAll(paths(6));
    const before = server.requests.length;
    await server.getAll(paths(6));
    assert.equal(most(server.requests.slice(before)), 1, 'none is sent ahead any more');
  });

  test('and others go on if one of them is aborted', async () => {
    await using server = await serve((request) => {
      if (request.path !== '/slow') echo(request);
    });
    await server.getAll(['/first']);
    const stop = new AbortController();
    const slow = server.client.getBytes(`${server.url}/slow`, { maxBytes: 9, isShort: true, signal: stop.signal });
    const others = server.getAll(paths(5));
    const ended = assert.rejects(slow, /enough/);
    while (!server.requests.some(({ path }) => path === '/slow')) await once(server.sockets[0]!, 'data');
    stop.abort(new Error('enough'));
    await Promise.all([ended, others]);
  });

  test('and a file that nobody wants behind them is not taken for an answer', async () => {
    await using server = await serve(({ socket, path, number }) =>
      socket.write(number === 2 ? `${ok(path)}${ok('/another')}` : ok(path)),
    );
    await server.getAll(['/first']);
    await server.getAll(['/second']);
    await server.getAll(['/third']);
    assert.equal(server.sockets.length, 2);
  });
});

suite('narinfos do not wait for NARs', { timeout: 180_000 }, () => {
  /** A server that answers requests for NARs once it is told to. */
  async function serveSlowly(connectionsPerOrigin: number) {
    const held: Request[] = [];
    const served = await serve(
      (request) => (request.path.startsWith('/nar') ? void held.push(request) : echo(request)),
      connectionsPerOrigin,
    );
    const download = (path: string): Promise<unknown> =>
      served.client.download(`${served.url}${path}`, { sizeBytes: path.length, sink: () => undefined });
    return { ...served, held, download, [Symbol.asyncDispose]: () => served[Symbol.asyncDispose]() };
  }

  test('although more NARs are asked for than there are connections', async () => {
    await using server = await serveSlowly(6);
    const nars = Array.from({ length: 10 }, (_, index) => server.download(`/nar/${index}`));
    await server.getAll(paths(20));
    await server.getAll(paths(20)); // over all connections that are free
    assert.equal(server.held.length, 5, 'one connection takes no NARs');
    for (let answered = 0; answered < nars.length; await server.getAll(['/next']))
      for (; answered < server.held.length; answered++) echo(server.held[answered]!);
    await Promise.all(nars);
  });

  test('and are not sent behind one', async () => {
    await using server = await serveSlowly(2);
    await server.getAll(paths(2)); // both connections may take requests ahead
    const nar = server.download('/nar/0');
    await server.getAll(paths(8));
    assert.equal(server.held.length, 1);
    echo(server.held[0]!);
    await nar;
  });
});

suite('the number of requests ahead', () => {
  /** Notes an answer that comes some time after the one before it. */
  const note = (ahead: RequestsAhead, gapMs: number): void =>
    ahead.noteAnswer({ sentAtMs: 0, nextAtMs: 30, answeredAtMs: 30 + gapMs });

  test('grows with quick answers, and shrinks with slow ones', () => {
    const ahead = new RequestsAhead();
    ahead.noteAnswer({ sentAtMs: 0, nextAtMs: 0, answeredAtMs: 30 });
    for (let answers = 0; answers < 20; answers++) note(ahead, 1);
    assert.equal(ahead.atMost, 8);
    for (let answers = 0; answers < 3; answers++) note(ahead, 200);
    assert.equal(ahead.atMost, 1);
    note(ahead, 1);
    assert.equal(ahead.atMost, 2);
  });

  test('does not take the round trip for a slow answer', () => {
    const ahead = new RequestsAhead();
    for (let answers = 0; answers < 9; answers++)
      ahead.noteAnswer({ sentAtMs: 1_000, nextAtMs: 1_001, answeredAtMs: 1_300 });
    assert.equal(ahead.atMost, 8);
  });

  test('is one after three broken connections', () => {
    const ahead = new RequestsAhead();
    for (let answers = 0; answers < 9; answers++) note(ahead, 0);
    for (let breaks = 0; breaks < 2; breaks++) ahead.noteBreak();
    assert.ok(ahead.atMost > 1);
    ahead.noteBreak();
    assert.equal(ahead.atMost, 1);
  });
});
