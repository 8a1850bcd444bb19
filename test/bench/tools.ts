/** The programs that a run needs or compares with, as this machine has them. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { cpus, loadavg, release } from 'node:os';
import { promisify } from 'node:util';

export interface Tool {
  readonly program: string;
  readonly version: string;
}

/** undefined: not installed. */
export interface Tools {
  /** Any Python 3: runs measure.py and file_server.py. */
  readonly python: Tool;
  /** A Python 3 that has libtorrent's bindings; its version is that of libtorrent. */
  readonly libtorrent: Tool | undefined;
  readonly aria2: Tool | undefined;
  readonly curl: Tool | undefined;
}

const run = promisify(execFile);
const PYTHONS = ['python3', '/usr/bin/python3'];

/** Looks for the programs in PATH. @throws Error without Python 3 */
export async function findTools(): Promise<Tools> {
  const python = await firstPython('import sys; print(sys.executable, sys.version.split()[0])');
  if (python === undefined) throw new Error('the benchmark needs python3, to measure processes with');
  const [libtorrent, aria2, curl] = await Promise.all([
    firstPython('import sys, libtorrent; print(sys.executable, libtorrent.__version__)'),
    versionOf('aria2c', /aria2 version (\S+)/),
    versionOf('curl', /^curl (\S+)/),
  ]);
  return { python, libtorrent, aria2, curl };
}

/**
 * The kernel's congestion control, which new namespaces inherit. It decides how the flows of a crowd share a line: BBR
 * lets some of them wait for a second.
 */
export function congestionControl(): string {
  return readFileSync('/proc/sys/net/ipv4/tcp_congestion_control', 'utf8').trim();
}

/** The properties of a machine without which its figures mean nothing. */
export function machineFacts({ libtorrent, aria2, curl }: Tools): Record<string, string | number> {
  const notInstalled = 'not installed';
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    congestionControl: congestionControl(),
    loadAverage1min: Number((loadavg()[0] ?? 0).toFixed(2)),
    node: process.versions.node,
    libtorrent: libtorrent?.version ?? notInstalled,
    aria2: aria2?.version ?? notInstalled,
    curl: curl?.version ?? notInstalled,
  };
}

/** The first Python for which the code prints its executable (a shim would start another process) and a version. */
async function firstPython(code: string): Promise<Tool | undefined> {
  const found = await Promise.allSettled(PYTHONS.map((python) => run(python, ['-c', code])));
  const output = found.find((result) => result.status === 'fulfilled');
  const [program, version] = output?.value.stdout.trim().split(' ') ?? [];
  return program === undefined || version === undefined ? undefined : { program, version };
}

async function versionOf(program: string, pattern: RegExp): Promise<Tool | undefined> {
  const output = await run(program, ['--version']).catch(() => undefined);
  const version = pattern.exec(output?.stdout ?? '')?.[1];
  return version === undefined ? undefined : { program, version };
}
