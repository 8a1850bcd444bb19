/** A process that does not run for a while, as on a machine that sleeps or is overloaded. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, test } from 'node:test';
import type { Member } from '../../../src/exchange/member.ts';
import { endSoon, madeFile, startMember } from '../exchange-fixture.ts';

after(endSoon);

test('members are not blamed for silence while this process did not run', { timeout: 180_000 }, async (t) => {
  const file = madeFile(1000);
  await using seeder = await startMember({ files: [file] });
  await using client = await startMember();
  const { promise, resolve } = Promise.withResolvers<void>();
  seeder.offer.gate = promise;
  client.meet(seeder);
  const [member] = (await once(client.members, 'member')) as [Member];
  const askedAtMs = performance.now();
  const asked = member.get({ file: file.file, from: 0, length: 1000 }, () => undefined, t.signal);
  while (seeder.offer.asked.length === 0) await new Promise(setImmediate);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 6_000);
  while (member.isOpen && performance.now() - askedAtMs < 8_000) await new Promise((wake) => setTimeout(wake, 100));
  resolve();
  assert.equal(await asked, 'complete');
});
