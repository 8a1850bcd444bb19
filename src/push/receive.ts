import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { isIP } from 'node:net';
import { dirname, join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import { NarswarmError, firstFailure, isNarswarmError } from '../errors.ts';
import type { ImportWay } from '../nix/programs/import-way.ts';
import type { StorePath } from '../nix/brands.ts';
import type { NarInfo } from '../nix/narinfo.ts';
import { queryInvalidPaths } from '../nix/programs/nix-queries.ts';
import { parsePublicKey, isTrusted, type PublicKey } from '../nix/signature.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { isLoopback } from '../discovery/foreign-addresses.ts';
import { parseEndpoint } from '../discovery/endpoint.ts';
import type { InfoHash } from '../nix/brands.ts';
import type { Limits } from '../bytes/rate-limits.ts';
import { makeFolder } from '../disk/make-folder.ts';
import { ownName, removeLeft, runningMachine } from '../disk/owner.ts';
import { Progress } from '../fetch/report.ts';
import { tellBoth } from '../fetch/run-fetch.ts';
import { Workplace } from '../fetch/workplace.ts';
import type { Network, NetworkOptions } from '../swarm/network.ts';
import { FileStore } from '../store/file-store.ts';
import { Turn } from '../store/turn.ts';
import type { Warning } from '../warning.ts';
import { formatMessage, linesOf, otherInput, parseToHost, PROTOCOL, type FromHost, type ToHost } from './messages.ts';
import { ReceivedRecords } from './received-records.ts';

/**
 * Interval in milliseconds at which a host looks whether it is connected to the pushing machine. If it is not, the way
 * through ssh is used, too. Other hosts may have nothing until one of them is connected to the pushing machine.
 */
const MEET_MS = 3_000;
const PROGRESS_MS = 500;
/** Time without a byte from anybody after which a fetch fails, in milliseconds: the push may be exporting for others. */
const PEER_TIMEOUT_MS = 120_000;
const WITHOUT_NIX = 'install Nix there, or put it into the PATH of a shell without a login';

export interface ReceiveOptions {
  readonly input: Readable;
  readonly output: Writable;
  readonly version: string;
  /** File store of its own. It is removed once everything is imported, and kept otherwise, for the next push. */
  readonly storeDir: string;
  /** Folder on the same disk for file stores that are being removed. */
  readonly endedDir: string;
  /** Nix store to import into. Undefined: the default one. */
  readonly to?: string | undefined;
  readonly importWith?: ImportWay | undefined;
  readonly network: Pick<NetworkOptions, 'listen' | 'ports'>;
  readonly limits?: Limits | undefined;
  /** Address at which ssh has reached this host, and that of the pushing machine, as SSH_CONNECTION has them. */
  readonly connection: { readonly own: string; readonly push: string };
  /** Returns the keys whose signatures this host's Nix accepts. Undefined: Nix wants no signatures. */
  readonly keysOfNix: () => Promise<readonly PublicKey[] | undefined>;
  /** Fails if Nix does not let this user import paths on somebody's word. */
  readonly assertMayTrust: () => Promise<void>;
  readonly warningInWords: (warning: Warning) => string;
  readonly errorInWords: (error: NarswarmError) => string;
  readonly signal: AbortSignal;
}

/**
 * The host's side of a push: fetches the named paths from the cohort of this push, imports it, and gives it to the
 * other hosts until the push ends. Only members of the cohort get anything, and nothing is announced.
 *
 * @throws the failure, after it was reported; the signal's reason
 */
export async function receive(options: ReceiveOptions): Promise<void> {
  const { output, version } = options;
  const say = (message: FromHost): void => void output.write(formatMessage(message));
  say({ type: 'hello', protocol: PROTOCOL, version, machine: await nameOfMachine(options.storeDir) });
  await removeLeft(options.endedDir);
  const ended = join(options.endedDir, await ownName());
  try {
    await using reception = new Reception(options, { say, ended });
    await reception.run();
  } catch (error) {
    const failure = firstFailure(error);
    if (isNarswarmError(failure)) say({ type: 'failed', code: failure.code, message: options.errorInWords(failure) });
    throw failure;
  }
  say({ type: 'gone' });
  await rm(ended, { recursive: true, force: true });
}

/**
 * Returns a name that is the same for each process on this store, and different for any other store or running machine.
 * Undefined if this machine has no boot id: a push would mistake two such machines for one.
 */
async function nameOfMachine(storeDir: string): Promise<string | undefined> {
  const machine = await runningMachine();
  if (machine.split('-')[1] === 'unknown') return undefined;
  return createHash('sha256').update(`${machine} ${storeDir}`).digest('hex');
}

class Reception implements AsyncDisposable {
  readonly #options: ReceiveOptions;
  readonly #say: (message: FromHost) => void;
  /** Where the file store goes to be removed. */
  readonly #ended: string;
  readonly #records = new ReceivedRecords();
  readonly #progress = new Progress();
  readonly #stack = new AsyncDisposableStack();
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #begun:
    | {
        readonly workplace: Workplace;
        readonly network: Network;
        readonly key: string;
        readonly trusts: boolean;
        /** The keys whose signatures Nix accepts. */
        readonly keysOfNix: ReturnType<ReceiveOptions['keysOfNix']>;
      }
    | undefined;
  /** The downloads, one after another. */
  #last: Promise<void> = Promise.resolve();
  /** The fetches. An import continues beside the next download. */
  readonly #fetches: Promise<unknown>[] = [];
  #paths = 0;
  /** Bytes of NARs that were whole here before. */
  #heldBytes = 0;
  #tunnelPort = 0;
  /** Records that no fetch has begun with. */
  #waiting: string[] = [];
  /** True if the file store has nothing for a later push: it was made for a dry run, or everything is imported. */
  #leavesNothing = false;
  #isOver = false;

  constructor(
    options: ReceiveOptions,
    { say, ended }: { readonly say: (message: FromHost) => void; readonly ended: string },
  ) {
    this.#options = options;
    this.#say = say;
    this.#ended = ended;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
  }

  /** Handles the messages of the push, up to `bye`. */
  async run(): Promise<void> {
    const failed = Promise.withResolvers<never>();
    failed.promise.catch(() => undefined); // awaited below
    const onFailure = (error: unknown): void => failed.reject(error);
    const lines = linesOf(this.#options.input, () => Infinity);
    for (;;) {
      const { value, done } = await Promise.race([lines.next(), failed.promise, aborted(this.#signal)]);
      if (done === true)
        throw new NarswarmError('INTERRUPTED', 'the push has ended; what has arrived is kept for the next one');
      const message = parseToHost(value);
      if (message.type === 'bye') {
        this.#isOver = true;
        return;
      }
      await this.#take(message, onFailure);
    }
  }

  async #take(message: Exclude<ToHost, { type: 'bye' }>, onFailure: (error: unknown) => void): Promise<void> {
    if (message.type === 'begin') await this.#begin(message);
    else if (message.type === 'tunnel') this.#tunnelPort = message.port;
    else if (message.type === 'ask') await this.#answer(message.paths.map(parseStorePath));
    else if (message.type === 'peers') for (const peer of message.peers) this.#addPeer(peer);
    else {
      if (message.type === 'fetch') this.#waiting.push(...message.records);
      this.#last = this.#last.then(() => (message.type === 'fetch' ? this.#fetch(onFailure) : this.#end()));
      this.#last.catch(onFailure);
    }
  }

  async #begin({ group, key, trusts, port }: Extract<ToHost, { type: 'begin' }>): Promise<void> {
    const { storeDir, connection, network, limits, importWith, warningInWords } = this.#options;
    const isNew = !existsSync(storeDir);
    const store = await FileStore.open(storeDir, { create: true });
    const turn = await Turn.take(store, 'receiving');
    if (!(turn instanceof Turn))
      throw new NarswarmError('STORE_BUSY', 'another push to this machine is running: is it named twice?');
    this.#stack.defer(() => this.#letGo(turn));
    this.#leavesNothing = isNew;
    if (trusts) await this.#options.assertMayTrust();
    const keys = [parsePublicKey(key)];
    const workplace = this.#stack.use(
      await Workplace.open({
        storeDir,
        keys,
        shareKeys: keys,
        network: { ...network, scope: 'cohort', dht: false, lan: false, peers: [], isKnown: true, onlyMembers: true },
        near: [this.#records],
        limits,
        importWith,
        onWarning: (warning) => this.#say({ type: 'warning', text: warningInWords(warning) }),
      }),
    );
    const joined = workplace.network;
    if (joined === undefined) throw new TypeError('a push has a network');
    joined.joinCohort(group as InfoHash);
    const keysOfNix = trusts ? Promise.resolve(undefined) : this.#options.keysOfNix();
    keysOfNix.catch(() => undefined); // the first fetch fails for it
    this.#begun = { workplace, network: joined, key, trusts, keysOfNix };
    if (isIP(connection.push) !== 0 && port > 0) joined.discovery.add({ host: connection.push, port }, 'given');
    const meeting = setInterval(() => {
      const hasMetPush = [...joined.members.open].some(({ host }) => host === connection.push);
      if (this.#tunnelPort === 0 || hasMetPush) return;
      joined.discovery.add({ host: '127.0.0.1', port: this.#tunnelPort }, 'given');
      clearInterval(meeting);
    }, MEET_MS);
    this.#stack.defer(() => clearInterval(meeting));
    const telling = setInterval(() => this.#tell(), PROGRESS_MS);
    this.#stack.defer(() => clearInterval(telling));
    this.#say({ type: 'ready', port: joined.swarm.port, address: connection.own });
  }

  async #answer(paths: readonly StorePath[]): Promise<void> {
    const invalid = await queryInvalidPaths(paths, this.#options.to, { signal: this.#signal, withoutNix: WITHOUT_NIX });
    this.#say({ type: 'lacking', paths: paths.filter((path) => invalid.has(path)) });
  }

  #addPeer(text: string): void {
    this.#begun?.network.discovery.add(parseEndpoint(text), 'given');
  }

  /** Downloads all that waits, and begins its import. */
  async #fetch(onFailure: (error: unknown) => void): Promise<void> {
    if (this.#begun === undefined) throw otherInput();
    const { workplace, key, trusts, keysOfNix } = this.#begun;
    const infos = this.#records.add(this.#waiting.splice(0));
    if (infos.length === 0) return;
    assertAccepted(infos, await keysOfNix);
    this.#leavesNothing = false;
    const onWarning = (warning: Warning): void =>
      this.#say({ type: 'warning', text: this.#options.warningInWords(warning) });
    const downloaded = Promise.withResolvers<void>();
    const tell = tellBoth(this.#progress, {
      tell: (event) => {
        if (event.type === 'planned') this.#heldBytes += event.plan.storeBytes;
        else if (event.type === 'importing') downloaded.resolve();
        else if (event.type === 'warning') onWarning(event.warning);
      },
      onWarning,
    });
    const fetch = workplace.prefetch(
      {
        roots: infos.map(({ storePath }) => storePath),
        publishers: [],
        upstreams: [],
        to: this.#options.to,
        copy: true,
        trustedPublicKeys: trusts ? [key] : [],
        publisherTimeoutMs: 1,
        peerTimeoutMs: PEER_TIMEOUT_MS,
      },
      { tell, signal: this.#signal },
    );
    this.#fetches.push(fetch);
    fetch.catch(onFailure);
    await Promise.race([downloaded.promise, fetch]);
    this.#paths += infos.length;
  }

  async #end(): Promise<void> {
    await Promise.all(this.#fetches);
    this.#tell();
    const { bySource } = this.#progress;
    const { push } = this.#options.connection;
    const ofPush = [...bySource]
      .filter(([source]) => isOf(source, push))
      .reduce((sum, [, { bytes }]) => sum + bytes, 0);
    const { peerBytes: bytes, durationMs } = this.#progress;
    this.#leavesNothing = true;
    const kept = this.#heldBytes + this.#progress.keptBytes;
    this.#say({ type: 'done', paths: this.#paths, bytes, kept, ofPush, durationMs });
  }

  #tell(): void {
    const { receivedBytes: bytes, totalBytes, doneNars: nars, totalNars, isImporting: importing } = this.#progress;
    if (totalNars > 0) this.#say({ type: 'progress', bytes, totalBytes, nars, totalNars, importing });
  }

  /**
   * Gives back the turn. A file store that has nothing for a later push is moved away, and the turn with it: so nothing of a push
   * that begins in this moment is removed.
   */
  async #letGo(turn: Turn): Promise<void> {
    if (!this.#isOver || !this.#leavesNothing) return turn[Symbol.asyncDispose]();
    await makeFolder(dirname(this.#ended));
    await rename(this.#options.storeDir, this.#ended);
  }

  /** Ends pending fetches, and waits until they have saved the bytes that have arrived. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stop.abort(new NarswarmError('INTERRUPTED', 'the push has ended'));
    await Promise.allSettled([this.#last, ...this.#fetches]);
    await this.#stack.disposeAsync();
  }
}

/** Fails before anything is downloaded if Nix will refuse a path. @param keys undefined: Nix takes them all */
function assertAccepted(infos: readonly NarInfo[], keys: readonly PublicKey[] | undefined): void {
  if (keys === undefined) return;
  const refused = infos.filter((info) => !isTrusted(info, keys));
  const [first] = refused;
  if (first === undefined) return;
  const others = refused.length === 1 ? '' : ` and ${refused.length - 1} more`;
  throw new NarswarmError(
    'NARINFO_UNTRUSTED',
    `${first.storePath}${others} lacks a signature by a key that its Nix trusts: sign with --sign-key by a key in its trusted-public-keys, or push with --no-check-sigs as a user that its Nix trusts`,
    { facts: { path: first.storePath } },
  );
}

/** Returns true for an address of the pushing machine, also through ssh. */
function isOf(address: string, push: string): boolean {
  const { host } = parseEndpoint(address);
  return host === push || isLoopback(host);
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}
