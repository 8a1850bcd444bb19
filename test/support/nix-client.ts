/** The real Nix as a client of binary caches: an empty store of its own, and what it has received so far. */
import assert from 'node:assert/strict';
import { execFileSync, spawn } from 'node:child_process';
import { EventEmitter, once } from 'node:events';
import { join } from 'node:path';
import { sandboxPaths } from '../../src/demo/sandbox-paths.ts';
import type { Lab } from './lab.ts';
import './test-nix.ts';

/** The result of a run of Nix. */
export interface NixRun {
  readonly status: number | null;
  /** What it has told in words. */
  readonly stderr: string;
}

/** A running Nix. */
export interface RunningNix extends AsyncDisposable {
  readonly ended: Promise<NixRun>;
  /** Resolves once it has received some bytes of a file of that size, and not the whole. */
  receiving(sizeBytes: number): Promise<void>;
}

export interface NixClientOptions {
  /** URLs in the order in which they are asked. */
  readonly substituters: readonly string[];
  readonly publicKey: string;
  readonly settings?: Readonly<Record<string, string | number | boolean>>;
  /** Words before each command. */
  readonly wrapper?: readonly string[];
}

export class NixClient {
  /** Folder of its store. */
  readonly root: string;
  readonly #env: Readonly<Record<string, string>>;
  readonly #wrapper: readonly string[];

  private constructor(root: string, env: Readonly<Record<string, string>>, wrapper: readonly string[]) {
    this.root = root;
    this.#env = env;
    this.#wrapper = wrapper;
  }

  static async of(lab: Lab, options: NixClientOptions): Promise<NixClient> {
    const { substituters, publicKey, settings = {}, wrapper = [] } = options;
    const home = await lab.folder('nix-client');
    const lines = {
      'experimental-features': 'nix-command',
      'build-users-group': '',
      'sandbox-paths': sandboxPaths(),
      substituters: substituters.join(' '),
      'trusted-public-keys': publicKey,
      ...settings,
    };
    const root = join(home, 'store');
    const env = {
      ...lab.env,
      HOME: home,
      XDG_CACHE_HOME: join(home, 'cache'),
      NIX_REMOTE: `local?root=${root}`,
      NIX_CONFIG: Object.entries(lines)
        .map(([key, value]) => `${key} = ${value}`)
        .join('\n'),
    };
    return new NixClient(root, env, wrapper);
  }

  /** Makes the store have a path with its closure. */
  realise(path: string): RunningNix {
    return this.run('nix-store', '--realise', path, '--log-format', 'internal-json', '-v');
  }

  run(...words: readonly string[]): RunningNix {
    const [file = '', ...args] = [...this.#wrapper, ...words];
    const child = spawn(file, args, { env: this.#env, stdio: ['ignore', 'ignore', 'pipe'] });
    const news = new EventEmitter<{ line: [] }>();
    let stderr = '';
    let hasEnded = false;
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
      news.emit('line');
    });
    const ended = once(child, 'close').then(([status]) => {
      hasEnded = true;
      news.emit('line');
      return { status: status as number | null, stderr: wordsOf(stderr) };
    });
    const receiving = async (sizeBytes: number): Promise<void> => {
      while (!hasBegun(stderr, sizeBytes)) {
        assert.ok(!hasEnded, `Nix has ended: ${stderr}`);
        await once(news, 'line');
      }
    };
    const dispose = async (): Promise<void> => {
      child.kill('SIGKILL');
      await ended;
    };
    return { ended, receiving, [Symbol.asyncDispose]: dispose };
  }

  /** Fails the test unless the store has the whole closure of a path, with the contents that its hashes name. */
  async assertHas(path: string): Promise<void> {
    const checked = await this.run('nix-store', '--query', '--requisites', path).ended;
    assert.equal(checked.status, 0, checked.stderr);
    const verified = await this.run('nix-store', '--verify', '--check-contents').ended;
    assert.equal(verified.status, 0, verified.stderr);
    assert.doesNotMatch(verified.stderr, /modified|missing/);
  }
}

/** Leaves out activities and their progress. */
function wordsOf(stderr: string): string {
  const words = stderr.split('\n').filter((line) => !line.startsWith('@nix ') || line.includes('"action":"msg"'));
  return words.join('\n');
}

/** Returns true if Nix has told that a part of a file has arrived: the progress of a transfer, in its JSON. */
function hasBegun(stderr: string, sizeBytes: number): boolean {
  for (const [, done, expected] of stderr.matchAll(/"fields":\[(\d+),(\d+),\d+,\d+\][^\n]*"type":105/g))
    if (Number(expected) === sizeBytes && Number(done) > 0 && Number(done) < sizeBytes) return true;
  return false;
}

/** Returns 8 for Nix 2.8. */
export function nixMinorVersion(): number {
  const [, minor = ''] = /2\.(\d+)/.exec(execFileSync('nix-store', ['--version'], { encoding: 'utf8' })) ?? [];
  return Number(minor);
}
