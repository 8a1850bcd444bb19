import { listenAtFirst } from '../wire/ports.ts';
import { DhtNode, type DhtOptions } from './dht.ts';

export interface DhtOnDemandOptions extends Omit<DhtOptions, 'port'> {
  /** UDP ports: the first that is free is taken; 0 is any. Default: any. */
  readonly ports?: readonly number[];
}

/** A DHT node that is opened when it is first needed: a process with nothing to look up has no socket for it. */
export class DhtOnDemand implements AsyncDisposable {
  readonly #options: DhtOnDemandOptions | undefined;
  #opening: Promise<DhtNode> | undefined;
  #node: DhtNode | undefined;
  #isClosed = false;

  /** @param options undefined: there is never one */
  constructor(options: DhtOnDemandOptions | undefined) {
    this.#options = options;
  }

  /** The node, once it is open. */
  get node(): DhtNode | undefined {
    return this.#node;
  }

  /** Opens the node, or gives the one that is open. Undefined if there is none, or after the end. @throws LISTEN_FAILED */
  async open(): Promise<DhtNode | undefined> {
    if (this.#options === undefined || this.#isClosed) return undefined;
    const { ports = [0], ...options } = this.#options;
    this.#opening ??= listenAtFirst(ports, (port) => DhtNode.listen({ ...options, port }));
    try {
      this.#node = await this.#opening;
      return this.#node;
    } catch (error) {
      this.#opening = undefined; // the port may be free the next time
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await (await this.#opening?.catch(() => undefined))?.close();
  }
}
