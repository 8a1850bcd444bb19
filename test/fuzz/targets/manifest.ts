import { formatManifestText, parseManifestText } from '../../../src/index/format/manifest-text.ts';
import { FIXTURES } from '../../index/fixtures.ts';
import { readFileSync } from 'node:fs';
import { expecting, type FuzzTarget } from '../target.ts';

/** Manifests of publishers, behind the check of their signature: a publisher may be hostile, too. */
export function manifest(): FuzzTarget {
  return {
    corpus: [readFileSync(new URL('manifest', FIXTURES))],
    words: ['Shard: ', 'Root: ', 'Peer: ', 'Seq: ', 'Expires: ', 'StoreDir: /', '\n', ' ', '\r', '\u202e'],
    read(input) {
      expecting(['INDEX_INVALID'], () => {
        const { manifest: sound, publicKeyHex } = parseManifestText(input.toString());
        formatManifestText(sound, Buffer.from(publicKeyHex, 'hex'));
      });
    },
  };
}
