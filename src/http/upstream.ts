/** A binary cache that Nix could be given as a substituter, and the addresses of what it holds: pure. */

import { NarswarmError } from '../errors.ts';
import { redactUrl } from './failure.ts';

export interface Upstream {
  /** Without a trailing slash, query and fragment; with the credentials it was given. Redact before showing it. */
  readonly url: string;
  /** The same as people may see it, without user and password. */
  readonly name: string;
  narInfoUrl(storeHash: string): string;
  /** Address of a narinfo's `URL:` field. Throws NARINFO_INVALID unless it lies strictly below the cache. */
  narUrl(relative: string): string;
}

/**
 * Path segments of plain characters, none of them `.` or `..`, and at most one query (harmonia has `?hash=`). There is
 * no `%`, `:`, `\` or `//` in it, so neither this client nor a server can read it as leading elsewhere.
 */
const RELATIVE_URL = /^(?:(?!\.{1,2}(?:[/?]|$))[\w.+=~-]+(?:\/(?!$)|(?=\?|$)))+(?:\?[\w.+=~&-]*)?$/;

/**
 * Reads the address of a substituter: http or https; a query such as `?priority=40` is dropped.
 * Throws USAGE for anything else.
 */
export function parseUpstream(text: string): Upstream {
  const parsed = URL.parse(text.trim());
  if (parsed === null || !/^https?:$/.test(parsed.protocol)) {
    throw new NarswarmError('USAGE', `${text} is no upstream: give the http:// or https:// address of a binary cache`, {
      facts: { upstream: text },
    });
  }
  parsed.search = '';
  parsed.hash = '';
  const url = parsed.href.replace(/\/+$/, '');
  return {
    url,
    name: redactUrl(url).replace(/\/+$/, ''),
    narInfoUrl: (storeHash) => `${url}/${storeHash}.narinfo`,
    narUrl: (relative) => `${url}/${checkRelative(relative, url)}`,
  };
}

function checkRelative(relative: string, base: string): string {
  if (RELATIVE_URL.test(relative)) return relative;
  throw new NarswarmError('NARINFO_INVALID', `URL ${relative} of a narinfo does not lie below ${redactUrl(base)}`, {
    facts: { url: relative },
  });
}
