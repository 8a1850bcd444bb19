import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { contentsCheckOf } from '../../src/nix/contents-check.ts';
import { parseNarInfo, type NarInfo } from '../../src/nix/narinfo.ts';

/** Unsigned paths of every kind, made by the real Nix, with their uncompressed NARs. */
const FOLDER = new URL('../../fixtures/nix/content-addresses/cache/', import.meta.url);
const PATHS = readdirSync(FOLDER)
  .filter((name) => name.endsWith('.narinfo'))
  .map((name) => parseNarInfo(readFileSync(new URL(name, FOLDER), 'utf8')))
  .map((info) => ({ info, nar: readFileSync(new URL(info.url, FOLDER)) }));

/** @param cut bytes per chunk */
function fits(info: NarInfo, nar: Buffer, cut: number = nar.length): boolean {
  const check = contentsCheckOf(info);
  assert(check !== undefined);
  for (let at = 0; at < nar.length; at += cut) check.update(nar.subarray(at, at + cut));
  return check.fits();
}

test('the contents of every path of the real Nix fit its address, in chunks of any size', () => {
  assert.equal(PATHS.length, 14);
  for (const { info, nar } of PATHS) {
    for (const cut of [1, 7, 8, 31, 32, 33, 100, nar.length]) assert(fits(info, nar, cut), `${info.storePath} ${cut}`);
  }
});

test('refuses a changed, a missing and an extra byte', () => {
  for (const { info, nar } of PATHS) {
    for (let at = 0; at < nar.length; at++) {
      const altered = Buffer.from(nar);
      altered[at]! ^= 1;
      assert.equal(fits(info, altered), false, `${info.storePath} ${at}`);
    }
    assert.equal(fits(info, nar.subarray(0, -8)), false);
    assert.equal(fits(info, Buffer.concat([nar, Buffer.alloc(8)])), false);
    assert.equal(fits(info, Buffer.concat([nar, Buffer.alloc(9000)]), 10), false);
  }
});

test('makes no check without an address, or if only Nix can check it', () => {
  const info = PATHS[0]!.info;
  for (const ca of ['foo', 'fixed:git:sha1:pzki9p5zq6xfkkhkmrx2bhwzqafnwagx']) {
    assert.equal(contentsCheckOf({ ...info, ca }), undefined);
  }
  assert.equal(contentsCheckOf({ storePath: info.storePath }), undefined);
});
