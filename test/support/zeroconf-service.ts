/** A binary cache announced by a real responder of mDNS (python3-zeroconf), in a network namespace. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('zeroconf_service.py', import.meta.url));

/** Announces `NAME._nix_binary_cache._tcp` with these addresses until it is disposed of. */
export async function announceCache(
  wrapper: readonly [string, ...string[]],
  { name, port, addresses }: { readonly name: string; readonly port: number; readonly addresses: readonly string[] },
): Promise<AsyncDisposable> {
  const [file, ...before] = wrapper;
  const child = spawn(file, [...before, '/usr/bin/python3', SCRIPT, name, `${port}`, ...addresses], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const ended = once(child, 'exit');
  const ready = once(child.stdout, 'data');
  await Promise.race([ready, ended.then(() => Promise.reject(new Error('the responder of mDNS has ended')))]);
  return {
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await ended;
    },
  };
}
