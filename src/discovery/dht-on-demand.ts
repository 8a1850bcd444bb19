import { listenAtFirst } from '../wire/ports.ts';
import type { DhtNode, DhtOptions } from './dht.ts';

export interface DhtOnDemandOptions extends Omit<DhtOptions, 'port'> {
  /** UDP ports. The first free one is used; 0 is any. Default: any. */
  readonly ports?: readonly number[];
}

/** A DHT node that is loaded and opened on first use: a process without look-ups has no socket for it. */
export class DhtOnDemand implements AsyncDisposable {
  readonly #options: DhtOnDemandOptions | undefined;
  #opening: Promise<DhtNode> | undefined;
  #node: DhtNode | undefined;
  #isClosed = false;

  /** @param options undefined: no node is ever opened */
  constructor(options: DhtOnDemandOptions | undefined) {
    this.#options = options;
  }

  /** The node. Undefined until it is open. */
  get node(): DhtNode | undefined {
    return this.#node;
  }

  /**
   * Returns the node; opens it if necessary. Undefined if there is none, or after {@link close}. @throws LISTEN_FAILED
   */
  async open(): Promise<DhtNode | undefined> {
    if (this.#options === undefined || this.#isClosed) return undefined;
    const { ports = [0], ...options } = this.#options;
    this.#opening ??= listen(options, ports);
    try {
      this.#node = await this.#opening;
      return this.#node;
    } catch (error) {
      this.#opening = undefined; // the port may be free next time
      throw error;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    await (await this.#opening?.catch(() => undefined))?.close();
  }
}

async function listen(options: Omit<DhtOptions, 'port'>, ports: readonly number[]): Promise<DhtNode> {
  const { DhtNode } = await import('./dht.ts');
  return listenAtFirst(ports, (port) => DhtNode.listen({ ...options, port }));
}
