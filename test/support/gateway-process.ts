import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { FakeGatewayOptions, GatewayMapping } from './fake-gateway.ts';
import type { Host } from './namespaces.ts';

/** The mappings of a router, and what it was asked. */
export interface GatewayState {
  readonly mappings: Readonly<Record<string, GatewayMapping>>;
  readonly asked: readonly string[];
}

export interface GatewayProcess extends AsyncDisposable {
  state(): Promise<GatewayState>;
}

/** Runs a router of fake-gateway.ts in a network namespace. */
export async function startGateway(host: Host, options: FakeGatewayOptions = {}): Promise<GatewayProcess> {
  const file = fileURLToPath(new URL('fake-gateway.ts', import.meta.url));
  const [program, ...args] = [...host.wrapper, process.execPath, file, host.ipv4, JSON.stringify(options)] as const;
  const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => String((await lines.next()).value);
  await next(); // ready
  return {
    state: async () => {
      child.stdin.write('state\n');
      return JSON.parse(await next()) as GatewayState;
    },
    [Symbol.asyncDispose]: async () => {
      if (child.exitCode !== null || child.signalCode !== null) return;
      child.kill('SIGKILL');
      await once(child, 'exit');
    },
  };
}
