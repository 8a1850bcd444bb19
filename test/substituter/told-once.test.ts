import assert from 'node:assert/strict';
import { test } from 'node:test';
import { NarswarmError } from '../../src/errors.ts';
import { failureOf } from '../../src/failure.ts';
import { ToldOnce } from '../../src/substituter/told-once.ts';
import type { Warning } from '../../src/warning.ts';
import { Lab } from '../support/lab.ts';
import { narInfoUrl, narUrl, scene } from './scene.ts';

function failed(url: string): Warning {
  const error = new NarswarmError('HTTP_FAILED', `${url} failed`, { facts: { url } });
  return { kind: 'peers-again', failures: [failureOf(error)] };
}

test('each upstream is blamed once, with the number of further failures at the end', () => {
  const told: Warning[] = [];
  const once = new ToldOnce((warning) => told.push(warning));
  const [one, two] = ['http://one.test/nar/a.nar.xz', 'http://two.test/nar/a.nar.xz'].map(failed);
  assert.ok(one !== undefined && two !== undefined);
  for (const warning of [one, failed('http://one.test/nar/b.nar.xz'), two, failed('http://one.test/nar/c.nar.xz')])
    once.take(warning);
  assert.deepEqual(told, [one, two]);

  once.flush();
  assert.deepEqual(told.slice(2), [{ kind: 'repeated', first: one, count: 2 }]);

  once.flush();
  once.take(one);
  assert.equal(told.length, 4, 'a later fetch tells it again');
});

test('warnings that say different things are all passed on', () => {
  const told: Warning[] = [];
  const once = new ToldOnce((warning) => told.push(warning));
  for (const path of ['/nix/store/a', '/nix/store/b', '/nix/store/a']) once.take({ kind: 'wrong-contents', path });
  once.take({ kind: 'map-withdrawn' });
  assert.equal(told.length, 3);
});

test('a substituter whose upstream sends only wrong NARs warns of it once', async () => {
  await using lab = await Lab.open();
  const all = await scene(lab, { others: 4 });
  all.cache.faults = [{ kind: 'corrupt', match: /^\/nar\// }];
  assert.equal((await fetch(narInfoUrl(all, all.top))).status, 200);
  const nars = [all.top, all.middle, all.leaf, ...all.others];
  const answers = await Promise.all(nars.map((path) => fetch(narUrl(all, path)).then(({ status }) => status)));
  assert.deepEqual(new Set(answers), new Set([404]));

  await all.substituter[Symbol.asyncDispose]();
  const ofNars = all.warnings.filter(({ kind }) => kind === 'fetched-again');
  const again = all.warnings.find((warning) => warning.kind === 'repeated');
  assert.equal(ofNars.length, 1, JSON.stringify(all.warnings));
  assert.equal(again?.first, ofNars[0]);
});
