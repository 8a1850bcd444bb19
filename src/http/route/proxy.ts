/** Reads the proxies of the environment as curl, and so Nix, does (curl: man page, "ENVIRONMENT"; lib/noproxy.c). */
import { BlockList } from 'node:net';
import { NarswarmError } from '../../errors.ts';
import { ipVersion } from '../../ip-version.ts';

/** The proxies for http and https addresses. */
export interface Proxies {
  readonly http: string | undefined;
  readonly https: string | undefined;
  /** Returns true if a server is asked without a proxy. */
  readonly passesBy: (url: URL) => boolean;
}

/**
 * Reads `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`. The last three may be in upper case. HTTP_PROXY is
 * ignored, since strangers can set it in the CGI programs of a web server. An address without a scheme means an HTTP
 * proxy. `no_proxy` lists names (which include the names below them), addresses, and blocks of addresses
 * (`10.0.0.0/8`).
 *
 * @returns undefined if there is no proxy
 * @throws NarswarmError HTTP_FAILED if an address is malformed or not that of an HTTP or SOCKS5 proxy
 */
export function proxiesOf(environment: NodeJS.ProcessEnv): Proxies | undefined {
  const either = (name: string): string | undefined =>
    environment[name] || environment[name.toUpperCase()] || undefined;
  const all = either('all_proxy');
  const http = environment['http_proxy'] || all;
  const https = either('https_proxy') ?? all;
  if (http === undefined && https === undefined) return undefined;
  const exceptions = new Exceptions(either('no_proxy') ?? '');
  return { http: http && proxyUrl(http), https: https && proxyUrl(https), passesBy: (url) => exceptions.has(url) };
}

function proxyUrl(text: string): string {
  const address = text.includes('://') ? text : `http://${text}`;
  const url = URL.parse(address.replace(/^socks5h:/i, 'socks5:')); // the proxy resolves names with both
  if (url !== null && ['http:', 'https:', 'socks5:', 'socks:'].includes(url.protocol)) return url.href;
  throw new NarswarmError(
    'HTTP_FAILED',
    `the environment names a proxy that is not an HTTP or SOCKS5 address: correct http_proxy, https_proxy or all_proxy`,
  );
}

class Exceptions {
  readonly #hosts: { readonly name: string; readonly port: string | undefined }[] = [];
  readonly #addresses = new BlockList();
  readonly #isAll: boolean;

  constructor(text: string) {
    this.#isAll = text.trim() === '*';
    for (const entry of text.split(/[\s,]+/)) {
      const [address = '', bits] = entry.replace(/^\[(.*)\]$/, '$1').split('/');
      const family = ipVersion(address) === 6 ? 'ipv6' : 'ipv4';
      const prefix = bits === undefined || bits === '' ? (family === 'ipv6' ? 128 : 32) : Number(bits);
      const isBlock = Number.isInteger(prefix) && prefix >= 0 && prefix <= (family === 'ipv6' ? 128 : 32);
      if (ipVersion(address) !== 0 && isBlock) this.#addresses.addSubnet(address, prefix, family);
      const [, name = '', port] = /^(?:\*?\.)?(.*?)(?::(\d+))?\.?$/.exec(entry.toLowerCase()) ?? [];
      if (name !== '') this.#hosts.push({ name, port });
    }
  }

  has({ hostname, port, protocol }: URL): boolean {
    if (this.#isAll) return true;
    const host = hostname.replace(/^\[(.*)\]$|\.$/, '$1').toLowerCase();
    const family = ipVersion(host);
    if (family !== 0 && this.#addresses.check(host, family === 6 ? 'ipv6' : 'ipv4')) return true;
    const ownPort = port || (protocol === 'https:' ? '443' : '80');
    return this.#hosts.some(
      (entry) =>
        (host === entry.name || (family === 0 && host.endsWith(`.${entry.name}`))) &&
        (entry.port === undefined || entry.port === ownPort),
    );
  }
}
