import assert from 'node:assert/strict';
import { once } from 'node:events';
import { get } from 'node:http';
import { test } from 'node:test';
import { Given } from '../../src/substituter/given.ts';
import { Lab } from '../support/lab.ts';
import { narUrl, scene } from './scene.ts';

test('bytes to this machine and to others are counted apart, and no more than their bodies', () => {
  const given = new Given();
  const socket = { bytesWritten: 1_000 };
  const end = given.begin(socket, 500, { isLocal: true });
  socket.bytesWritten += 200;
  assert.deepEqual(given.bytes, { toNix: 200, toOthers: 0 }, 'on its way');
  socket.bytesWritten += 400;
  end();
  const endOther = given.begin(socket, 300, { isLocal: false });
  socket.bytesWritten += 100;
  endOther();
  endOther();
  socket.bytesWritten += 100;
  assert.deepEqual(given.bytes, { toNix: 500, toOthers: 100 });
});

test('a substituter counts the NARs that it gives: whole, in part, or broken off', async () => {
  await using lab = await Lab.open();
  const made = await scene(lab, { leafBytes: 4_000_000 });
  const { given } = made.substituter;
  const url = narUrl(made, made.leaf);
  const bytes = (await (await fetch(url)).arrayBuffer()).byteLength;
  assert.deepEqual(given.bytes, { toNix: bytes, toOthers: 0 });

  await fetch(url, { method: 'HEAD' });
  await fetch(`${made.url}/nar/${'0'.repeat(52)}.nar.xz`);
  assert.equal(given.bytes.toNix, bytes, 'no NAR was given');

  await (await fetch(url, { headers: { range: 'bytes=0-99' } })).arrayBuffer();
  assert.equal(given.bytes.toNix, bytes + 100);

  const [answer] = await once(get(url), 'response');
  await once(answer, 'readable');
  answer.destroy();
  assert.ok(given.bytes.toNix > bytes + 100);
  assert.ok(given.bytes.toNix <= 2 * bytes + 100);
});
