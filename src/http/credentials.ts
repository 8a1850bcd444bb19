/**
 * Chooses the credentials of a request: those of its URL, otherwise those of the netrc file (Nix:
 * src/libstore/filetransfer.cc).
 */

import { createReadStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { text as textOf } from 'node:stream/consumers';
import { findInNetrc, parseNetrc, type NetrcEntry } from './netrc.ts';
import type { Warn } from '../warning.ts';

/** Limit on the netrc file. A longer file is no netrc file, but a device or a log, and is not read further. */
const MAX_NETRC_BYTES = 1024 * 1024;

/** The address of a request, and the address that led there. */
export interface Destination {
  readonly target: URL;
  /**
   * The address that was asked for, which owns the credentials. `target` may be the target of a redirect, or the URL of
   * a NAR that a cache names.
   */
  readonly first: URL;
}

/** Reads the netrc file before the first request that may need it. */
export class Credentials {
  readonly #file: string | undefined;
  readonly #onWarning: Warn;
  #netrc: Promise<{ entries: readonly NetrcEntry[]; failure?: string }> | undefined;

  constructor(file: string | undefined, onWarning: Warn) {
    this.#file = file;
    this.#onWarning = onWarning;
  }

  /**
   * Returns the value of the Authorization header (RFC 7617). Undefined if no credentials apply. The URL's own
   * credentials go only to its origin, those of the netrc file only to their host. After a redirect to another origin,
   * neither `default` nor an entry for the same host applies: another port could disclose the password. If an https
   * address leads to plain http, no credentials apply.
   */
  async headerFor({ target, first }: Destination): Promise<string | undefined> {
    if (isDowngraded({ target, first })) return undefined;
    const isFirst = target.origin === first.origin;
    const own = target.username === '' && target.password === '' && isFirst ? first : target;
    const login = decode(own.username);
    if (own.password !== '') return basic(login, decode(own.password));
    const entry = await this.#find(own.hostname, login, { target, first });
    if (entry !== undefined) return basic(entry.login, entry.password);
    return login === '' ? undefined : basic(login, '');
  }

  /** Returns half a sentence: which credentials a refused request carried, or where credentials are missing. */
  async explain({ target, first }: Destination): Promise<string> {
    if (isDowngraded({ target, first }))
      return 'passwords are not sent to an http address that an https address leads to';
    const own = target.origin === first.origin ? first : target;
    if (own.password !== '') return 'with the user and the password of the URL';
    if (this.#file === undefined) return 'no netrc file was read';
    const { failure } = await this.#read();
    if (failure !== undefined) return `the netrc file ${this.#file} ${failure}`;
    const entry = await this.#find(own.hostname, decode(own.username), { target, first });
    return entry === undefined
      ? `the netrc file ${this.#file} has no password for ${target.hostname}`
      : `with the password of ${target.hostname} in the netrc file ${this.#file}`;
  }

  async #find(host: string, login: string, { target, first }: Destination): Promise<NetrcEntry | undefined> {
    const isFirst = target.origin === first.origin;
    if (!isFirst && target.hostname === first.hostname) return undefined;
    const { entries } = await this.#read();
    return findInNetrc(entries, { host, login: login === '' ? undefined : login, mayDefault: isFirst });
  }

  #read(): Promise<{ entries: readonly NetrcEntry[]; failure?: string }> {
    this.#netrc ??= this.#load();
    return this.#netrc;
  }

  async #load(): Promise<{ entries: readonly NetrcEntry[]; failure?: string }> {
    if (this.#file === undefined) return { entries: [] };
    try {
      await stat(this.#file); // most machines have none, and a stream takes as long as a request
      const text = await textOf(createReadStream(this.#file, { end: MAX_NETRC_BYTES }));
      if (Buffer.byteLength(text) > MAX_NETRC_BYTES) throw new Error(`it has more than ${MAX_NETRC_BYTES} bytes`);
      return { entries: parseNetrc(text) };
    } catch (error) {
      const code = error instanceof Error && 'code' in error ? String(error.code) : '';
      if (code === 'ENOENT' || code === 'ENOTDIR') return { entries: [], failure: 'does not exist' };
      const reason = code === '' && error instanceof Error ? error.message : code;
      this.#onWarning({ kind: 'unreadable-netrc', file: this.#file, reason });
      return { entries: [], failure: `cannot be read (${reason})` };
    }
  }
}

/** Returns true if the request is readable on the way, while the one that led to it was not. */
function isDowngraded({ target, first }: Destination): boolean {
  return first.protocol === 'https:' && target.protocol === 'http:';
}

/** Returns the value of a header (RFC 7617). */
export function basic(login: string, password: string): string {
  return `Basic ${Buffer.from(`${login}:${password}`).toString('base64')}`;
}

/** Decodes escapes. A `%` that does not begin an escape stays as it is. */
export function decode(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
