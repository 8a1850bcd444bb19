/** A mounted closure behind a line: `npm run bench:mount`, see `--help`; needs root and /dev/fuse. */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { startCacheOn } from '../support/cache-process.ts';
import { Lab, readNarInfos } from '../support/lab.ts';
import { makeListedCache } from '../support/listed-cache.ts';
import { lookWell, mount } from '../support/mounted.ts';
import { Lan } from '../support/namespaces.ts';

const HELP = `Usage: npm run bench:mount -- [options]

Mounts a closure from a cache behind a line: the time until the first byte of a file in NARs of 1 MB and 100 MB, and until
everything is listed.

  --kbit <n>   rate of the cache's line in kbit/s (default: 100000)
  --paths <n>  number of small paths beside the two NARs (default: 800)`;

const { values } = parseArgs({
  options: {
    kbit: { type: 'string', default: '100000' },
    paths: { type: 'string', default: '800' },
    help: { type: 'boolean', default: false },
  },
});
if (values.help) console.log(HELP);
else await main(Number(values.kbit), Number(values.paths));

async function main(kbit: number, count: number): Promise<void> {
  await using lab = await Lab.open();
  const made = await makeListedCache(await lab.folder('make'), [
    1e6,
    1e8,
    ...Array.from({ length: count }, () => 2_000),
  ]);
  const fileBytes = [...(await readNarInfos(made.cacheDir)).values()].map(({ fileSize = 0 }) => fileSize);
  await using lan = Lan.open();
  await using cache = await startCacheOn(lan.host('cache', { upKbit: kbit }), made.cacheDir);
  const { namespace } = lan.host('client');
  const startedAtMs = performance.now();
  const mounted = await mount(lab, made, [cache.url], {
    // Not `ip netns exec`, which has mounts of its own.
    wrapper: ['nsenter', `--net=/run/netns/${namespace}`],
  });
  tell(`mounted, ${fileBytes.length} paths`, startedAtMs, mounted.process.pid);
  const timed = async (what: string, file: string, ...args: readonly string[]): Promise<void> => {
    const beganAtMs = performance.now();
    await lookWell(file, ...args);
    tell(what, beganAtMs, mounted.process.pid);
  };
  await timed(`ls -R`, 'ls', '-R', mounted.dir);
  await timed(`ls -R again`, 'ls', '-R', mounted.dir);
  await timed(`ls -lR again`, 'ls', '-lR', mounted.dir);
  for (const [name, what] of [
    ['tree-0', '1 MB'],
    ['tree-1', '100 MB'],
  ] as const) {
    const blob = mounted.path(name, 'share/blob');
    await timed(`first byte of ${what}`, 'head', '-c', '1', blob);
    await timed(`the same again`, 'head', '-c', '1', blob);
    await timed(`all of ${what}`, 'dd', `if=${blob}`, 'of=/dev/null', 'bs=1M');
  }
  spawnSync('sysctl', ['-q', 'vm.drop_caches=3']);
  await timed(
    'all of 100 MB, not from memory',
    'dd',
    `if=${mounted.path('tree-1', 'share/blob')}`,
    'of=/dev/null',
    'bs=1M',
  );
  await timed(
    `diff -r of everything`,
    'sh',
    '-c',
    `for path in "$0"/*; do diff -r --no-dereference "$path" "$1/\${path##*/}" || exit 1; done`,
    mounted.dir,
    made.unpacked,
  );
  console.log(`largest memory: ${statusOf(mounted.process.pid, 'VmHWM')}`);
  console.log(`the file of 100 MB alone: ${((Math.max(...fileBytes) * 8) / kbit / 1000).toFixed(2)} s on this line`);
  await mounted.process.stop();
}

function tell(what: string, sinceMs: number, pid: number): void {
  const [user = 0, system = 0] = readFileSync(join('/proc', String(pid), 'stat'), 'utf8')
    .split(') ')[1]!
    .split(' ')
    .slice(11, 13)
    .map(Number);
  const seconds = (performance.now() - sinceMs) / 1_000;
  console.log(
    `${what.padEnd(32)} ${seconds.toFixed(3).padStart(8)} s   (${((user + system) / 100).toFixed(2)} s of processor so far, ${statusOf(pid, 'VmRSS')})`,
  );
}

function statusOf(pid: number, key: string): string {
  return new RegExp(`^${key}:\\s*(.*)$`, 'm').exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? '?';
}
