/**
 * Determines the meaning of a subscription's SOURCE from its text alone. The rules, in this order:
 *
 * 1. With a file (`-f FILE`) it is an attribute path in that file; `.` is the file's own value.
 * 2. `magnet:…`, and an http(s) URL with a key (`xs=` in its query), is a publisher. The text after the first `#` is
 *   the name of a root in its hash map.
 * 3. An http(s) URL without `#` is a list of store paths; with `#` it is a flake in a tarball.
 * 4. A store path, or a path below one, is that store path. A .drv path stands for its outputs, or for those named
 *   after it (`^bin,man`).
 * 5. Anything else with a `#` is an installable, so a flake always has one: `nixpkgs#default`, `.#`.
 * 6. A path that begins with `/`, `./` or `../` is a list or a profile. The file itself decides when it is resolved.
 */
import { resolve } from 'node:path';
import { NarswarmError } from '../../errors.ts';
import {
  formatPublisherAddress,
  mapFolder,
  parsePublisherAddress,
  type PublisherAddress,
} from '../../index/address.ts';
import type { StorePath } from '../../nix/brands.ts';
import { quote } from '../../nix/quote.ts';
import { shownAddress } from '../../redact.ts';
import { splitOutputs } from '../../nix/installable.ts';
import { DEFAULT_STORE_DIR, isDerivationPath, parseStorePath } from '../../nix/store-path.ts';
import type { Subscription } from '../subscription.ts';

export type Source =
  /** A named root of a publisher's hash map; without a root, the whole hash map. */
  | { readonly kind: 'publisher'; readonly address: PublisherAddress; readonly root: string | undefined }
  /** `outputs` applies only to a .drv. Undefined: all of them. */
  | {
      readonly kind: 'store-path';
      readonly path: StorePath;
      readonly outputs?: readonly string[] | undefined;
    }
  /** Address of a list of store paths, one per line. */
  | { readonly kind: 'list'; readonly url: string }
  /** File that lists store paths, or a symlink into the store, such as `/run/current-system`. */
  | { readonly kind: 'path'; readonly path: string }
  | { readonly kind: 'installable'; readonly installable: string }
  | { readonly kind: 'attribute'; readonly file: string; readonly attribute: string };

const FORMS =
  'a source is PUBLISHER#ROOT or PUBLISHER (magnet:?xs=… or https://…?xs=…), a store path, ' +
  'a file or URL that lists store paths (/…, ./… or https://…), a profile such as /run/current-system, ' +
  'an installable such as nixpkgs#hello, or an attribute of a file given with -f';
const ROOT_NAME = /^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$/;
const LOCAL_PATH = /^(?:\/|\.{1,2}(?:\/|$))/;
// oxlint-disable-next-line no-control-regex -- control characters are refused here
const CONTROL_CHARACTER = /[\x00-\x1f\x7f]/;

/**
 * Reads a source by the rules above, after trimming it. {@link formatSource} writes it back.
 *
 * @param options.file Nix file in which the text is an attribute path
 * @throws NarswarmError `USAGE` naming the forms; `ADDRESS_INVALID` for a malformed publisher.
 */
export function parseSource(text: string, options: { file?: string | undefined } = {}): Source {
  const source = text.trim();
  const { file } = options;
  if (source === '') throw refuse(text, 'it is empty');
  if (CONTROL_CHARACTER.test(source)) throw refuse(text, 'it has a control character');
  if (source.startsWith('-')) throw refuse(text, 'it begins with a dash, as options do');
  if (file !== undefined) return { kind: 'attribute', file: checkFile(file), attribute: source };
  if (/^magnet:/i.test(source)) return parsePublisher(source);
  if (/^https?:/i.test(source)) return parseWebSource(source);
  if (source.includes('#')) return { kind: 'installable', installable: source };
  if (source.startsWith('/') && resolve(source).startsWith(`${DEFAULT_STORE_DIR}/`)) return parseStoreSource(source);
  if (LOCAL_PATH.test(source)) return { kind: 'path', path: source };
  throw refuse(text, 'it has neither a # nor a slash or ./ at its start');
}

/** Writes a source as {@link parseSource} reads it. The file of an attribute is not part of the text. */
export function formatSource(source: Source): string {
  switch (source.kind) {
    case 'publisher': {
      const { address, root } = source;
      const label = address.label === undefined ? '' : `&dn=${encodeURIComponent(address.label)}`;
      return `${formatPublisherAddress(address)}${label}${root === undefined ? '' : `#${root}`}`;
    }
    case 'list':
      return source.url;
    case 'installable':
      return source.installable;
    case 'attribute':
      return source.attribute;
    case 'store-path':
      return `${source.path}${source.outputs === undefined ? '' : `^${source.outputs.join(',')}`}`;
    default:
      return source.path;
  }
}

/** Returns the publishers of subscriptions and others, each once. @throws as {@link parseSource} */
export function publishersOf(
  others: readonly PublisherAddress[],
  subscriptions: readonly Pick<Subscription, 'source' | 'file'>[],
): PublisherAddress[] {
  const named = subscriptions.flatMap(({ source, file }) => {
    const parsed = parseSource(source, { file });
    return parsed.kind === 'publisher' ? parsed.address : [];
  });
  return [...new Map([...others, ...named].map((address) => [mapFolder(address), address])).values()];
}

function parsePublisher(source: string): Source {
  const [address, root] = splitAtHash(source);
  if (root !== undefined && !ROOT_NAME.test(root)) {
    throw refuse(source, `${quote(root)} is not the name of a root (a-z A-Z 0-9 . _ -)`);
  }
  return { kind: 'publisher', address: parsePublisherAddress(address), root };
}

function parseWebSource(source: string): Source {
  const url = URL.parse(source);
  if (url === null) throw refuse(source, 'it is not a URL');
  if (url.searchParams.has('xs')) return parsePublisher(source);
  return source.includes('#') ? { kind: 'installable', installable: source } : { kind: 'list', url: source };
}

function checkFile(file: string): string {
  if (file !== '' && !file.startsWith('-') && !CONTROL_CHARACTER.test(file)) return file;
  throw new NarswarmError('USAGE', `${quote(file)} is not a Nix file that -f takes: give its path, or <nixpkgs>`);
}

/** @throws STORE_PATH_INVALID for a path in the store directory, but in no store path */
function parseStoreSource(source: string): Source {
  const { reference, outputs } = splitOutputs(source);
  const [baseName = ''] = resolve(reference)
    .slice(DEFAULT_STORE_DIR.length + 1)
    .split('/', 1);
  const path = parseStorePath(`${DEFAULT_STORE_DIR}/${baseName}`);
  if (outputs === undefined || outputs === 'all') return { kind: 'store-path', path };
  if (isDerivationPath(path)) return { kind: 'store-path', path, outputs };
  throw refuse(source, `${path} is not a .drv file, so it has no outputs`);
}

/** Splits a text at the first `#`. */
function splitAtHash(source: string): [before: string, after: string | undefined] {
  const at = source.indexOf('#');
  return at < 0 ? [source, undefined] : [source.slice(0, at), source.slice(at + 1)];
}

function refuse(text: string, reason: string): NarswarmError {
  return new NarswarmError('USAGE', `${quote(shownAddress(text))} is not a source: ${reason}: ${FORMS}`, {
    facts: { source: shownAddress(text) },
  });
}
