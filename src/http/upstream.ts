/** Binary caches as Nix's substituters, and the addresses of their files: pure. */

import { join, resolve, sep } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { NarswarmError } from '../errors.ts';
import { isSafeNarUrl } from '../nix/narinfo.ts';
import { quote } from '../nix/quote.ts';
import { redactUrl, shownAddress, withoutPasswords } from '../redact.ts';

export interface Upstream {
  /** The URL without a trailing slash, query and fragment, but with its credentials. Redact it before you show it. */
  readonly url: string;
  /** The URL without user and password, for people. */
  readonly name: string;
  /** The priority from `?priority=`. Lower is asked first. Undefined: the cache's nix-cache-info decides. */
  readonly priority: number | undefined;
  /** True if its paths need no signature, as with Nix's `?trusted=1`. */
  readonly isTrusted: boolean;
  /** True for a folder, on this machine or mounted. */
  readonly isLocal: boolean;
  /** True if nobody has configured it: it was found on the network. */
  readonly isAnnounced: boolean;
  /** Address of its `nix-cache-info`. */
  readonly infoUrl: string;
  narInfoUrl(storeHash: string): string;
  /**
   * Resolves the `URL:` field of a narinfo. On a server it may lead anywhere over http and https. In a folder it may
   * lead only to files inside, and on an announced cache only to files below it.
   *
   * @throws NARINFO_INVALID for any other URL
   */
  narUrl(reference: string): string;
}

/**
 * Reads the address of a substituter: http, https, file, or the path of a folder. Of the parameters after the `?`, only
 * `priority` and `trusted` are read.
 *
 * @throws USAGE for anything else
 */
export function parseUpstream(text: string): Upstream {
  const trimmed = text.trim();
  const isPath = /^(?:\/|\.{1,2}(?:\/|$))/.test(trimmed);
  const parsed = isPath ? pathToFileURL(resolve(trimmed)) : URL.parse(trimmed);
  if (parsed === null || !/^(?:https?|file):$/.test(parsed.protocol) || (parsed.protocol === 'file:' && parsed.host)) {
    throw refuse(trimmed);
  }
  const parameters = parsed.searchParams;
  const priority = /^-?\d{1,9}$/.test(parameters.get('priority') ?? '')
    ? Number(parameters.get('priority'))
    : undefined;
  const isTrusted = ['1', 'true', 'yes'].includes(parameters.get('trusted') ?? '');
  parsed.search = '';
  parsed.hash = '';
  const url = parsed.href.replace(/\/+$/, '');
  const isLocal = parsed.protocol === 'file:';
  return {
    url,
    name: redactUrl(url).replace(/\/+$/, ''),
    priority,
    isTrusted,
    isLocal,
    isAnnounced: false,
    infoUrl: `${url}/nix-cache-info`,
    narInfoUrl: (storeHash) => `${url}/${storeHash}.narinfo`,
    narUrl: isLocal ? (reference) => inFolder(reference, url) : (reference) => onServer(reference, url),
  };
}

/**
 * Lists each cache once, at its first place. Of repeated ones, the lowest priority applies, and it is trusted if any of
 * them is.
 *
 * @param options.areTrusted true if no path of any cache needs a signature (`require-sigs = false`)
 */
export function uniqueUpstreams(
  upstreams: readonly Upstream[],
  { areTrusted = false }: { areTrusted?: boolean } = {},
): Upstream[] {
  const unique = new Map<string, Upstream>();
  for (const upstream of upstreams) {
    const known = unique.get(upstream.url);
    const priorities = [known?.priority, upstream.priority].filter((priority) => priority !== undefined);
    unique.set(upstream.url, {
      ...upstream,
      priority: priorities.length === 0 ? undefined : Math.min(...priorities),
      isTrusted: areTrusted || upstream.isTrusted || known?.isTrusted === true,
    });
  }
  return [...unique.values()];
}

function onServer(reference: string, base: string): string {
  // A colon in the first segment marks a scheme for a URL parser, but is part of a name for Nix.
  const isAbsolute = /^[a-z][a-z0-9+.-]*:\/\//i.test(reference);
  const relative = reference.startsWith('/') ? reference : `./${reference}`;
  const target = URL.parse(isAbsolute ? reference : relative, `${base}/`);
  if (target !== null && /^https?:$/.test(target.protocol)) return target.href;
  throw new NarswarmError(
    'NARINFO_INVALID',
    `URL ${quote(withoutPasswords(reference))} of a narinfo of ${redactUrl(base)} is not an http or https address`,
    { facts: { url: withoutPasswords(reference) } },
  );
}

/** Resolves a reference in a folder. It is the literal name of a file, without escapes. */
function inFolder(reference: string, base: string): string {
  const folder = fileURLToPath(base);
  const file = join(folder, reference);
  const isInside = file.startsWith(folder.endsWith(sep) ? folder : folder + sep);
  if (isInside && !/^[a-z][a-z0-9+.-]*:\/\//i.test(reference) && !reference.includes('\0'))
    return pathToFileURL(file).href;
  throw new NarswarmError('NARINFO_INVALID', `URL ${quote(reference)} of a narinfo is not in ${folder}`, {
    facts: { url: withoutPasswords(reference) },
  });
}

const WAYS_OUT: Readonly<Record<string, string>> = {
  's3:': 'give the http(s) address of the bucket, or put a cache in front of it',
  'ssh:': 'fetch from there with nix copy, or serve that store over HTTP',
  'ssh-ng:': 'fetch from there with nix copy, or serve that store over HTTP',
};

function refuse(text: string): NarswarmError {
  const scheme = /^[a-z][a-z0-9+.-]*:/i.exec(text)?.[0].toLowerCase() ?? '';
  const shown = shownAddress(text);
  const isStore = /^(?:local|daemon|auto|unix|dummy)(?:$|[?:])/.test(text);
  const wayOut =
    WAYS_OUT[scheme] ??
    (isStore
      ? 'share the paths of a Nix store of this machine with narswarm add'
      : 'give the http:// or https:// address of a binary cache, or the folder that is one');
  return new NarswarmError('USAGE', `${shown} is not an upstream: ${wayOut}`, { facts: { upstream: shown } });
}

/** Returns the same cache as one that nobody has configured: its narinfos may not lead anywhere else. */
export function asAnnounced(upstream: Upstream): Upstream {
  const narUrl = (reference: string): string => {
    if (isSafeNarUrl(reference)) return upstream.narUrl(reference);
    const url = withoutPasswords(reference);
    throw new NarswarmError('NARINFO_INVALID', `URL ${quote(url)} of a narinfo is not below ${upstream.name}`, {
      facts: { url },
    });
  };
  return { ...upstream, isTrusted: false, isAnnounced: true, narUrl };
}

/** Returns the same cache, trusted: its paths need no signature. */
export function asTrusted(upstream: Upstream): Upstream {
  return { ...upstream, isTrusted: true };
}
