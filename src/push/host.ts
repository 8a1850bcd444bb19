import { isIP } from 'node:net';
import { execa } from 'execa';
import { isErrorCode, NarswarmError, type FactsOf, type HostFailure } from '../errors.ts';
import type { StorePath } from '../nix/brands.ts';
import { parseStorePath } from '../nix/store-path.ts';
import { formatEndpoint, type Endpoint } from '../discovery/endpoint.ts';
import { formatMessage, linesOf, MAX_LINE, parseFromHost, PROTOCOL, type FromHost, type ToHost } from './messages.ts';
import { remoteCommand, type Program } from './remote-script.ts';

/** Time for a host to end after the end of its input, in milliseconds. */
const END_MS = 10_000;
/** Time after which a person is told that a host has not answered, in milliseconds. To copy the program there takes a while. */
const SILENT_MS = 60_000;
/** Words of ssh and of tar that are no reason of anything. */
const NO_REASON =
  /^(?:Warning: Permanently added |tar: (?:Exiting with failure|Error is not recoverable|Child returned))/;
const SILENT = `it has not answered for ${SILENT_MS / 1_000} s, and the push waits for it: look at its shell, or end this with Ctrl-C; the others keep what they have`;
/** Limit on kept lines of ssh's stderr. */
const WORDS = 20;
/** Limit on the warnings of a host, which may be a stranger's by now: they are printed in the user's terminal. */
const MOST_WARNINGS = 20;
/** Shortest time between two reports of progress that are passed on. A host makes two a second. */
const PROGRESS_MS = 100;

export interface HostOptions {
  /** As ssh takes it, such as `root@server`. */
  readonly name: string;
  /** Options of ssh, before its own defaults. */
  readonly sshOptions: readonly string[];
  /** True if ssh may ask a question in the terminal. Those of several hosts at once could not be told apart. */
  readonly mayAsk: boolean;
  readonly program: Program;
  /** Arguments of `narswarm receive`. */
  readonly args: readonly string[];
  readonly begin: Extract<ToHost, { type: 'begin' }>;
  /** Where the way through ssh ends: an address on which this machine listens for peers. */
  readonly listens: string;
  readonly onProgress: (progress: Extract<FromHost, { type: 'progress' }>) => void;
  readonly onWarning: (text: string) => void;
}

/** A question about paths that is not answered yet. */
interface Question {
  readonly answer: (lacking: readonly StorePath[]) => void;
  /** Length of the longest answer that it may get, in characters. */
  readonly length: number;
}

/** The report of a host that has everything. */
export type Done = Omit<Extract<FromHost, { type: 'done' }>, 'type'>;

/** One host: the process of ssh to it, and the conversation with `narswarm receive` there. */
export class PushHost {
  readonly name: string;
  readonly #options: HostOptions;
  readonly #ssh: ReturnType<typeof startSsh>;
  readonly #hello = Promise.withResolvers<string | undefined>();
  readonly #ready = Promise.withResolvers<Endpoint | undefined>();
  readonly #done = Promise.withResolvers<Done>();
  readonly #gone = Promise.withResolvers<void>();
  readonly #questions: Question[] = [];
  readonly #words: string[] = [];
  readonly #warnings = new Set<string>();
  #wasSent = false;
  #progressAtMs = -Infinity;
  #tunnelPort = 0;
  #isReached = false;
  #hasBegun = false;

  constructor(options: HostOptions) {
    this.name = options.name;
    this.#options = options;
    for (const { promise } of [this.#hello, this.#ready, this.#done]) promise.catch(() => undefined); // its reader reports it
    this.#ssh = startSsh(options);
    const timer = setTimeout(() => this.#warn(SILENT), SILENT_MS).unref();
    void this.#hello.promise.catch(() => undefined).then(() => clearTimeout(timer));
    this.#ssh.stdin.on('error', () => undefined); // the end of ssh is reported
    void this.#listen();
    void this.#hear().catch((error: unknown) => {
      this.#words.push(error instanceof Error ? error.message : String(error));
      this.#ssh.kill();
    });
  }

  /** Settles once the host has answered: the name of its machine, if it has one. @throws HOST_FAILED */
  get hello(): Promise<string | undefined> {
    return this.#hello.promise;
  }

  /** Settles once the host listens for peers: where others reach it, if that is known. @throws HOST_FAILED */
  get ready(): Promise<Endpoint | undefined> {
    return this.#ready.promise;
  }

  /** Settles once everything is imported there. @throws HOST_FAILED */
  get done(): Promise<Done> {
    return this.#done.promise;
  }

  /** Makes the host take part in the push. Call it once, after its {@link hello}. */
  begin(): void {
    this.#hasBegun = true;
    this.say(this.#options.begin);
    if (this.#tunnelPort > 0) this.say({ type: 'tunnel', port: this.#tunnelPort });
  }

  /** Returns those of these paths that the host lacks. @throws HOST_FAILED */
  ask(paths: readonly StorePath[]): Promise<readonly StorePath[]> {
    const { promise, resolve } = Promise.withResolvers<readonly StorePath[]>();
    this.say({ type: 'ask', paths: [...paths] });
    this.#questions.push({ answer: resolve, length: formatMessage({ type: 'lacking', paths: [...paths] }).length });
    return Promise.race([promise, this.#done.promise.then(() => [])]);
  }

  say(message: ToHost): void {
    if (this.#ssh.stdin.writable) this.#ssh.stdin.write(formatMessage(message));
  }

  /** Ends the conversation, and ssh once the host has let go of its file store. A host that is not reached is not waited for. */
  async end(): Promise<void> {
    this.#ssh.stdin.end();
    if (!this.#isReached) this.#ssh.kill();
    const timer = setTimeout(() => this.#ssh.kill(), END_MS);
    await Promise.race([this.#gone.promise, this.#ssh]);
    clearTimeout(timer);
    this.#ssh.kill(); // the end of the host's process takes a while
    await this.#ssh;
  }

  /** Handles the messages of the host, until it ends. */
  async #listen(): Promise<void> {
    let failure: NarswarmError | undefined;
    let [isNotKept, hasShell] = [false, false];
    try {
      for await (const line of linesOf(this.#ssh.stdout, () => this.#maxLine)) {
        const message = parseFromHost(line);
        if (message?.type === 'failed') failure = failedThere(message);
        else if (message?.type === 'not-kept') isNotKept = true;
        else if (message?.type === 'shell') hasShell = true;
        else if (message !== undefined) this.#take(message);
      }
    } catch (error) {
      failure ??= error instanceof NarswarmError ? error : hostFailed('nonsense', String(error));
      this.#ssh.kill();
    }
    const { exitCode, signal, originalMessage, code } = await this.#ssh;
    const words = this.#words.at(-1) ?? originalMessage ?? `ssh ended with ${signal ?? `status ${exitCode}`}`;
    if (code === 'ENOENT') failure ??= hostFailed('no-ssh', 'there is no ssh in PATH on this machine');
    else if (isNotKept) failure ??= hostFailed('not-kept', `it cannot keep a copy of this program (${words})`);
    else {
      const kind = this.#isReached ? 'lost' : hasShell ? 'narswarm' : 'ssh';
      failure ??= hostFailed(kind, words.replace(/^error: /, ''), { exitStatus: exitCode });
    }
    this.#hello.reject(failure);
    this.#ready.reject(failure);
    this.#done.reject(failure);
  }

  /** Limit on a line: a host that lacks all paths of all open questions may say so. */
  get #maxLine(): number {
    return this.#questions.reduce((sum, { length }) => sum + length, MAX_LINE);
  }

  /** Reads stderr, where ssh and the remote shell write. */
  async #hear(): Promise<void> {
    for await (const text of linesOf(this.#ssh.stderr)) {
      const line = text.trim();
      const [, port] = /^Allocated port (\d+) for remote forward/.exec(line) ?? [];
      if (port !== undefined) {
        this.#tunnelPort = Number(port);
        if (this.#hasBegun) this.say({ type: 'tunnel', port: this.#tunnelPort });
      } else if (line !== '' && !NO_REASON.test(line)) {
        this.#words.push(line);
        if (this.#words.length > WORDS) this.#words.shift();
      }
    }
  }

  /** Sends the program, once: each copy that a host asks for would wait in the memory. */
  async #sendProgram({ archive }: Program): Promise<void> {
    if (this.#wasSent) return;
    this.#wasSent = true;
    const bytes = await archive();
    this.#ssh.stdin.write(`${bytes.length}\n`);
    this.#ssh.stdin.write(bytes);
  }

  /** Passes on each warning of the host once, and not more of them than a person reads. */
  #warn(text: string): void {
    if (this.#warnings.has(text) || this.#warnings.size > MOST_WARNINGS) return;
    this.#warnings.add(text);
    const isLast = this.#warnings.size > MOST_WARNINGS;
    this.#options.onWarning(isLast ? 'it warns of more, which is left out here' : text);
  }

  #take(message: Exclude<FromHost, { type: 'failed' | 'not-kept' | 'shell' }>): void {
    const { program, onProgress } = this.#options;
    if (message.type === 'send-program') void this.#sendProgram(program);
    else if (message.type === 'no-node') throw withoutNode(message.node, this.#words.at(-1));
    else if (message.type === 'hello') {
      if (message.protocol !== PROTOCOL)
        throw hostFailed('other-build', `its narswarm ${message.version} is another build`);
      this.#isReached = true;
      this.#hello.resolve(message.machine);
    } else if (message.type === 'ready') {
      const { address: host, port } = message;
      this.#ready.resolve(isIP(host) === 0 || port === 0 ? undefined : { host, port });
    } else if (message.type === 'lacking') this.#questions.shift()?.answer(message.paths.map(parseStorePath));
    else if (message.type === 'progress') {
      if (performance.now() - this.#progressAtMs < PROGRESS_MS) return;
      this.#progressAtMs = performance.now();
      onProgress(message);
    } else if (message.type === 'warning') this.#warn(message.text);
    else if (message.type === 'gone') this.#gone.resolve();
    else this.#done.resolve(message);
  }
}

/** @param words the last words of the narswarm there, if there is one */
function withoutNode(node: string, words: string | undefined): NarswarmError {
  const found = node === '' ? 'no Node' : `Node ${node}`;
  const said = words === undefined ? '' : `; it says: ${words}`;
  return hostFailed(
    'no-program',
    `it has neither this version of narswarm nor Node 24 to run a copy with (${found})${said}`,
  );
}

/** Makes the failure of a host. */
export function hostFailed(
  kind: HostFailure,
  message: string,
  facts: Omit<FactsOf<'HOST_FAILED'>, 'kind'> = {},
): NarswarmError<'HOST_FAILED'> {
  return new NarswarmError('HOST_FAILED', message, { facts: { ...facts, kind } });
}

/** Makes the failure that the narswarm of a host has told. A later version may have other codes. */
function failedThere({ code, message }: Extract<FromHost, { type: 'failed' }>): NarswarmError {
  const exitStatus = isErrorCode(code) ? new NarswarmError(code, message).exitStatus : undefined;
  return hostFailed('narswarm', message, { hostCode: code, exitStatus });
}

function startSsh(options: HostOptions) {
  return execa('ssh', sshArguments(options), {
    stdin: 'pipe',
    stdout: 'pipe',
    stderr: 'pipe',
    buffer: false,
    reject: false,
  });
}

/** The user's options come first, since ssh takes the first value of each. */
function sshArguments({ name, sshOptions, mayAsk, program, args, begin, listens }: HostOptions): string[] {
  return [
    ...sshOptions,
    '-T',
    ...['ConnectTimeout=15', 'ServerAliveInterval=5', 'ServerAliveCountMax=3', 'ExitOnForwardFailure=no'].flatMap(
      (option) => ['-o', option],
    ),
    ...(mayAsk ? [] : ['-o', 'BatchMode=yes']),
    '-R',
    `127.0.0.1:0:${formatEndpoint({ host: listens, port: begin.port })}`,
    name.replace(/^ssh-ng:/, 'ssh:'),
    remoteCommand(program, args),
  ];
}
