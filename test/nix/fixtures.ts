/**
 * Shared by the tests of this folder: the binary cache and the vectors that the real Nix made (fixtures/nix/make.sh).
 */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { NarswarmError } from '../../src/errors.ts';
import type { ErrorCode } from '../../src/errors.ts';

const FOLDER = new URL('../../fixtures/nix/', import.meta.url);

export const CACHE_DIR = fileURLToPath(new URL('cache', FOLDER));

/** Store hashes of the closure in {@link CACHE_DIR}: `TOP` refers to all three, itself included. */
export const TOP = 'ak1r35k6n7424jh8hk7axrj4l9x6zsrv';
export const LEAF = '2s4q97y13dynyhi482033jrx8vka36yx';
export const NOTE = '9jihmq900cf6v15sw8xn1cjxig8wccjw';

export function readFixture(name: string): string {
  return readFileSync(new URL(name, FOLDER), 'utf8');
}

export function readNarInfo(storeHash: string): string {
  return readFixture(`cache/${storeHash}.narinfo`);
}

/** For assert.throws and assert.rejects: a NarswarmError with this code whose message matches. */
export function failsWith(code: ErrorCode, message: RegExp = /./): (error: unknown) => boolean {
  return (error) => error instanceof NarswarmError && error.code === code && message.test(error.message);
}
