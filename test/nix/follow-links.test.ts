import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative } from 'node:path';
import { after, test } from 'node:test';
import { followToStore } from '../../src/nix/follow-links.ts';
import { failsWith } from './fixtures.ts';

const PATH = '/nix/store/d71rfqmrpl3s0hqyvmiykw1yg2ymgnjw-a';
const FOLDER = mkdtempSync(join(tmpdir(), 'narswarm-links-'));
after(() => rmSync(FOLDER, { recursive: true }));
const link = (name: string, target: string): string => {
  symlinkSync(target, join(FOLDER, name));
  return join(FOLDER, name);
};

test('accepts a store path, and a path below one', async () => {
  for (const text of [PATH, `${PATH}/`, `${PATH}/bin/a`, '/nix/store/../store/d71rfqmrpl3s0hqyvmiykw1yg2ymgnjw-a'])
    assert.equal(await followToStore(text), PATH);
});

test('follows links into the store, even if it is not on this disk', async () => {
  const direct = link('result', `${PATH}/bin`);
  assert.equal(await followToStore(direct), PATH);
  assert.equal(await followToStore(relative(process.cwd(), direct)), PATH);
  link('profile-1', PATH);
  assert.equal(await followToStore(link('profile', 'profile-1')), PATH);
});

test('follows a link among the folders of a path', async () => {
  const store = join(FOLDER, 'store');
  mkdirSync(join(store, PATH.slice(11)), { recursive: true });
  writeFileSync(join(store, PATH.slice(11), 'file'), '');
  const result = link('out', join(store, PATH.slice(11)));
  assert.equal(await followToStore(join(result, 'file'), store), join(store, PATH.slice(11)));
});

test('names both store directories if a path is in another one', async () => {
  const other = PATH.replace('/nix', '/home/me/.nix');
  for (const text of [other, `${other}/bin/x`, link('theirs', other)])
    await assert.rejects(
      followToStore(text),
      failsWith(
        'STORE_PATH_INVALID',
        /store directory \/home\/me\/\.nix\/store, .* uses \/nix\/store: set NIX_STORE_DIR=/,
      ),
    );
  assert.equal(await followToStore(other, '/home/me/.nix/store'), other);
});

test('says where a path leads outside of the store', async () => {
  await assert.rejects(followToStore(link('loop', 'loop')), failsWith('STORE_PATH_INVALID', /loop" is not in \/nix/));
  await assert.rejects(
    followToStore(link('dangling', 'gone')),
    failsWith('NOT_FOUND', /dangling" .*gone does not exist/),
  );
  await assert.rejects(followToStore(FOLDER), failsWith('STORE_PATH_INVALID', /is not in \/nix\/store/));
  await assert.rejects(followToStore('/nix/store'), failsWith('STORE_PATH_INVALID'));
  await assert.rejects(followToStore('/nix/store/.links/x'), failsWith('STORE_PATH_INVALID'));
});
