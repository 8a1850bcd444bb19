/** The time for which a member's claim to be fetching a file is believed. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { prefixOf } from '../../../src/exchange/messages/messages.ts';
import { TheirFetches } from '../../../src/exchange/link/their-fetches.ts';
import { WantedFiles } from '../../../src/exchange/link/wanted.ts';
import { madeFile } from '../exchange-fixture.ts';

const { file } = madeFile(1000);
const other = madeFile(1000, 2).file;
const SIZE_BYTES = 10_000_000;

function listening() {
  const clock = { ms: 1_000_000 };
  const wanted = new WantedFiles();
  wanted.add([
    { file, sizeBytes: SIZE_BYTES },
    { file: other, sizeBytes: SIZE_BYTES },
  ]);
  const fetches = new TheirFetches(wanted, () => clock.ms);
  const say = (heldBytes: number, of = file): void => fetches.on([{ prefix: prefixOf(of), heldBytes }]);
  return { clock, fetches, say };
}

suite('TheirFetches', () => {
  test('a claim counts for three seconds, and tells a rate once it has grown', () => {
    const { clock, fetches, say } = listening();
    assert.equal(fetches.get(file), undefined);
    say(1_000);
    assert.deepEqual(fetches.get(file), { heldBytes: 1_000, bytesPerSec: 0 });
    clock.ms += 2_000;
    say(5_000);
    assert.deepEqual(fetches.get(file), { heldBytes: 5_000, bytesPerSec: 2_000 });
    clock.ms += 3_001;
    assert.equal(fetches.get(file), undefined);
  });

  test('a claim that does not grow ends after five seconds, however often it is repeated', () => {
    const { clock, fetches, say } = listening();
    for (const heldBytes of [7_000, 7_000, 1_000, 6_999, 7_000]) {
      say(heldBytes);
      assert.equal(fetches.get(file)?.heldBytes, 7_000);
      clock.ms += 1_000;
    }
    clock.ms += 1;
    say(7_000);
    assert.equal(fetches.get(file), undefined);
    say(7_001);
    assert.equal(fetches.get(file)?.heldBytes, 7_001);
  });

  test('a claim of nothing ends after four seconds, until something comes', () => {
    const { clock, fetches, say } = listening();
    for (let second = 0; second < 4; second++) {
      say(0);
      assert.equal(fetches.get(file)?.heldBytes, 0);
      clock.ms += 1_000;
    }
    clock.ms += 1;
    say(0);
    assert.equal(fetches.get(file), undefined);
    say(1);
    assert.equal(fetches.get(file)?.heldBytes, 1);
  });

  test('a claim does not grow beyond the size of the file', () => {
    const { clock, fetches, say } = listening();
    for (let second = 0; second <= 6; second++) {
      say(SIZE_BYTES + second);
      assert.equal(fetches.get(file)?.heldBytes, SIZE_BYTES);
      clock.ms += 1_000;
    }
    say(2 * SIZE_BYTES);
    assert.equal(fetches.get(file), undefined);
  });

  test('a member that holds a file whole and does not give it is not believed again', () => {
    const { clock, fetches, say } = listening();
    say(SIZE_BYTES);
    for (let second = 0; second < 6; second++) {
      clock.ms += 1_000; // five seconds, and one more for ten megabytes
      say(SIZE_BYTES);
      assert.ok(fetches.get(file));
    }
    clock.ms += 1;
    say(SIZE_BYTES);
    assert.equal(fetches.get(file), undefined);
    say(1, other);
    assert.equal(fetches.get(other), undefined);
  });

  test('a member that stops claiming a whole file stays believed: the file may have been wrong', () => {
    const { clock, fetches, say } = listening();
    say(SIZE_BYTES);
    clock.ms += 60_000;
    assert.equal(fetches.get(file), undefined);
    say(1, other);
    assert.ok(fetches.get(other));
  });

  test('a member that gave the file stays believed', () => {
    const { clock, fetches, say } = listening();
    say(SIZE_BYTES);
    fetches.forget([file]);
    clock.ms += 60_000;
    assert.equal(fetches.get(file), undefined);
    say(1, other);
    assert.ok(fetches.get(other));
  });

  test('files that are not wanted take no memory', () => {
    const { fetches } = listening();
    const unknown = madeFile(1000, 3).file;
    fetches.on([{ prefix: prefixOf(unknown), heldBytes: 1 }]);
    assert.equal(fetches.get(unknown), undefined);
  });
});
