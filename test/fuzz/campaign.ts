/** Runs targets in processes of their own, with bounded memory, and watches for hangs. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

export interface CampaignOptions {
  readonly count: number;
  readonly seed: number;
  /** Called with the number of inputs read so far. */
  readonly onProgress?: (done: number) => void;
}

const PROGRAM = fileURLToPath(new URL('run-target.ts', import.meta.url));
/** Time for a thousand inputs. A reader that takes longer hangs. */
const SILENCE_MS = 60_000;
/** Heap of a run, in MiB. Inputs are small: if a reader needs more, strangers decide on its memory. */
const HEAP_MIB = 256;

/**
 * Gives a target its inputs.
 *
 * @returns undefined if all were read, else the finding: an error and the command that repeats it, a hang, or too much
 *   memory
 */
export async function fuzz(name: string, { count, seed, onProgress }: CampaignOptions): Promise<string | undefined> {
  const child = spawn(
    process.execPath,
    [`--max-old-space-size=${HEAP_MIB}`, PROGRAM, name, String(count), String(seed)],
    { stdio: ['ignore', 'pipe', 'pipe'] },
  );
  let said = '';
  let done = 0;
  let isSilent = false;
  const hang = setTimeout(() => {
    isSilent = true;
    child.kill('SIGKILL');
  }, SILENCE_MS);
  child.stdout.setEncoding('utf8').on('data', (lines: string) => {
    done = Number(lines.trim().split('\n').at(-1));
    hang.refresh();
    onProgress?.(done);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    said = (said + text).slice(-16_384);
  });
  const [status, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  clearTimeout(hang);
  if (isSilent) return `${name}: one of the inputs after ${done} of seed ${seed} is read for ever`;
  return status === 0 ? undefined : `${name}: ended with ${status ?? signal} after ${done} inputs\n${said}`;
}
