import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { inState } from '../store/state-folder.ts';
import { makeFolderBelow } from '../disk/make-folder.ts';
import { isNarswarmError, NarswarmError } from '../errors.ts';
import type { HttpClient, Validators } from '../http/client.ts';
import { redactUrl } from '../redact.ts';
import type { StorePath } from '../nix/brands.ts';
import type { FileStore } from '../store/file-store.ts';
import { storeError } from '../disk/store-error.ts';
import { readPathList } from './path-list.ts';

/** The longest list as it is sent, in bytes. */
const MAX_SENT_BYTES = 64 * 1024 * 1024;

/** A list that was fetched before: one file with a line of JSON, then the body as it was sent. */
interface KeptList {
  readonly validators: Validators;
  /** When it was fetched, ISO 8601. */
  readonly at: string;
  readonly bytes: Uint8Array;
}

export interface FetchListContext {
  readonly http: Pick<HttpClient, 'getIfChanged'>;
  /** Lists are kept in its state folder, and are of paths in its store directory. */
  readonly files: Pick<FileStore, 'stateDir' | 'storeDir' | 'replace'>;
  readonly signal?: AbortSignal | undefined;
}

/** The paths of a list, and what to know of where they came from. */
export interface FetchedList {
  readonly paths: readonly StorePath[];
  readonly notes: readonly string[];
}

/**
 * Fetches a list of store paths, unless the one that was kept from the last time is still the same. A sound list is
 * kept; where the server cannot be reached or is out of order, the kept one is used, with a note.
 *
 * @throws HTTP_NOT_FOUND where the server does not have it (any more); HTTP_FAILED, HTTP_STALLED, HTTP_TRUNCATED where
 *   none is kept; USAGE as {@link readPathList}; STORE_FULL, STORE_UNWRITABLE; the signal's reason
 */
export async function fetchList(url: string, context: FetchListContext): Promise<FetchedList> {
  const { http, files, signal } = context;
  const name = redactUrl(url);
  const file = join(inState(files, 'lists'), createHash('sha256').update(url).digest('hex').slice(0, 32));
  const kept = await readKept(file);
  const request = {
    maxBytes: MAX_SENT_BYTES,
    validators: kept?.validators,
    ...(signal === undefined ? {} : { signal }),
  };
  const answer = await http.getIfChanged(url, request).catch((error: unknown) => {
    const isOutOfOrder = isNarswarmError(error, 'HTTP_FAILED', 'HTTP_STALLED', 'HTTP_TRUNCATED');
    if (isOutOfOrder && kept !== undefined) return { kind: 'failed', reason: error.message } as const;
    throw error;
  });
  if (kept !== undefined && (answer.kind === 'unchanged' || answer.kind === 'failed')) {
    const notes = answer.kind === 'failed' ? [`${answer.reason}: the list of ${kept.at} is used`] : [];
    return { paths: await readPathList(kept.bytes, name, { storeDir: files.storeDir, signal }), notes };
  }
  if (answer.kind !== 'changed') {
    throw new NarswarmError('HTTP_NOT_FOUND', `the server does not have the list ${name}: check its address`, {
      facts: { url: name },
    });
  }
  const paths = await readPathList(answer.bytes, name, { storeDir: files.storeDir, signal });
  await keep(file, { validators: answer.validators, at: new Date().toISOString(), bytes: answer.bytes }, files);
  return { paths, notes: [] };
}

/** A file that is damaged counts as none. */
async function readKept(file: string): Promise<KeptList | undefined> {
  const content = await readFile(file).catch(() => undefined);
  const end = content?.indexOf('\n') ?? -1;
  if (content === undefined || end < 0) return undefined;
  try {
    const { validators, at, sha256 } = JSON.parse(content.subarray(0, end).toString()) as Partial<KeptHeader>;
    const bytes = content.subarray(end + 1);
    if (validators === undefined || at === undefined || sha256 !== sha256Of(bytes)) return undefined;
    return { validators, at, bytes };
  } catch {
    return undefined;
  }
}

interface KeptHeader extends Omit<KeptList, 'bytes'> {
  /** Of the body, in hex: a power cut may leave less of it. */
  readonly sha256: string;
}

async function keep(file: string, { bytes, ...list }: KeptList, files: FetchListContext['files']): Promise<void> {
  const folder = inState(files, 'lists');
  await makeFolderBelow(dirname(files.stateDir), folder).catch((error: unknown) => {
    throw storeError(error, folder);
  });
  const header: KeptHeader = { ...list, sha256: sha256Of(bytes) };
  await files.replace(file, Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), bytes]), { mode: 0o600 });
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
