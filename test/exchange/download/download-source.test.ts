import assert from 'node:assert/strict';
import { test } from 'node:test';
import { DownloadSource } from '../../../src/exchange/download/download-source.ts';
import type { Member } from '../../../src/exchange/member.ts';
import { madeFile } from '../exchange-fixture.ts';

test('a member has lost a file that it did not have three times in a row, until it has it again', () => {
  const { file } = madeFile(1000);
  const source = new DownloadSource({} as Member, { misleading: new Set(), proven: new Set() });
  const refuse = (...reasons: readonly ('absent' | 'busy')[]): void => {
    for (const reason of reasons) source.refuse(file, reason);
  };
  refuse('absent', 'absent');
  source.onGiven(file);
  refuse('absent', 'absent', 'busy');
  assert.equal(source.hasLost(file), false);
  refuse('absent');
  assert.equal(source.hasLost(file), true);
  source.onNews(file);
  assert.equal(source.hasLost(file), false);
});
