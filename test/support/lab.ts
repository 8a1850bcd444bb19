/**
 * A laboratory for end-to-end tests: real `narswarm` processes on loopback, a real closure that the real Nix built and
 * signed, temporary folders, and a check whether a file store is sound.
 */
import assert from 'node:assert/strict';
import { spawn, spawnSync, type ChildProcessWithoutNullStreams } from 'node:child_process';
import { createHash } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { globSync, statSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { makeClosure, type MadeClosure } from '../../src/demo/closure.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';
import { parsePublicKey, verifyNarInfo } from '../../src/nix/signature.ts';
import { hashNar } from '../../src/store/hashing/hash-nar.ts';
import { extensionOf, narTorrent, type NarTorrent } from '../../src/torrent/canonical.ts';
import { startDhtNetwork, type DhtNetwork } from './dht-network.ts';
import './test-nix.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
/** The program as it is installed: users run this one, and it starts in half the time. */
const MAIN = join(ROOT, 'dist/main.js');
const FIXTURES = fileURLToPath(new URL('../../fixtures/nix/', import.meta.url));
/** Limit on a process, longer than any test runs. Then it is killed, and its test fails for lack of a status. */
const PATIENCE_MS = 600_000;

/** One line of `--json`. */
export type CliEvent = Readonly<Record<string, unknown>> & { readonly event: string };

/** A process that has ended. */
export interface Run {
  /** null if a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
  readonly events: readonly CliEvent[];
  readonly durationMs: number;
  /** Returns the facts of the last event of that name. Fails the test if there is none. */
  event(name: string): CliEvent;
}

export interface ProcessOptions {
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Program that is started with the command line as its arguments, such as `unshare`. */
  readonly wrapper?: readonly string[];
  /** Milliseconds after which it is killed. Default: longer than any test runs. */
  readonly limitMs?: number;
}

/** A running process, until it ends by itself or the test stops it by its pid. */
export class CliProcess implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  readonly #ended: Promise<Run>;
  readonly #news = new EventEmitter<{ line: [] }>();
  readonly #events: CliEvent[] = [];
  #stdout = '';
  #stderr = '';
  #rest = '';
  #hasEnded = false;

  constructor(args: readonly string[], env: Readonly<Record<string, string>>, options: ProcessOptions = {}) {
    const startedAtMs = performance.now();
    const [file, ...before] = [...(options.wrapper ?? []), process.execPath];
    this.#child = spawn(file ?? process.execPath, [...before, MAIN, ...args], {
      env: { ...env, ...options.env },
      ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
    });
    this.#child.stdin.end();
    this.#child.stdout.setEncoding('utf8').on('data', (text: string) => this.#take(text, args.includes('--json')));
    this.#child.stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#stderr += text;
      this.#news.emit('line');
    });
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), options.limitMs ?? PATIENCE_MS);
    this.#ended = once(this.#child, 'close').then(([status, signal]) => {
      clearTimeout(timer);
      this.#hasEnded = true;
      this.#news.emit('line');
      return {
        status: status as number | null,
        signal: signal as NodeJS.Signals | null,
        stdout: this.#stdout,
        stderr: this.#stderr,
        events: this.#events,
        durationMs: performance.now() - startedAtMs,
        event: (name) => this.#lastEvent(name),
      };
    });
  }

  get pid(): number {
    assert.ok(this.#child.pid !== undefined, 'the process did not start');
    return this.#child.pid;
  }

  get stderr(): string {
    return this.#stderr;
  }

  get events(): readonly CliEvent[] {
    return this.#events;
  }

  /** Waits for the first event of that name. Fails the test if the process ends without one. */
  async event(name: string, fits: (event: CliEvent) => boolean = () => true): Promise<CliEvent> {
    for (;;) {
      const found = this.#events.find((event) => event.event === name && fits(event));
      if (found !== undefined) return found;
      assert.ok(!this.#hasEnded, `ended without the event ${name}: ${this.#stdout}${this.#stderr}`);
      await once(this.#news, 'line');
    }
  }

  /** Waits until the process ends by itself. */
  end(): Promise<Run> {
    return this.#ended;
  }

  /** Sends a signal and waits for the end. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<Run> {
    this.#child.kill(signal);
    return this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('SIGKILL');
  }

  #take(text: string, isJson: boolean): void {
    this.#stdout += text;
    if (isJson) {
      const lines = (this.#rest + text).split('\n');
      this.#rest = lines.pop() ?? '';
      for (const line of lines) this.#events.push(JSON.parse(line) as CliEvent);
    }
    this.#news.emit('line');
  }

  #lastEvent(name: string): CliEvent {
    const found = this.#events.findLast((event) => event.event === name);
    assert.ok(found !== undefined, `no event ${name} in: ${this.#stdout}${this.#stderr}`);
    return found;
  }
}

/** A running publisher and its two addresses. */
export interface RunningPublisher {
  readonly process: CliProcess;
  readonly ready: CliEvent;
  /** `magnet:?xs=…` */
  readonly address: string;
  /** The same hash map at its HTTP mirror. */
  readonly mirror: string;
  /** `host:port` of its peer port. */
  readonly peer: string;
}

/** Contents of a file store that was found to be sound. */
export interface StoreContents {
  /** Base names of the paths that have a narinfo. */
  readonly narInfos: readonly string[];
  /** Names of the files in `nar/`. */
  readonly nars: readonly string[];
}

/** Folders, processes and a closure for the tests of one file; disposing it ends every process that it started. */
export class Lab implements AsyncDisposable {
  readonly dir: string;
  readonly #stack = new AsyncDisposableStack();
  #folders = 0;

  private constructor(dir: string) {
    this.dir = dir;
  }

  static async open(): Promise<Lab> {
    assertBuilt();
    const lab = new Lab(await mkdtemp(join(tmpdir(), 'narswarm-lab-')));
    lab.#stack.defer(() => removeTree(lab.dir));
    await writeFile(lab.configFile, '');
    return lab;
  }

  /** Builds and signs a closure with the real Nix: two paths a blob, each blob about as large as its NAR. */
  async closure(blobBytes: readonly number[], name = 'lab'): Promise<MadeClosure> {
    return makeClosure(await this.folder('make'), blobBytes, { name });
  }

  /** A copy of the committed cache of three paths, made and signed by the real Nix. */
  async fixtureCache(): Promise<string> {
    const dir = await this.folder('fixture');
    await cp(join(FIXTURES, 'cache'), dir, { recursive: true });
    return dir;
  }

  /** Real DHT nodes in this process. */
  async dht(count = 3): Promise<DhtNetwork> {
    return this.#stack.use(await startDhtNetwork(count));
  }

  /** Disposes of something together with the lab. */
  use<T extends AsyncDisposable>(thing: T): T {
    return this.#stack.use(thing);
  }

  /** A new empty folder. */
  async folder(name = 'dir'): Promise<string> {
    const dir = join(this.dir, `${name}-${++this.#folders}`);
    await mkdir(dir, { recursive: true });
    return dir;
  }

  /** A path below the lab that does not exist yet. */
  path(name: string): string {
    return join(this.dir, `${name}-${++this.#folders}`);
  }

  /** Runs a command to its end, with `--json` unless `args` has it. */
  async run(args: readonly string[], options?: ProcessOptions): Promise<Run> {
    return new CliProcess(args.includes('--json') ? args : [...args, '--json'], this.env, options).end();
  }

  /** Runs a command like a person, without `--json`. */
  async runPlain(args: readonly string[], options?: ProcessOptions): Promise<Run> {
    return new CliProcess(args, this.env, options).end();
  }

  /** Starts a command that keeps running; the lab kills it at the end if nobody stopped it. */
  start(args: readonly string[], options?: ProcessOptions): CliProcess {
    return this.#stack.use(new CliProcess([...args, '--json'], this.env, options));
  }

  /** Starts a service and waits until it says that it is ready. */
  async service(args: readonly string[], options?: ProcessOptions): Promise<{ process: CliProcess; ready: CliEvent }> {
    const started = this.start(args, options);
    return { process: started, ready: await started.event('ready') };
  }

  /** Starts `narswarm publish` for a closure under the root name `lab`, with its own key unless `args` has one. */
  async publisher(
    made: Pick<MadeClosure, 'cacheDir' | 'root' | 'publicKey'>,
    args: readonly string[],
  ): Promise<RunningPublisher> {
    const key = args.includes('--key') ? [] : ['--key', this.path('publisher.key')];
    const what = ['--store', made.cacheDir, '--root', `lab=${made.root}`, '--trusted-public-key', made.publicKey];
    const { process: started, ready } = await this.service(['publish', ...what, ...key, ...args]);
    const address = String(ready['address']);
    return {
      process: started,
      ready,
      address,
      mirror: mirrorOf(address, `http://127.0.0.1:${String(ready['httpPort'])}`),
      peer: `127.0.0.1:${String(ready['port'])}`,
    };
  }

  /** The config file of every process that is not given another one; empty at first. */
  get configFile(): string {
    return join(this.dir, 'config.toml');
  }

  /** Environment of the processes: no configuration of the machine, no proxy, no real substituter. */
  get env(): Record<string, string> {
    return {
      PATH: process.env['PATH'] ?? '',
      HOME: this.dir,
      // Also for root, whose folders are those of the machine.
      NARSWARM_CONFIG: this.configFile,
      STATE_DIRECTORY: join(this.dir, 'state'),
      LC_ALL: 'C',
      // The line of the machine that runs the tests may be metered.
      DBUS_SYSTEM_BUS_ADDRESS: 'unix:path=/dev/null',
      NIX_CONF_DIR: join(this.dir, 'no-nix-conf'),
      NIX_CONFIG: 'substituters =\ntrusted-public-keys =',
      NODE_COMPILE_CACHE: join(tmpdir(), 'narswarm-compile-cache'),
    };
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.#stack.disposeAsync();
  }
}

/** Fails if `dist/` is older than `src/`. */
function assertBuilt(): void {
  const builtAtMs = statSync(MAIN, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  const newer = globSync('src/**/*.{ts,cjs}', { cwd: ROOT }).find(
    (name) => statSync(join(ROOT, name)).mtimeMs > builtAtMs,
  );
  assert.equal(newer, undefined, `${newer} is newer than dist/: npm run build`);
}

/** The address of a hash map that is served at `url`. */
export function mirrorOf(address: string, url: string): string {
  return address.replace(/^magnet:/, `${url}/`);
}

/** Flags of a process that stays on loopback and knows only named peers. */
export const ALONE: readonly string[] = ['--listen', '127.0.0.1', '--no-lan', '--no-dht'];

/** Fails unless a command ended with that status, and reported it in one clear sentence and one event. */
export function assertFailure(run: Run, status: number, code: string, says: RegExp): void {
  assert.equal(run.status, status, `${run.stdout}${run.stderr}`);
  const lines = run.stderr.trimEnd().split('\n');
  assert.equal(lines.length, 1, `more than one line: ${run.stderr}`);
  assert.match(run.stderr, /^error: /);
  assert.match(run.stderr, says);
  assert.doesNotMatch(run.stderr, /^ {4}at /m, 'a stack trace is not for people');
  const last = run.events.at(-1);
  assert.deepEqual([last?.event, last?.['code'], last?.['exitStatus']], ['error', code, status], run.stdout);
}

/** The key that signed {@link Lab.fixtureCache}. */
export async function fixtureKey(): Promise<string> {
  return (await readFile(join(FIXTURES, 'fixture-1.public'), 'utf8')).trim();
}

/** Roots and paths of {@link Lab.fixtureCache}. */
export const FIXTURE_ROOT = '/nix/store/ak1r35k6n7424jh8hk7axrj4l9x6zsrv-top+1.0_x=?';

/** The narinfos of a binary cache, by the hash part of their paths. */
export async function readNarInfos(dir: string): Promise<Map<string, NarInfo>> {
  const names = (await readdir(dir)).filter((name) => name.endsWith('.narinfo'));
  const infos = names.map(async (name) => parseNarInfo(await readFile(join(dir, name), 'utf8')));
  return new Map((await Promise.all(infos)).map((info, index) => [(names[index] ?? '').slice(0, 32), info]));
}

/** Makes the canonical torrent of a NAR in a binary cache. */
export async function torrentIn(cacheDir: string, info: NarInfo): Promise<NarTorrent> {
  const hashes = await hashNar(join(cacheDir, info.url));
  assert.ok(hashes !== undefined, `${info.url} is not in ${cacheDir}`);
  return narTorrent({ ...hashes, extension: extensionOf(info.compression) });
}

/** Sums up the sizes of all NARs of a binary cache, from its narinfos. */
export async function narBytesOf(dir: string): Promise<number> {
  return [...(await readNarInfos(dir)).values()].reduce((sum, { fileSize = 0 }) => sum + fileSize, 0);
}

/**
 * Fails unless a file store is sound: each narinfo is signed and has the narinfos that it refers to, each file in
 * `nar/` has the SHA-256 of its name, and no temporary file is left beside them.
 *
 * @param options.withoutNar base names that may have a narinfo and no NAR, since the target held them already
 * @param options.afterKill whether a process was killed that may have left a temporary file, which gc removes after a day
 */
export async function assertSound(
  dir: string,
  publicKey: string | readonly string[],
  options: { withoutNar?: readonly string[]; afterKill?: boolean } = {},
): Promise<StoreContents> {
  const keys = [publicKey].flat().map((key) => parsePublicKey(key));
  const names = await readdir(dir);
  assert.deepEqual(
    names.filter((name) => name.endsWith('.tmp') && options.afterKill !== true),
    [],
    `temporary files are left in ${dir}`,
  );
  const nars = await readdir(join(dir, 'nar'));
  const wrong = await Promise.all(
    nars.map(async (name) => ((await hashOf(join(dir, 'nar', name))) === name.slice(0, 52) ? [] : [name])),
  );
  assert.deepEqual(wrong.flat(), [], `files of ${dir}/nar are not what their names say`);
  const infos = await readNarInfos(dir);
  const withoutNar = new Set(options.withoutNar);
  for (const [hash, info] of infos) {
    const baseName = info.storePath.slice('/nix/store/'.length);
    assert.equal(baseName.slice(0, 32), hash);
    assert.ok(verifyNarInfo(info, keys) !== undefined, `${baseName} is not signed`);
    for (const reference of info.references)
      assert.ok(infos.has(reference.slice(0, 32)), `${baseName} refers to ${reference}, which has no narinfo`);
    if (!withoutNar.has(baseName))
      assert.ok(nars.includes(info.url.slice('nar/'.length)), `${baseName} has a narinfo and no NAR`);
  }
  return { narInfos: [...infos.values()].map((info) => info.storePath.slice('/nix/store/'.length)), nars };
}

/** Returns the closure of `root` that the real Nix finds valid in `store`. Fails the test if Nix fails. */
export function requisites(store: string, root: string): string[] {
  const result = spawnSync('nix-store', ['--store', store, '--query', '--requisites', root], { encoding: 'utf8' });
  assert.equal(result.status, 0, result.stderr);
  return result.stdout.trim().split('\n');
}

async function hashOf(path: string): Promise<string> {
  return fileHashOf(
    createHash('sha256')
      .update(await readFile(path))
      .digest(),
  );
}

/** Removes a folder again if a child of a killed process still writes a last file. Nix makes its stores read-only. */
async function removeTree(dir: string): Promise<void> {
  spawnSync('chmod', ['-R', 'u+w', dir]);
  await rm(dir, { recursive: true, force: true, maxRetries: 10 });
}
