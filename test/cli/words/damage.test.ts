import assert from 'node:assert/strict';
import { test } from 'node:test';
import { faultInWords } from '../../../src/cli/words/damage.ts';

test('puts faults of files into words', () => {
  const file = { kind: 'other-file', found: 'a', named: 'b' } as const;
  const contents = { kind: 'other-contents', found: 'a', signed: 'b' } as const;
  assert.equal(faultInWords({ kind: 'gone' }), 'it was here, but no longer is');
  assert.equal(faultInWords(file), 'its SHA-256 is a, not b');
  assert.equal(
    faultInWords({ kind: 'wrong-file-hash', file }),
    'it names a wrong FileHash for a correct NAR: its SHA-256 is a, not b',
  );
  assert.equal(
    faultInWords({ kind: 'wrong-nar-named', contents }),
    'it names a NAR with other contents: its contents have the SHA-256 a, and the signed one is b',
  );
  assert.equal(
    faultInWords({ kind: 'wrong-line', line: 'Compression', value: 'lzma9' }),
    'its Compression, "lzma9", is unknown',
  );
  assert.equal(faultInWords({ kind: 'wrong-line', line: 'Sig', value: 'x' }), 'its Sig, "x", is malformed or wrong');
  assert.equal(faultInWords({ kind: 'lost-reference', referrer: 'p' }), 'p refers to it, but it is not there');
  assert.equal(faultInWords({ kind: 'forged', key: 'k' }), 'its signature by k is wrong: it was altered');
});
