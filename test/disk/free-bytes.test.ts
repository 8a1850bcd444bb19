import assert from 'node:assert/strict';
import { tmpdir } from 'node:os';
import { test } from 'node:test';
import { freeBytesAt } from '../../src/disk/free-bytes.ts';
import { assertRoom, roomAt } from '../../src/suitcase/room.ts';

test('free bytes are known for a disk', async () => {
  assert.ok(Number(await freeBytesAt(tmpdir())) > 0);
});

test('a file system that says nothing about its size counts as one with room', async () => {
  assert.equal(await freeBytesAt('/proc'), undefined); // as some behind FUSE, or on a server, it has no blocks
  assertRoom(1e12, await roomAt('/proc'), { dir: '/proc', role: 'store' });
});

test('free bytes of a folder that is not there are an error of the system', async () => {
  await assert.rejects(freeBytesAt('/absent/folder'), { code: 'ENOENT' });
});
