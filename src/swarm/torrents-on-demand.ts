import type WebTorrent from 'webtorrent';
import { NarswarmError } from '../errors.ts';
import { OpenTorrents, type OpenTorrentsOptions } from './open-torrents.ts';

/**
 * The torrents of this process. Loads WebTorrent for the first one: that takes a tenth of a second of processor time,
 * and members need no torrents.
 */
export class TorrentsOnDemand implements AsyncDisposable {
  readonly #port: () => number;
  readonly #options: OpenTorrentsOptions;
  #loading: Promise<OpenTorrents> | undefined;
  #loaded: { readonly client: WebTorrent; readonly torrents: OpenTorrents } | undefined;
  #isClosed = false;

  /** @param port returns the TCP port at which others reach us, once it is known */
  constructor(port: () => number, options: OpenTorrentsOptions) {
    this.#port = port;
    this.#options = options;
  }

  /** The torrents. Undefined until WebTorrent is loaded: then none is open. */
  get now(): OpenTorrents | undefined {
    return this.#loaded?.torrents;
  }

  /** Returns the torrents; loads WebTorrent if necessary. @throws PEERS_FAILED after the end */
  async load(): Promise<OpenTorrents> {
    if (this.#isClosed) throw closed();
    this.#loading ??= this.#load();
    try {
      return await this.#loading;
    } catch (error) {
      this.#loading = undefined; // the next torrent tries again
      throw error;
    }
  }

  async #load(): Promise<OpenTorrents> {
    const { quietClient } = await import('./webtorrent-client.ts');
    if (this.#isClosed) throw closed();
    const client = quietClient(this.#port(), (error) => this.#options.onWarning?.({ kind: 'failed', error }));
    const torrents = new OpenTorrents(client, this.#options);
    this.#loaded = { client, torrents };
    return torrents;
  }

  /** Closes every torrent. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    const client = this.#loaded?.client;
    if (client !== undefined) await new Promise<void>((resolve) => client.destroy(() => resolve()));
  }
}

function closed(): NarswarmError {
  return new NarswarmError('PEERS_FAILED', 'no more torrents can be opened: the swarm is closed');
}
