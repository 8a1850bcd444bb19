import { Option, type Command } from 'commander';
import type { Daemon } from '../../daemon/daemon.ts';
import { formatEndpoint, type Endpoint } from '../../discovery/endpoint.ts';
import { isLoopback } from '../../discovery/foreign-addresses.ts';
import { ownHost } from '../../discovery/own-address.ts';
import { firstFailure, isNarswarmError } from '../../errors.ts';
import type { DaemonPort } from '../../daemon/daemon-port.ts';
import type { SubstitutingOptions } from '../../daemon/substituting.ts';
import type { WatchOptions } from '../../daemon/web/watch.ts';
import type { DirectionLimit } from '../../bytes/rate-limit.ts';
import type { PublisherAddress } from '../../index/address.ts';
import type { PublicKey } from '../../nix/signature.ts';
import { isInUse, SUBSTITUTER_PORT } from '../../wire/ports.ts';
import type { OriginOf } from './configuration.ts';
import type { Output } from '../output.ts';
import { readSources, type SourceFlags, type Sources } from './source-options.ts';
import { each, parseAddress, parsePort } from '../words/values.ts';
import { warningsTo } from '../words/warnings.ts';

/** Options of a command that serves Nix, as commander gives them. */
export interface SubstituterFlags {
  readonly substituter: boolean;
  readonly substituterListen?: readonly string[];
  readonly substituterPort?: number;
  readonly substituterName?: readonly string[];
  readonly openStatus?: boolean;
}

const LOOPBACK = ['127.0.0.1', '::1'];
const LOOPBACK_OF: Readonly<Record<string, string>> = { '0.0.0.0': '127.0.0.1', '::': '::1' };

export function addSubstituter(command: Command): Command {
  return command
    .addOption(
      new Option('--no-substituter', 'do not serve the file store to Nix; the status page stays').default(true),
    )
    .addOption(new Option('--substituter', 'serve it, even if the config file says not to'))
    .option(
      '--substituter-listen <address>',
      'address of the HTTP port: Nix, the status page /status, /health and /metrics; machines other than this one get only what is shared; may be repeated (default: 127.0.0.1 and ::1)',
      each(parseAddress),
    )
    .option('--substituter-port <port>', `the HTTP port; 0 picks one (default: ${SUBSTITUTER_PORT})`, parsePort)
    .option(
      '--substituter-name <name>',
      'another name of this machine, under which Nix and browsers may ask the HTTP port; may be repeated',
      each((name) => name),
    )
    .option('--open-status', 'let other machines read /status, /health and /metrics, too');
}

interface SubstituterContext {
  readonly service: Daemon;
  /** Descriptors of sockets that the service manager has opened. */
  readonly passed: readonly number[];
  readonly output: Output;
  readonly originOf: OriginOf;
  readonly signal: AbortSignal;
  /** Returns the publishers that are followed now. */
  readonly publishers: () => Promise<readonly PublisherAddress[]>;
  readonly keys: readonly PublicKey[];
  readonly limit: DirectionLimit | undefined;
  /** Called when fetches for Nix have ended. */
  readonly onEnded: () => void;
  /** Undefined: caches that announce themselves are not looked for. */
  readonly lanCaches: SubstitutingOptions['lanCaches'];
  readonly subscriptions: WatchOptions['subscriptions'];
}

/**
 * Serves the status page, and the daemon's store to Nix unless that is switched off. Undefined if another process has the
 * default port.
 *
 * @throws LISTEN_FAILED for a port that was given
 */
export async function serveHttp(
  flags: SubstituterFlags & SourceFlags,
  { service, output, originOf, signal, subscriptions, passed, ...means }: SubstituterContext,
): Promise<DaemonPort | undefined> {
  const port = flags.substituterPort ?? SUBSTITUTER_PORT;
  const sources = async (): Promise<Sources> => readSources(flags, { output, signal, originOf, seeds: true });
  const { openDaemonPort } = await import('../../daemon/daemon-port.ts');
  const { STATUS_PAGE } = await import('../status-page/page.ts');
  const isDefault = flags.substituterListen === undefined;
  try {
    return await openDaemonPort({
      passed,
      listen: (flags.substituterListen ?? LOOPBACK).map((host) => ({ host, port })),
      // A machine may lack IPv6. The sockets of the service manager are enough.
      isNeedless: ({ host }, failure) => isDefault && (passed.length > 0 || (host === '::1' && !isInUse(failure))),
      names: flags.substituterName,
      substituting: flags.substituter
        ? {
            ...service.means,
            ...means,
            require: flags.require,
            upstreams: async () => (await sources()).upstreams,
            onWarning: warningsTo(output),
          }
        : undefined,
      watch: { store: service.means.store, facts: () => service.facts, subscriptions },
      web: { page: STATUS_PAGE, isOpen: flags.openStatus === true },
    });
  } catch (failure) {
    const error = firstFailure(failure);
    if (flags.substituterPort !== undefined || !isNarswarmError(error, 'LISTEN_FAILED') || !isInUse(error)) throw error;
    output.note(`port ${port} is in use by another process: this daemon serves neither Nix nor a status page`);
    return undefined;
  }
}

/**
 * Returns the URLs of the HTTP port. The first one is for nix.conf of this machine. A port on all addresses has two: that of
 * loopback, and one for other machines.
 */
export function httpUrls(addresses: readonly Endpoint[], networks: Parameters<typeof ownHost>[1]): string[] {
  const urls = addresses.flatMap(({ host, port }) => {
    const loopback = LOOPBACK_OF[host];
    const hosts = loopback === undefined ? [host] : [loopback, ownHost(host, networks)];
    return hosts.map((one) => `http://${formatEndpoint({ host: one, port })}`);
  });
  return [...new Set(urls)];
}

/** Yields a line with the URL for nix.conf of this machine, and one for those of other machines. */
export function* substituterLines([first, ...more]: readonly string[]): Generator<string> {
  if (first !== undefined) yield `for Nix  ${first}`;
  const isForOthers = (url: string): boolean => !isLoopback(new URL(url).hostname.replace(/^\[(.*)\]$/, '$1'));
  for (const url of more.filter(isForOthers)) yield `others   ${url}`;
}
