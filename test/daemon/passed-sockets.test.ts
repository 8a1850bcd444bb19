import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { HttpPort } from '../../src/daemon/http-port.ts';
import { takePassedSockets } from '../../src/daemon/passed-sockets.ts';
import { isNarswarmError } from '../../src/errors.ts';

suite('sockets that a service manager passes', () => {
  test('are the descriptors from 3 on, and no program that this one starts hears of them', () => {
    const env = { LISTEN_FDS: '2', LISTEN_PID: '7', LISTEN_FDNAMES: 'a:b', HOME: '/root' };
    assert.deepEqual(takePassedSockets(env, 7), [3, 4]);
    assert.deepEqual(env, { HOME: '/root' });
    assert.deepEqual(takePassedSockets(env, 7), []);
  });

  test('are left alone if they are for another process, or make no sense', () => {
    for (const [LISTEN_FDS, LISTEN_PID] of [
      ['1', '8'],
      ['1', ''],
      ['-1', '7'],
      ['1e3', '7'],
      ['', '7'],
    ])
      assert.deepEqual(takePassedSockets({ LISTEN_FDS, LISTEN_PID }, 7), []);
  });

  test('are named if they are not open', async () => {
    await assert.rejects(HttpPort.open({ passed: [0x7fff], listen: [], routes: () => undefined }), (error) => {
      assert.ok(isNarswarmError(error, 'LISTEN_FAILED'));
      assert.match(error.message, /descriptor 32767 .*pass TCP sockets that listen/);
      return true;
    });
  });
});
