import assert from 'node:assert/strict';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { cacheFolder, ownFolder } from '../../src/config/cache-folder.ts';

const NOBODY = 65_534;
const isRoot = process.getuid?.() === 0;
let dir = '';

before(() => {
  dir = mkdtempSync(join(tmpdir(), 'narswarm-cache-folder-'));
});
after(() => rmSync(dir, { recursive: true }));

test('is the one of systemd, else the one of XDG, else the one of the home', () => {
  const [a, b, home] = ['a', 'b', 'home'].map((name) => join(dir, name));
  assert.equal(cacheFolder({ CACHE_DIRECTORY: `${a}:${b}`, XDG_CACHE_HOME: b, HOME: home }), a);
  assert.equal(cacheFolder({ CACHE_DIRECTORY: '', XDG_CACHE_HOME: b, HOME: home }), b);
  assert.equal(cacheFolder({ XDG_CACHE_HOME: '', HOME: home }), join(home ?? '', '.cache'));
});

test('is made for this user alone', () => {
  const folder = cacheFolder({ HOME: join(dir, 'new') });
  assert.equal(statSync(folder ?? '').mode & 0o777, 0o700);
});

for (const [who, mode] of [
  ['everybody', 0o707],
  ['a group', 0o770],
] as const)
  test(`is not used if ${who} can write to it`, () => {
    const open = join(dir, who);
    mkdirSync(open);
    chmodSync(open, mode);
    assert.equal(cacheFolder({ XDG_CACHE_HOME: open }), undefined);
    assert.equal(ownFolder(open), undefined);
  });

test('has folders of this user alone, whatever the umask is', () => {
  const umask = process.umask(0);
  try {
    const made = join(dir, 'made');
    assert.equal(ownFolder(made), made);
    assert.equal(statSync(made).mode & 0o777, 0o700);
  } finally {
    process.umask(umask);
  }
});

test('of another user is not used, as with sudo', { skip: isRoot ? false : 'needs root' }, () => {
  const home = join(dir, 'nobody');
  mkdirSync(join(home, '.cache'), { recursive: true });
  for (const folder of [home, join(home, '.cache')]) chownSync(folder, NOBODY, NOBODY);
  assert.equal(cacheFolder({ HOME: home }), undefined);
});

test('is none if it cannot be made', () => {
  assert.equal(cacheFolder({ HOME: '/proc/nowhere' }), undefined);
});
