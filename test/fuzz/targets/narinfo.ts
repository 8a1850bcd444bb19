import assert from 'node:assert/strict';
import { formatNarInfo, parseNarInfo } from '../../../src/nix/narinfo.ts';
import { fixtureNarInfos } from '../corpus.ts';
import { expecting, type FuzzTarget } from '../target.ts';

/** Narinfos as caches send them. An accepted one is written and read back equal. */
export function narinfo(): FuzzTarget {
  return {
    corpus: fixtureNarInfos(),
    words: ['StorePath: ', 'URL: ', 'FileHash: sha256:', 'Sig: a:b\n', 'CA: text:sha256:', '\r\n', '\n\n', ': ', '\0'],
    read(input) {
      expecting(['NARINFO_INVALID'], () => {
        const info = parseNarInfo(input.toString());
        assert.deepEqual(parseNarInfo(formatNarInfo(info)), info);
      });
    },
  };
}
