/**
 * Keeps one Nix process running for many queries about a store: `nix-store --serve`, the protocol of `ssh://` stores
 * (Nix: src/libstore/serve-protocol.hh). Starting Nix takes 20 ms, a query takes 1 ms.
 */
import type { StorePath } from '../brands.ts';
import { asNarHash } from '../hash.ts';
import type { StoreCallOptions } from './run-nix.ts';
import type { PathInfo } from '../path-info.ts';
import { greet, startServe, type ServeProcess } from './serve-process.ts';
import { baseNameOf, parseStorePath } from '../store-path.ts';
import { encodeNumber, encodeStrings, WireReader } from './wire-format.ts';

const QUERY_VALID_PATHS = 1;
const QUERY_PATH_INFOS = 2;

/** Queries about one store. Answers come in the order of the queries. */
export class StoreSession implements AsyncDisposable {
  readonly #process: ServeProcess;
  readonly #reader: WireReader;
  /** Settles when the last query is answered. */
  #last: Promise<unknown>;

  private constructor(process: ServeProcess) {
    this.#process = process;
    this.#reader = new WireReader(process.stdout);
    this.#last = greet(process, this.#reader);
    this.#last.catch(() => undefined); // the first query fails with the same error
  }

  /**
   * Starts Nix without waiting for it. If Nix cannot answer, the first query throws.
   *
   * @param options.store a store URI. Undefined: Nix's default store. Nix creates a local store that does not exist.
   */
  static open(options: StoreCallOptions): StoreSession {
    return new StoreSession(startServe(options));
  }

  /**
   * Returns the paths that the store holds, among those given.
   *
   * @throws NarswarmError `NIX_FAILED`, also if Nix is not installed; the signal's reason
   */
  queryValidPaths(paths: readonly StorePath[]): Promise<Set<StorePath>> {
    const neitherLocksNorSubstitutes = [encodeNumber(0), encodeNumber(0)];
    return this.#ask(QUERY_VALID_PATHS, [...neitherLocksNorSubstitutes, encodeStrings(paths)], async (reader) => {
      return new Set((await reader.strings()).map(parseStorePath));
    });
  }

  /** Returns the path infos of those paths that the store holds. Throws as {@link queryValidPaths}. */
  queryPathInfos(paths: readonly StorePath[]): Promise<PathInfo[]> {
    return this.#ask(QUERY_PATH_INFOS, [encodeStrings(paths)], async (reader) => {
      const infos: PathInfo[] = [];
      for (let path = await reader.string(); path !== ''; path = await reader.string()) {
        infos.push(await readPathInfo(path, reader));
      }
      return infos;
    });
  }

  /** Ends Nix. Unanswered queries fail. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#process.end();
  }

  async #ask<T>(command: number, body: readonly Buffer[], read: (reader: WireReader) => Promise<T>): Promise<T> {
    const before = this.#last;
    const answer = before.then(() => {
      this.#process.stdin.write(Buffer.concat([encodeNumber(command), ...body]));
      return read(this.#reader);
    });
    this.#last = answer;
    return answer.catch(async (error: unknown) => Promise.reject(await this.#process.failure(error)));
  }
}

async function readPathInfo(path: string, reader: WireReader): Promise<PathInfo> {
  const storePath = parseStorePath(path);
  const deriver = await reader.string();
  const references = (await reader.strings()).map((reference) => baseNameOf(parseStorePath(reference)));
  await reader.number(); // download size
  const narSize = await reader.number();
  const narHash = asNarHash(await reader.string());
  const ca = await reader.string();
  const signatures = await reader.strings();
  return {
    storePath,
    narHash,
    narSize,
    references,
    ...(deriver === '' ? {} : { deriver: baseNameOf(parseStorePath(deriver)) }),
    signatures,
    ...(ca === '' ? {} : { ca }),
  };
}
