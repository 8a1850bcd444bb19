/** The host's side of a push in this process, with two pipes in the place of ssh. */
import assert from 'node:assert/strict';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterEach, beforeEach, test } from 'node:test';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { endedName, ownName } from '../../src/disk/owner.ts';
import { formatMessage, linesOf, parseFromHost, type FromHost, type ToHost } from '../../src/push/messages.ts';
import { receive } from '../../src/push/receive.ts';
import { readFixture } from '../nix/fixtures.ts';

let dir = '';
beforeEach(() => (dir = mkdtempSync(join(tmpdir(), 'narswarm-receive-'))));
afterEach(() => rmSync(dir, { recursive: true, force: true }));

class Host {
  readonly storeDir = join(dir, 'incoming');
  readonly endedDir = join(dir, 'ended');
  readonly #input = new PassThrough();
  readonly #output = new PassThrough();
  readonly #lines = linesOf(this.#output);
  readonly over = receive({
    input: this.#input,
    output: this.#output,
    version: '1',
    storeDir: this.storeDir,
    endedDir: this.endedDir,
    network: { listen: '127.0.0.1', ports: [0] },
    connection: { own: '127.0.0.1', push: '127.0.0.1' },
    keysOfNix: async () => [],
    assertMayTrust: async () => undefined,
    warningInWords: ({ kind }) => kind,
    errorInWords: ({ message }) => message,
    signal: new AbortController().signal,
  });

  say(message: ToHost): void {
    this.#input.write(formatMessage(message));
  }

  /** Takes what the host says, until it says this. */
  async hears(type: FromHost['type']): Promise<void> {
    for (;;) {
      const { value, done } = await this.#lines.next();
      assert.notEqual(done, true);
      if (parseFromHost(String(value))?.type === type) return;
    }
  }

  begin(): Promise<void> {
    const key = readFixture('fixture-1.public').trim();
    this.say({ type: 'begin', group: 'ab'.repeat(20), key, trusts: false, port: 0 });
    return this.hears('ready');
  }
}

test('what a push writes as soon as the one before has given back its turn is not removed', async () => {
  const host = new Host();
  await host.begin();
  const turns = join(host.storeDir, 'narswarm/receiving');
  assert.equal(readdirSync(turns).length, 1);
  host.say({ type: 'bye' });
  const hasTurn = (): boolean => {
    try {
      return readdirSync(turns).length > 0;
    } catch {
      return false; // the store was moved away
    }
  };
  while (hasTurn()) await nextTurn();
  mkdirSync(turns, { recursive: true });
  writeFileSync(join(turns, 'next'), '');
  await host.hears('gone');
  await host.over;
  assert.ok(existsSync(join(turns, 'next')));
  assert.deepEqual(readdirSync(host.endedDir), []);
});

test('a file store whose removal was interrupted is removed by the next push', async () => {
  const left = join(dir, 'ended', endedName(await ownName()));
  mkdirSync(left, { recursive: true });
  const host = new Host();
  await host.begin();
  assert.equal(existsSync(left), false);
  host.say({ type: 'bye' });
  await host.over;
});

test('what no push says is refused', async () => {
  const host = new Host();
  host.say({ type: 'fetch', records: [] }); // without `begin`
  await assert.rejects(host.over, { code: 'USAGE', message: /is run by narswarm push over ssh/ });
});
