/** A binary cache (http-cache.ts) in a process of its own, so that it can be in a network namespace. */
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { startHttpCache, type Fault, type ServedRequest } from './http-cache.ts';
import type { Host } from './namespaces.ts';

/** Parent to child: an order. Child to parent: its port, then an answer to each message. */
type Order = { readonly faults: readonly Fault[] } | { readonly count: true };
type Answer = { readonly port: number } | { readonly requests: readonly ServedRequest[] };

export interface CacheProcess extends AsyncDisposable {
  readonly pid: number;
  readonly port: number;
  setFaults(faults: readonly Fault[]): Promise<void>;
  /** Requests so far. */
  requests(): Promise<readonly ServedRequest[]>;
  stop(): Promise<void>;
}

/** Serves a folder at every address, IPv4 and IPv6, behind `wrapper` (Host.wrapper). @param port 0 picks one */
export async function startCacheProcess(
  root: string,
  wrapper: readonly [string, ...string[]],
  port = 0,
): Promise<CacheProcess> {
  const [file, ...before] = wrapper;
  const child = spawn(file, [...before, process.execPath, fileURLToPath(import.meta.url), root, String(port)], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    serialization: 'advanced',
  });
  const first = await answerOf(child);
  const ask = async (order: Order): Promise<Answer> => {
    const answer = answerOf(child);
    child.send(order);
    return answer;
  };
  const stop = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  };
  return {
    pid: child.pid ?? 0,
    port: 'port' in first ? first.port : 0,
    async setFaults(faults) {
      await ask({ faults });
    },
    async requests() {
      const answer = await ask({ count: true });
      return 'requests' in answer ? answer.requests : [];
    },
    stop,
    [Symbol.asyncDispose]: stop,
  };
}

/** A cache on a host. */
export interface HostCache extends CacheProcess {
  readonly url: string;
  /** Bytes of NARs that it has sent so far. */
  narBytes(): Promise<number>;
}

/** Serves a folder from a host of a network. */
export async function startCacheOn(host: Host, root: string): Promise<HostCache> {
  const cache = await startCacheProcess(root, host.wrapper);
  return {
    ...cache,
    url: `http://${host.inUrl}:${cache.port}`,
    async narBytes() {
      const nars = (await cache.requests()).filter(({ url }) => url.startsWith('/nar/'));
      return nars.reduce((sum, { bytes }) => sum + bytes, 0);
    },
  };
}

async function answerOf(child: ChildProcess): Promise<Answer> {
  const stop = new AbortController();
  const { signal } = stop;
  try {
    const answer = await Promise.race([
      once(child, 'message', { signal }),
      once(child, 'exit', { signal }).then(([status]) =>
        Promise.reject(new Error(`the cache ended with ${String(status)}`)),
      ),
    ]);
    return answer[0] as Answer;
  } finally {
    stop.abort();
  }
}

async function serve(root: string, port: number): Promise<void> {
  const cache = await startHttpCache(root, { host: '::', port });
  process.on('message', (order: Order) => {
    if ('faults' in order) cache.faults = [...order.faults];
    process.send?.({ requests: cache.requests } satisfies Answer);
  });
  process.on('disconnect', () => process.exit());
  process.send?.({ port: cache.port } satisfies Answer);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await serve(process.argv[2] ?? '.', Number(process.argv[3]));
