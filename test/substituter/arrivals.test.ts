import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseUpstream } from '../../src/http/upstream.ts';
import { asFileHash } from '../../src/nix/hash.ts';
import { Arrivals, type ArrivalsContext } from '../../src/substituter/arrivals.ts';
import { infoOf } from '../fetch/walk/narinfos.ts';

const FILE = asFileHash(`sha256:${'0'.repeat(52)}`);
const INFO = infoOf('blob', [], { fileHash: FILE, fileSize: 1_000 });

for (const [what, urls, isStill] of [
  ['if there is a cache, since Nix has others', ['https://cache.example'], true],
  ['unless peers are the only sources', [], false],
] as const)
  test(`a NAR is still after 15 s without a byte from anywhere, ${what}`, () => {
    const caches = { upstreams: urls.map((url) => parseUpstream(url)) };
    const signal = AbortSignal.abort();
    const onFailed = (): void => undefined;
    const arrivals = new Arrivals({ caches: () => caches, signal, onFailed } as unknown as ArrivalsContext);
    arrivals.want([INFO]);
    const states: (boolean | undefined)[] = [];
    const pass = (ms: number): void => {
      arrivals.notePassed(ms);
      states.push(arrivals.get(FILE)?.isStill);
    };
    pass(14_999);
    arrivals.noteBytes();
    pass(14_999);
    pass(1);
    assert.deepEqual(states, [false, false, isStill]);
  });
