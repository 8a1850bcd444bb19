/** ARCHITECTURE.md names only files and rooms that exist. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ROOT } from './table.ts';

const TEXT = readFileSync(`${ROOT}ARCHITECTURE.md`, 'utf8');
const FILES = readdirSync(ROOT, { recursive: true, encoding: 'utf8' }).filter(
  (path) => !/^(?:node_modules|dist|\.git)(?:\/|$)/.test(path),
);

/** A file may be named with its folder or alone, as in a sentence about its room. */
function isThere(name: string): boolean {
  return FILES.some((path) => path === name || path.endsWith(`/${name}`));
}

test('every file that ARCHITECTURE.md names exists', () => {
  const names = TEXT.matchAll(/[\w./-]*\w\.(?:ts|cjs|json|nix|md|patch)\b/g);
  const unknown = [...names].map(([name]) => name).filter((name) => !isThere(name) && !OTHER_FILES.has(name));
  assert.deepEqual(unknown, []);
});

/** Files of a store or of a build, not of the repository. */
const OTHER_FILES: ReadonlySet<string> = new Set([
  'replicas.json',
  'suitcase.json',
  'narswarm/suitcase.json',
  'dist/package.json',
]);

test('every folder that ARCHITECTURE.md names exists', () => {
  const unknown = [...TEXT.matchAll(/`((?:src|test|nix|fixtures)\/[\w/-]*)\/?`/g)]
    .map(([, name = '']) => name.replace(/\/$/, ''))
    .filter((name) => !FILES.includes(name));
  assert.deepEqual(unknown, []);
});

test('every room and every file beside the rooms is listed', () => {
  const [map = ''] = /^ {4}src\/\n[^]*?\n {4}nix\//m.exec(TEXT) ?? [];
  const rooms = [...map.matchAll(/^ {6}([a-z]+)\/ /gm)].map(([, room]) => room);
  const entries = readdirSync(`${ROOT}src`, { withFileTypes: true });
  const folders = entries.filter((entry) => entry.isDirectory()).map(({ name }) => name);
  assert.deepEqual(new Set(rooms), new Set(folders));
  const files = entries.filter((entry) => entry.isFile()).map(({ name }) => name);
  assert.deepEqual(
    files.filter((name) => !map.includes(name)),
    [],
  );
});

test('every named function and class exists', () => {
  const source = FILES.filter((path) => path.startsWith('src/') && path.endsWith('.ts'))
    .map((path) => readFileSync(ROOT + path, 'utf8'))
    .join('\n');
  const rows = [...TEXT.matchAll(/^\| [^|]+ \| ([^|]+) \|/gm)].map(([, where = '']) => where);
  const names = rows.flatMap((where) => [...where.matchAll(/`([^`]+)`/g)].map(([, name = '']) => name));
  const unknown = names
    .filter((name) => !name.includes('/') && !/\.\w?ts$/.test(name))
    .flatMap((name) => name.split('.'))
    .filter((word) => !new RegExp(`\\b${word}\\b`).test(source));
  assert.deepEqual(unknown, []);
});
