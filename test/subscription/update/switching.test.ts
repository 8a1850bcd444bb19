import assert from 'node:assert/strict';
import { test } from 'node:test';
import { pathsOf } from '../../../src/fetch/walk/closure.ts';
import { switchedTo } from '../../../src/subscription/update/switching.ts';
import { closureOf } from '../../fetch/walk/closure-of.ts';
import { infoOf } from '../../fetch/walk/narinfos.ts';

test('a switch is to the closure of one path, without its sources and the inputs of builds', () => {
  const [system, lib, source, compiler] = [
    infoOf('system-1', ['lib-1']),
    infoOf('lib-1'),
    infoOf('src'),
    infoOf('gcc'),
  ];
  const closures = [closureOf(system, lib, source), closureOf(compiler)];
  assert.deepEqual(pathsOf(switchedTo(system.storePath, closures)), [system.storePath, lib.storePath]);
  assert.equal(switchedTo(undefined, closures).size, 4);
});
