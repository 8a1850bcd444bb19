import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { callsByKind, callsInOrder } from '../../src/nix/copy-order.ts';
import { baseNameOf, parseStorePath } from '../../src/nix/store-path.ts';

/** A path whose hash is one repeated letter, with its references. */
function path(name: string, ...references: readonly { readonly storePath: string }[]) {
  const storePath = parseStorePath(`/nix/store/${name.slice(0, 1).repeat(32)}-${name}`);
  return { storePath, references: references.map((one) => baseNameOf(parseStorePath(one.storePath))) };
}

suite('the calls of nix copy', () => {
  const source = path('a-source');
  const compiler = path('c.drv');
  const script = path('b-script', source, compiler);
  const build = path('d.drv', compiler, script);
  const system = path('x-system', build, script);

  test('a call has either .drv files or other paths, and no path comes before its references', () => {
    assert.deepEqual(callsInOrder([source, compiler, script, build, system]), [
      { isDerivations: false, paths: [source.storePath] },
      { isDerivations: true, paths: [compiler.storePath] },
      { isDerivations: false, paths: [script.storePath] },
      { isDerivations: true, paths: [build.storePath] },
      { isDerivations: false, paths: [system.storePath] },
    ]);
  });

  test('makes the fewest calls: references already in the target do not count, nor does a path itself', () => {
    const self = { ...script, references: [...script.references, baseNameOf(script.storePath)] };
    assert.deepEqual(callsInOrder([compiler, self, build]).length, 3);
    assert.deepEqual(callsInOrder([source, self, system]).length, 1);
    assert.deepEqual(callsInOrder([]), []);
  });

  test('with references included, one call of each kind is enough', () => {
    assert.deepEqual(callsByKind([build.storePath, system.storePath]), [
      { isDerivations: false, paths: [system.storePath] },
      { isDerivations: true, paths: [build.storePath] },
    ]);
    assert.deepEqual(callsByKind([system.storePath]).length, 1);
  });
});
