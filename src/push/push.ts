import PQueue from 'p-queue';
import { formatEndpoint } from '../discovery/endpoint.ts';
import { isLoopback } from '../discovery/foreign-addresses.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { baseNameOf } from '../nix/store-path.ts';
import type { ValidPath } from '../nix/valid-path.ts';
import { hostFailed, PushHost, type Done, type HostOptions } from './host.ts';
import type { FromHost } from './messages.ts';
import { Outgoing, type OutgoingOptions } from './outgoing.ts';
import { packProgram } from './remote-script.ts';

/** Bytes of NARs that are exported at once: few at first, so that the first bytes leave soon. */
const FIRST_EXPORT_BYTES = 64e6;
const MAX_EXPORT_BYTES = 256e6;
/** Connections by ssh that are begun at once. */
const CONNECTING = 16;

export interface PushOptions extends Omit<OutgoingOptions, 'onWarning'> {
  /** References first. Hosts are connected to meanwhile. */
  readonly closure: Promise<readonly ValidPath[]>;
  /** Yields more paths with their closures, references first. Default: none. */
  readonly more?: AsyncIterable<readonly ValidPath[]> | undefined;
  readonly hosts: readonly string[];
  readonly sshOptions: readonly string[];
  /** Arguments of `narswarm receive` on the hosts. */
  readonly args: readonly string[];
  /** True if the hosts should import unsigned paths, too. */
  readonly trusts: boolean;
  /** True to only ask which paths the hosts lack. */
  readonly dryRun: boolean;
  readonly onEvent: (event: PushEvent) => void;
  readonly onWarning: OutgoingOptions['onWarning'];
  readonly signal: AbortSignal;
}

export type PushEvent =
  /** Two names lead to one host, which gets everything once, by the other name. */
  | { readonly type: 'same'; readonly host: string; readonly sameAs: string }
  /** A host has named the paths that it lacks; bytes are those of the NARs before compression. */
  | { readonly type: 'lacking'; readonly host: string; readonly paths: number; readonly narBytes: number }
  | { readonly type: 'progress'; readonly host: string; readonly progress: Extract<FromHost, { type: 'progress' }> }
  | { readonly type: 'warning'; readonly host: string; readonly text: string }
  | { readonly type: 'exporting'; readonly bytes: number; readonly totalBytes: number }
  | { readonly type: 'done'; readonly host: string; readonly done: Done }
  | { readonly type: 'failed'; readonly host: string; readonly failure: NarswarmError<'HOST_FAILED'> };

/** The result for one host. */
export interface HostResult {
  readonly host: string;
  /** Another name of the same host, which has the result. */
  readonly sameAs?: string;
  readonly done?: Done;
  readonly failure?: NarswarmError<'HOST_FAILED'>;
}

/** A host that has been reached. */
interface Reached {
  readonly host: PushHost;
  readonly address: string | undefined;
  /** The paths that it lacks, and those of them that were sent. */
  readonly lacking: Set<StorePath>;
  readonly sent: Set<StorePath>;
  /** Number of open questions about the paths that it lacks. */
  asking: number;
  hasEnded: boolean;
}

/**
 * Copies closures to hosts, as a cohort of this push alone: each host fetches from this machine and from the other
 * hosts, and gives its NARs to others until all are complete. A host that fails does not affect the others.
 *
 * @returns the results, in the order of the hosts
 * @throws LISTEN_FAILED, NIX_FAILED, STORE_FULL …; the signal's reason
 */
export async function push(options: PushOptions): Promise<readonly HostResult[]> {
  await using running = new Push(options, await Outgoing.open(options));
  return await running.run(); // before the push is disposed of
}

class Push implements AsyncDisposable {
  readonly #options: PushOptions;
  readonly #outgoing: Outgoing;
  readonly #closure = new Map<StorePath, ValidPath>();
  /** Settles once the closure is known. */
  readonly #listed: Promise<void>;
  readonly #records = new Map<StorePath, string>();
  /** Paths that some host lacks. */
  readonly #wanted = new Set<StorePath>();
  readonly #hosts: PushHost[] = [];
  /** The first name of each machine that was reached. */
  readonly #names = new Map<string, string>();
  readonly #results = new Map<string, Promise<HostResult>>();
  readonly #reached: Reached[] = [];
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  #exportBytes = FIRST_EXPORT_BYTES;
  #exportedBytes = 0;
  #mayGrow: boolean;
  #exporting: Promise<void> | undefined;
  #isExporting = false;
  readonly #failed = Promise.withResolvers<never>();
  /** True once all hosts are let go of: that they end is no failure of theirs. */
  #isOver = false;

  constructor(options: PushOptions, outgoing: Outgoing) {
    this.#options = options;
    this.#outgoing = outgoing;
    this.#mayGrow = options.more !== undefined;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
    this.#failed.promise.catch(() => undefined); // awaited in run
    this.#listed = this.#list();
    this.#listed.catch(this.#failed.reject);
  }

  async run(): Promise<readonly HostResult[]> {
    const { hosts, signal } = this.#options;
    signal.addEventListener('abort', () => this.#failed.reject(signal.reason));
    signal.throwIfAborted();
    const program = await packProgram(signal);
    const connecting = new PQueue({ concurrency: CONNECTING });
    if (this.#options.more !== undefined) void this.#grow(this.#options.more).catch(this.#failed.reject);
    for (const name of hosts) this.#results.set(name, this.#serve(name, program, connecting));
    return Promise.race([Promise.all(this.#results.values()), this.#failed.promise]);
  }

  async #list(): Promise<void> {
    for (const path of await this.#options.closure) this.#closure.set(path.storePath, path);
  }

  /** Serves one host until it is complete or has failed. */
  async #serve(name: string, program: HostOptions['program'], connecting: PQueue): Promise<HostResult> {
    const { onEvent } = this.#options;
    try {
      const reached = await connecting.add(() => this.#reach(name, program));
      if ('sameAs' in reached) return await this.#serveAgain(reached.host, reached.sameAs);
      if (this.#options.dryRun) return { host: name };
      this.#send(reached);
      const done = await reached.host.done;
      onEvent({ type: 'done', host: name, done });
      return { host: name, done };
    } catch (error) {
      if (!isNarswarmError(error, 'HOST_FAILED')) throw error;
      if (!this.#isOver && !this.#signal.aborted) onEvent({ type: 'failed', host: name, failure: error });
      const index = this.#reached.findIndex(({ host }) => host.name === name);
      if (index >= 0) this.#reached.splice(index, 1);
      return { host: name, failure: error };
    }
  }

  /** Checks that a host that counts as the same one as another has everything. */
  async #serveAgain(host: PushHost, sameAs: string): Promise<HostResult> {
    const { name } = host;
    this.#options.onEvent({ type: 'same', host: name, sameAs });
    const result = await this.#results.get(sameAs);
    if (result?.done === undefined) return { host: name, sameAs };
    const [lacking] = await host.ask([...this.#closure.keys()]);
    if (lacking === undefined) return { host: name, sameAs };
    throw hostFailed('not-the-same', `it has the machine-id and boot id of ${sameAs}, but lacks ${lacking}`);
  }

  /** Connects to a host, and asks which paths it lacks, unless it is also reached by another name. */
  async #reach(
    name: string,
    program: HostOptions['program'],
  ): Promise<Reached | { readonly host: PushHost; readonly sameAs: string }> {
    const { hosts, sshOptions, args, trusts, network, onEvent } = this.#options;
    const { group, key, port } = this.#outgoing;
    const host = new PushHost({
      name,
      sshOptions,
      mayAsk: hosts.length === 1,
      program,
      args,
      begin: { type: 'begin', group, key, trusts, port },
      listens: selfAddress(network.listen),
      onProgress: (progress) => onEvent({ type: 'progress', host: name, progress }),
      onWarning: (text) => onEvent({ type: 'warning', host: name, text }),
    });
    this.#hosts.push(host);
    const machine = await host.hello;
    const sameAs = machine === undefined ? undefined : this.#names.get(machine);
    if (sameAs !== undefined) return { host, sameAs };
    if (machine !== undefined) this.#names.set(machine, name);
    host.begin();
    const endpoint = await host.ready;
    if (endpoint !== undefined) this.#outgoing.addPeer(endpoint);
    const isElsewhere = endpoint !== undefined && !isLoopback(endpoint.host);
    const address = isElsewhere ? formatEndpoint(endpoint) : undefined;
    const reached: Reached = { host, address, lacking: new Set(), sent: new Set(), asking: 0, hasEnded: false };
    for (const other of this.#reached) {
      if (address !== undefined) other.host.say({ type: 'peers', peers: [address] });
      if (other.address !== undefined) host.say({ type: 'peers', peers: [other.address] });
    }
    this.#reached.push(reached);
    await this.#listed;
    await this.#ask(reached, [...this.#closure.values()]);
    const lacking = [...reached.lacking].map((path) => this.#closure.get(path)?.narSize ?? 0);
    const narBytes = lacking.reduce((sum, size) => sum + size, 0);
    onEvent({ type: 'lacking', host: name, paths: lacking.length, narBytes });
    return reached;
  }

  async #ask(reached: Reached, paths: readonly ValidPath[]): Promise<void> {
    const asked = new Set(paths.map(({ storePath }) => storePath));
    reached.asking++;
    for (const path of await reached.host.ask([...asked])) {
      if (!asked.has(path)) continue; // it may only name paths that it was asked about
      reached.lacking.add(path);
      this.#wanted.add(path);
    }
    reached.asking--;
  }

  /** Exports the wanted paths, and sends a host those that it lacks. */
  #send(reached: Reached): void {
    this.#flush(reached);
    if (this.#isExporting) return;
    this.#exporting = this.#export();
    this.#exporting.catch(this.#failed.reject);
  }

  async #export(): Promise<void> {
    this.#isExporting = true;
    for (;;) {
      const batch = this.#nextBatch();
      if (batch.length === 0) break;
      const records = await this.#outgoing.export(batch, {
        onBytes: (bytes) => this.#tellExport(bytes),
        signal: this.#signal,
      });
      for (const [path, record] of records) this.#records.set(path, record);
      this.#exportBytes = Math.min(2 * this.#exportBytes, MAX_EXPORT_BYTES);
      for (const reached of this.#reached) this.#flush(reached);
    }
    this.#isExporting = false;
  }

  /** Returns the next paths to export, references first. */
  #nextBatch(): ValidPath[] {
    const batch: ValidPath[] = [];
    let bytes = 0;
    for (const path of this.#closure.values()) {
      if (!this.#wanted.has(path.storePath) || this.#records.has(path.storePath)) continue;
      if (bytes > 0 && bytes + path.narSize > this.#exportBytes) break;
      batch.push(path);
      bytes += path.narSize;
    }
    return batch;
  }

  /** Sends the records that a host lacks and that are complete with all that it lacks of their references. */
  #flush(reached: Reached): void {
    const { host, lacking, sent } = reached;
    const records: string[] = [];
    for (const path of this.#closure.values()) {
      const { storePath, references } = path;
      const record = this.#records.get(storePath);
      if (record === undefined || !lacking.has(storePath) || sent.has(storePath)) continue;
      if (!references.every((name) => this.#mayReferTo(reached, name, storePath))) continue;
      sent.add(storePath);
      records.push(record);
    }
    if (records.length > 0) host.say({ type: 'fetch', records });
    if (this.#mayGrow || reached.hasEnded || reached.asking > 0 || sent.size < lacking.size) return;
    reached.hasEnded = true;
    host.say({ type: 'end' });
  }

  #mayReferTo({ lacking, sent }: Reached, name: string, from: StorePath): boolean {
    if (name === baseNameOf(from)) return true;
    const path = (from.slice(0, from.lastIndexOf('/') + 1) + name) as StorePath;
    return !lacking.has(path) || sent.has(path);
  }

  /** Takes paths that become valid while the push is running. */
  async #grow(more: AsyncIterable<readonly ValidPath[]>): Promise<void> {
    for await (const paths of more) {
      const fresh = paths.filter(({ storePath }) => !this.#closure.has(storePath));
      for (const path of fresh) this.#closure.set(path.storePath, path);
      if (fresh.length === 0) continue;
      await Promise.all(
        this.#reached.map(async (reached) => {
          await this.#ask(reached, fresh).catch(() => undefined); // its failure is reported by the code that serves it
          this.#send(reached);
        }),
      );
    }
    this.#mayGrow = false;
    for (const reached of this.#reached) this.#flush(reached);
  }

  #tellExport(bytes: number): void {
    this.#exportedBytes += bytes;
    const totalBytes = [...this.#wanted].reduce((sum, path) => sum + (this.#closure.get(path)?.narSize ?? 0), 0);
    this.#options.onEvent({ type: 'exporting', bytes: this.#exportedBytes, totalBytes });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    for (const host of this.#hosts) if (!this.#options.signal.aborted) host.say({ type: 'bye' });
    await Promise.all(this.#hosts.map((host) => host.end()));
    this.#stop.abort(new NarswarmError('INTERRUPTED', 'the push has ended'));
    await this.#exporting?.catch(() => undefined);
    await this.#outgoing[Symbol.asyncDispose]();
  }
}

/** Returns an address at which this machine reaches itself. */
function selfAddress(listen: string | undefined): string {
  if (listen === '::') return '::1';
  return listen === undefined || listen === '0.0.0.0' ? '127.0.0.1' : listen;
}
