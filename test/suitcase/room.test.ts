import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isNarswarmError, NarswarmError } from '../../src/errors.ts';
import { fileHashOf } from '../../src/nix/hash.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { diskError } from '../../src/suitcase/disk-error.ts';
import { assertFileSizes, onBlocks, roomAt, type Room } from '../../src/suitcase/room.ts';
import type { SuitcaseNar } from '../../src/suitcase/suitcase-nars.ts';

const ROOM: Room = { freeBytes: 1, blockBytes: 1, device: 1, isVfat: true };
const nar = (sizeBytes: number): SuitcaseNar => ({
  storePath: parseStorePath('/nix/store/00000000000000000000000000000000-large'),
  fileHash: fileHashOf(new Uint8Array(32)),
  sizeBytes,
  name: 'large.nar.xz',
});

test('files take whole blocks', () => {
  assert.equal(onBlocks([], 4096), 0);
  assert.equal(onBlocks([0, 1, 4096, 4097], 4096), 4 * 4096);
});

test('the room of a folder that does not exist yet is that of its disk', async () => {
  const { freeBytes, device } = await roomAt('/tmp/nothing/is/here');
  assert.equal(device, (await roomAt('/tmp')).device);
  assert.ok(Number(freeBytes) > 0);
});

test('vfat takes files below 4 GiB, and the path with a larger one is named with the way out', () => {
  assertFileSizes([nar(2 ** 32 - 1)], ROOM, '/media/usb');
  assertFileSizes([nar(2 ** 40)], { ...ROOM, isVfat: false }, '/media/usb');
  assert.throws(
    () => assertFileSizes([nar(1), nar(2 ** 32)], ROOM, '/media/usb'),
    (error) => {
      assert.ok(isNarswarmError(error, 'STORE_UNWRITABLE'));
      assert.match(error.message, /-large has 4294967296 bytes.*vfat.*format the disk as exFAT or ext4/);
      return true;
    },
  );
});

test('each failure of a disk has its way out', () => {
  for (const [code, kind, says] of [
    ['ENOSPC', 'STORE_FULL', /no room left for \/media\/usb\/x: free some/],
    ['EFBIG', 'STORE_UNWRITABLE', /too large a file for this disk: format one as exFAT or ext4/],
    ['EROFS', 'STORE_UNWRITABLE', /make the disk and the folder writable/],
    ['EIO', 'STORE_UNWRITABLE', /check that the disk is plugged in and mounted/],
    ['ENOTCONN', 'STORE_UNWRITABLE', /check that the disk is plugged in and mounted/],
  ] as const) {
    const cause = Object.assign(new Error(code), { code });
    const error = diskError(cause, '/media/usb/x');
    assert.equal(error.code, kind);
    assert.match(error.message, says);
    assert.match(error.message, /run the same command again to continue/);
    const wrapped = new NarswarmError('STORE_UNWRITABLE', 'choose another --store', {
      cause,
      facts: { path: '/media/usb/x' },
    });
    assert.match(diskError(wrapped, '/media').message, says);
  }
  const refused = Object.assign(new Error('EACCES'), { code: 'EACCES' });
  assert.match(diskError(refused, '/media/usb/x', 'read').message, /^cannot read .* let this user read all files/);
  const own = new NarswarmError('STORE_BUSY', 'wait');
  assert.equal(diskError(own, '/media'), own);
});
