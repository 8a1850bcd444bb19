/**
 * Measures what keeping the disk costs: `node test/bench/keep.ts [--json]`. Makes stores of 1,000 and of 100,000 paths with
 * tiny NARs (on /dev/shm where that is, so that it is not the disk that is measured), each path with ten references as
 * closures have it, and runs gc and verify on them as commands: time and largest resident memory.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { access, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Catalogue } from '../../src/store/catalogue/catalogue.ts';
import { pendingEntry } from '../../src/store/catalogue/catalogue-entry.ts';
import { FileStore } from '../../src/store/file-store.ts';
import { addPath } from '../store/synthetic-store.ts';

const MAIN = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url));
const SIZES = [1_000, 100_000];
const REFERENCES = 10;
const NAR_BYTES = 600;
const TELL_MEMORY =
  'data:text/javascript,process.on("exit",()=>process.stderr.write("maxrss "+process.resourceUsage().maxRSS+"\\n"))';

const memory = await access('/dev/shm').then(
  () => '/dev/shm',
  () => tmpdir(),
);
const rows: Record<string, string | number>[] = [];
for (const paths of SIZES) {
  const dir = await mkdtemp(join(memory, 'narswarm-keep-'));
  try {
    await fill(dir, paths);
    const all = ['gc', '--store', dir, '--max-size', '0'];
    rows.push({ paths, ...(await measure(['gc', '--store', dir, '--dry-run'])) });
    rows.push({ paths, ...(await measure([...all, '--dry-run'])) });
    rows.push({ paths, ...(await measure(['verify', '--store', dir])) });
    rows.push({ paths, ...(await measure(all)) });
  } finally {
    await rm(dir, { recursive: true, force: true });
  }
}
if (process.argv.includes('--json')) console.log(JSON.stringify(rows));
else console.table(rows);

/** References go to earlier paths, most of them to the same few. */
async function fill(dir: string, paths: number): Promise<void> {
  const store = await FileStore.open(dir, { create: true });
  const catalogue = await Catalogue.open(store);
  for (let index = 0; index < paths; index++) {
    const refersTo = Array.from({ length: Math.min(index, REFERENCES) }, (_, turn) =>
      nameOf(Math.floor((((index * (turn + 7) * 2_654_435) % 65_536) / 65_536) ** 4 * index)),
    );
    const info = await addPath(store, nameOf(index), { refersTo: [...new Set(refersTo)], bytes: NAR_BYTES });
    const { fileHash, storePath } = info;
    if (fileHash === undefined) continue;
    const nar = { fileHash, sizeBytes: NAR_BYTES, extension: '', mtimeMs: 0 };
    await catalogue.add([pendingEntry(nar, storePath, 'fetch')]);
  }
}

function nameOf(index: number): string {
  return `package-${index}`;
}

async function measure(args: readonly string[]): Promise<Record<string, string | number>> {
  const startedAtMs = performance.now();
  const child = spawn(process.execPath, ['--import', TELL_MEMORY, MAIN, ...args], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [status] = (await once(child, 'close')) as [number | null];
  const maxRss = /^maxrss (\d+)$/m.exec(stderr)?.[1];
  if (status !== 0 || maxRss === undefined) throw new Error(`${args.join(' ')} failed: ${stderr}`);
  return {
    command: args.filter((_, index) => index !== 1 && index !== 2).join(' '),
    seconds: Number(((performance.now() - startedAtMs) / 1000).toFixed(1)),
    maxRssMb: Math.round(Number(maxRss) / 1024),
  };
}
