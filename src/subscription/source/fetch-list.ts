import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { inState } from '../../store/state-folder.ts';
import { makeFolderBelow } from '../../disk/make-folder.ts';
import { isNarswarmError, NarswarmError } from '../../errors.ts';
import type { HttpClient, Validators } from '../../http/client.ts';
import { redactUrl } from '../../redact.ts';
import type { StorePath } from '../../nix/brands.ts';
import type { FileStore } from '../../store/file-store.ts';
import { inStore } from '../../disk/store-error.ts';
import { failureOf } from '../../failure.ts';
import type { Note } from '../state/note.ts';
import { readPathList } from './path-list.ts';
import { replaceFile } from '../../disk/replace.ts';

/** Limit on the size of a list as sent, in bytes. */
const MAX_SENT_BYTES = 64 * 1024 * 1024;

/** A list that was fetched before: a file with a line of JSON, followed by the body as sent. */
interface KeptList {
  readonly validators: Validators;
  /** Time of the fetch, ISO 8601. */
  readonly at: string;
  readonly bytes: Uint8Array;
}

export interface FetchListContext {
  readonly http: Pick<HttpClient, 'getIfChanged'>;
  /** The store whose state folder keeps lists. All paths of a list must be in its store directory. */
  readonly files: Pick<FileStore, 'stateDir' | 'storeDir'>;
  readonly signal?: AbortSignal | undefined;
}

/** The paths of a list, with notes about their origin. */
export interface FetchedList {
  readonly paths: readonly StorePath[];
  readonly notes: readonly Note[];
}

/**
 * Fetches a list of store paths, unless the kept one is still current. Keeps a valid list. If the server cannot be
 * reached or fails, uses the kept list, with a note.
 *
 * @throws HTTP_NOT_FOUND if the server does not have the list; HTTP_FAILED, HTTP_STALLED, HTTP_TRUNCATED
 *   if none is kept; USAGE as {@link readPathList}; STORE_FULL, STORE_UNWRITABLE; the signal's reason
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
    if (isOutOfOrder && kept !== undefined) return { kind: 'failed', failure: failureOf(error) } as const;
    throw error;
  });
  if (kept !== undefined && (answer.kind === 'unchanged' || answer.kind === 'failed')) {
    const notes: Note[] = answer.kind === 'failed' ? [{ kind: 'kept-list', failure: answer.failure, at: kept.at }] : [];
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

/** Reads a kept list. A damaged file counts as absent. */
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
  /** SHA-256 of the body in hex: after a power cut the file may be shorter. */
  readonly sha256: string;
}

async function keep(file: string, { bytes, ...list }: KeptList, files: FetchListContext['files']): Promise<void> {
  const folder = inState(files, 'lists');
  await inStore(makeFolderBelow(dirname(files.stateDir), folder), folder);
  const header: KeptHeader = { ...list, sha256: sha256Of(bytes) };
  await replaceFile(file, Buffer.concat([Buffer.from(`${JSON.stringify(header)}\n`), bytes]), { mode: 0o600 });
}

function sha256Of(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}
