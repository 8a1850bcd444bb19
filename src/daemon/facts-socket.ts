/**
 * The socket at which a daemon answers its store's owner. It is in a folder that only this user (and root) can enter.
 * A question is one line of JSON, and so is its answer. The connection may be used for several.
 */
import { once } from 'node:events';
import { chmod, open, rm, rmdir, type FileHandle } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import * as v from 'valibot';
import { makeFolder } from '../disk/make-folder.ts';
import { storeError, systemCode } from '../disk/store-error.ts';
import { NarswarmError } from '../errors.ts';
import type { FileStore } from '../store/file-store.ts';
import { inState } from '../store/state-folder.ts';
import { withinMs } from '../within.ts';
import { FACTS_SCHEMA, type DaemonFacts } from './facts.ts';

/** Limit on open connections: each is a local program of the same user. */
const MAX_CONNECTIONS = 32;
const IDLE_MS = 10_000;
/** Limit on a question, and on an answer: some hundred bytes for each member. */
const MAX_QUESTION_BYTES = 1_024;
const MAX_ANSWER_BYTES = 4 * 1024 * 1024;
/** Length of the path of a socket that every system takes (unix(7): 108 bytes with the final NUL). */
const MAX_PATH_BYTES = 100;
const SOCKET = 'socket';
const QUESTION = v.object({ ask: v.literal('facts') });
const ANSWER = v.object({ facts: v.unknown() });
/** Facts that every version has. */
const ANY_FACTS = v.object({ version: v.string(), pid: v.number() });

/** Answers questions about a daemon, until it is disposed of. */
export class FactsSocket implements AsyncDisposable {
  readonly #dir: string;
  readonly #server: Server;
  /** Open as long as the server: it removes the socket by this path. */
  readonly #place: SocketPlace;
  readonly #sockets = new Set<Socket>();

  private constructor(dir: string, server: Server, place: SocketPlace) {
    this.#dir = dir;
    this.#place = place;
    this.#server = server;
    server.on('connection', (socket) => {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    });
  }

  /**
   * Listens in the state of a store. Takes the place of a daemon that has ended: call it only with the turn of serving
   * the store.
   *
   * @throws LISTEN_FAILED, STORE_UNWRITABLE, STORE_FULL
   */
  static async open(store: FileStore, facts: () => DaemonFacts): Promise<FactsSocket> {
    const dir = inState(store, 'daemon');
    const server = createServer();
    server.maxConnections = MAX_CONNECTIONS;
    try {
      await makeFolder(dir);
      await chmod(dir, 0o700); // also a folder that was there before
      await rm(join(dir, SOCKET), { force: true });
    } catch (error) {
      throw storeError(error, dir);
    }
    await using stack = new AsyncDisposableStack();
    try {
      const place = stack.use(await SocketPlace.in(dir));
      server.listen({ path: place.path });
      await once(server, 'listening');
      await chmod(join(dir, SOCKET), 0o600);
      server.on('error', () => undefined); // a connection could not be opened: too many open files
      server.on('connection', (socket) => void answer(socket, facts));
      stack.move();
      return new FactsSocket(dir, server, place);
    } catch (error) {
      server.close();
      throw new NarswarmError(
        'LISTEN_FAILED',
        `cannot listen at ${join(dir, SOCKET)} (${(error as Error).message}): narswarm status will not show what this daemon does`,
        { cause: error, facts: { path: dir } },
      );
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise<void>((resolve) => this.#server.close(() => resolve()));
    await this.#place[Symbol.asyncDispose]();
    await rm(join(this.#dir, SOCKET), { force: true }).catch(() => undefined);
    await rmdir(this.#dir).catch(() => undefined);
  }
}

/**
 * The daemon of a store. `none`: no process listens. `denied`: only its user may ask. `silent`: it does not answer in
 * time. `other`: it is of another version, whose facts are not understood.
 */
export type AskedDaemon =
  | { readonly kind: 'running'; readonly facts: DaemonFacts }
  | { readonly kind: 'other'; readonly version: string; readonly pid: number }
  | { readonly kind: 'none' | 'denied' | 'silent' };

/** Asks the daemon of a store for its facts. Never rejects. @param timeoutMs limit on all of it */
export async function askDaemon(store: Pick<FileStore, 'stateDir'>, timeoutMs: number): Promise<AskedDaemon> {
  const asking = new AbortController();
  try {
    return (await withinMs(timeoutMs, ask(inState(store, 'daemon'), asking.signal))) ?? { kind: 'silent' };
  } catch (error) {
    const code = systemCode(error);
    if (code === 'EACCES' || code === 'EPERM') return { kind: 'denied' };
    return { kind: code === 'ENOENT' || code === 'ENOTDIR' || code === 'ECONNREFUSED' ? 'none' : 'silent' };
  } finally {
    asking.abort();
  }
}

async function ask(dir: string, signal: AbortSignal): Promise<AskedDaemon> {
  await using place = await SocketPlace.in(dir);
  const socket = connect({ path: place.path });
  const end = (): void => void socket.destroy();
  signal.addEventListener('abort', end, { once: true });
  try {
    await once(socket, 'connect', { signal });
    socket.write(`${JSON.stringify({ ask: 'facts' })}\n`);
    for await (const line of linesOf(socket, MAX_ANSWER_BYTES)) {
      const { facts } = v.parse(ANSWER, JSON.parse(line));
      const known = v.safeParse(FACTS_SCHEMA, facts);
      return known.success ? { kind: 'running', facts: known.output } : { kind: 'other', ...v.parse(ANY_FACTS, facts) };
    }
    return { kind: 'silent' };
  } finally {
    end();
  }
}

async function answer(socket: Socket, facts: () => DaemonFacts): Promise<void> {
  socket.setTimeout(IDLE_MS, () => socket.destroy());
  socket.on('error', () => undefined); // it has gone
  try {
    for await (const line of linesOf(socket, MAX_QUESTION_BYTES)) {
      v.parse(QUESTION, JSON.parse(line));
      socket.write(`${JSON.stringify({ facts: facts() })}\n`);
    }
  } catch {
    // It has gone, or asks something that this version does not know.
  }
  socket.destroy();
}

/** Yields lines. Ends the connection if one is too long. */
async function* linesOf(socket: Socket, maxBytes: number): AsyncGenerator<string> {
  let rest = '';
  socket.setEncoding('utf8');
  for await (const text of socket as AsyncIterable<string>) {
    const lines = (rest + text).split('\n');
    rest = lines.pop() ?? '';
    yield* lines;
    if (rest.length > maxBytes) return;
  }
}

/** The path of the socket for system calls: one that leads through an open folder if its own is too long for them. */
class SocketPlace implements AsyncDisposable {
  readonly path: string;
  readonly #folder: FileHandle | undefined;

  private constructor(path: string, folder?: FileHandle) {
    this.path = path;
    this.#folder = folder;
  }

  static async in(dir: string): Promise<SocketPlace> {
    const path = join(dir, SOCKET);
    if (Buffer.byteLength(path) <= MAX_PATH_BYTES) return new SocketPlace(path);
    const folder = await open(dir);
    return new SocketPlace(`/proc/self/fd/${folder.fd}/${SOCKET}`, folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder?.close();
  }
}
