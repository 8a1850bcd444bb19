/** A bus of its own, on which a real D-Bus service says whether the line is metered, as NetworkManager does. */
import { spawn, type ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { writeFile } from 'node:fs/promises';
import type { Readable, Writable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Lab } from './lab.ts';

const SCRIPT = fileURLToPath(new URL('network_manager.py', import.meta.url));

/** A running program, and the lines that it prints. */
interface Started {
  readonly input: Writable;
  readonly lines: Interface;
  /** Resolves when it has ended. */
  readonly ended: Promise<unknown>;
}

/** @param metered the value of the property `Metered`; `silent` never answers @returns the environment of its clients */
export async function networkManager(lab: Lab, metered: number | 'silent'): Promise<Record<string, string>> {
  return (await changingLine(lab, metered)).env;
}

/** A service whose answer may change. */
interface ChangingLine {
  readonly env: Record<string, string>;
  readonly become: (value: number | 'silent') => Promise<void>;
  /** Stops the service; the bus stays. */
  readonly quit: () => Promise<void>;
}

/** The same service, whose answer may change. */
export async function changingLine(lab: Lab, metered: number | 'silent'): Promise<ChangingLine> {
  const address = `unix:path=${lab.path('bus')}`;
  const config = lab.path('bus.conf');
  await writeFile(
    config,
    `<busconfig><listen>${address}</listen><policy context="default">
<allow send_destination="*" eavesdrop="true"/><allow eavesdrop="true"/><allow own="*"/></policy></busconfig>`,
  );
  await started(lab, 'dbus-daemon', ['--nofork', '--nopidfile', '--print-address', `--config-file=${config}`]);
  const service = await started(lab, '/usr/bin/python3', [SCRIPT, address, String(metered)]);
  return {
    env: { DBUS_SYSTEM_BUS_ADDRESS: address },
    become: async (value) => {
      const answer = once(service.lines, 'line'); // a line may come in several parts
      service.input.write(`${value}\n`);
      await answer;
    },
    quit: async () => {
      service.input.end();
      await service.ended;
    },
  };
}

/** Starts a program, which prints a line once it is ready. The bus warns of limits that only root may change. */
async function started(lab: Lab, file: string, args: readonly string[]): Promise<Started> {
  const child: ChildProcessByStdio<Writable, Readable, null> = spawn(file, args, {
    stdio: ['pipe', 'pipe', file === 'dbus-daemon' ? 'ignore' : 'inherit'],
  });
  const ended = once(child, 'exit');
  lab.use({
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  });
  const early = ended.then(() => Promise.reject(new Error(`${file} has ended`)));
  early.catch(() => undefined); // it ends at last in any case
  const lines = createInterface(child.stdout);
  await Promise.race([once(lines, 'line'), early]);
  return { input: child.stdin, lines, ended };
}
