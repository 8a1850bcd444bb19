/**
 * Loaded into a process by {@link stallAt}: the first call of a node:fs function with fitting arguments never returns,
 * and the process reports it with an event `stalled`. Until then the process runs as always.
 */
import fs, { promises, writeSync } from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';
import { isMainThread } from 'node:worker_threads';

const [name = '', pattern = '', skipped = '0'] = (process.env['STALL_AT'] ?? '').split(' ');

if (name !== '' && isMainThread) {
  const isSync = name.endsWith('Sync');
  const functions = (isSync ? fs : promises) as unknown as Record<string, (...args: unknown[]) => unknown>;
  const original = functions[name];
  if (original === undefined) throw new Error(`node:fs has no ${name}`);
  const fits = new RegExp(pattern);
  let left = Number(skipped);
  functions[name] = (...args) => {
    if (!args.some((arg) => typeof arg === 'string' && fits.test(arg)) || left-- > 0) return original(...args);
    writeSync(1, '{"event":"stalled"}\n');
    if (isSync) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
    setInterval(() => undefined, 60_000); // or the process would end without work
    return new Promise(() => undefined);
  };
  syncBuiltinESMExports();
}

/**
 * Returns the environment of a process that will stall.
 *
 * @param call function of node:fs/promises, or one of node:fs that ends in Sync
 * @param path pattern that one of its arguments matches; without spaces
 * @param after calls that fit and go through before
 */
export function stallAt(call: string, path: RegExp, after = 0): Record<string, string> {
  return { NODE_OPTIONS: `--import ${import.meta.url}`, STALL_AT: `${call} ${path.source} ${after}` };
}
