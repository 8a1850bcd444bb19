/** Runs the real Nix of this machine on stores of its own. A fake `nix` only stands in for failures. */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { execa } from 'execa';
import { parseEvaluated, splitOutputs } from '../../../src/nix/installable.ts';
import { evaluate } from '../../../src/nix/programs/nix-eval.ts';
import { queryClosure, queryDeriver, readStoreFile } from '../../../src/nix/programs/nix-queries.ts';
import { readDerivation } from '../../../src/nix/derivations/read-derivation.ts';
import { physicalPath } from '../../../src/nix/store-place.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { useNixFolder } from '../../support/nix-folder.ts';
import { failsWith } from '../fixtures.ts';

const ABSENT = parseStorePath('/nix/store/00000000000000000000000000000000-absent');
const EXPRESSION = `
let
  make = name: more: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo $dep > $out" ];
  } // more);
  dep = make "dep" { };
  plain = make "plain" { inherit dep; outputs = [ "lib" "out" ]; };
in {
  inherit plain;
  installs = plain // { meta.outputsToInstall = [ "out" "lib" ]; };
  specified = plain.out // { outputSpecified = true; meta.outputsToInstall = [ "lib" ]; };
  broken = plain // { meta.outputsToInstall = throw "no meta"; };
  string = "\${dep}/bin/dep";
  number = 3;
  throws = throw "enough of this";
}
`;

let folder = '';
let file = '';

const { fakeNix } = useNixFolder((made) => {
  folder = made;
  file = join(folder, 'default.nix');
  writeFileSync(file, EXPRESSION);
});

async function evaluateDerivation(attribute: string): Promise<{ drvPath: string; outputs: readonly string[] }> {
  const value = await evaluate(attribute, { file });
  assert.ok(value.kind === 'derivation', attribute);
  return value;
}

suite('evaluate', () => {
  test('returns the outputs that nix build would make', async () => {
    for (const [attribute, outputs] of [
      ['plain', ['lib']],
      ['plain.out', ['out']],
      ['installs', ['out', 'lib']],
      ['specified', ['out']],
      ['broken', ['lib']],
      ['plain^out', ['out']],
      ['plain^out,lib', ['out', 'lib']],
      ['plain^*', ['lib', 'out']],
    ] as const) {
      const value = await evaluateDerivation(attribute);
      assert.match(value.drvPath, /^\/nix\/store\/[^/]+-plain\.drv$/);
      assert.deepEqual(value.outputs, outputs, attribute);
    }
  });

  test('builds nothing, and leaves the derivations in the given store', async () => {
    const store = `local?root=${folder}/other`;
    const value = await evaluate('plain', { file, store });
    assert.ok(value.kind === 'derivation');
    const { inputDrvs, outputs } = await readDerivation(value.drvPath, { store });
    const paths = await queryClosure(value.drvPath, { store });
    assert.deepEqual(new Set(paths), new Set([value.drvPath, ...inputDrvs.keys()]));
    const { path } = outputs.get('out')!;
    await assert.rejects(queryClosure(path!, { store }), failsWith('NIX_FAILED', /is not valid/));
    await assert.rejects(queryClosure(value.drvPath), failsWith('NIX_FAILED', /is not valid/));
  });

  test('returns the store path that a string begins with', async () => {
    const value = await evaluate('string', { file });
    assert.ok(value.kind === 'path');
    assert.match(value.path, /^\/nix\/store\/[^/]+-dep$/);
  });

  test('evaluates a flake, and writes no lock file', async () => {
    const flake = join(folder, 'flake');
    mkdirSync(flake);
    const packages = `packages.\${"x86_64-linux"}.default = derivation { name = "flaky"; system = "x86_64-linux"; builder = "/bin/sh"; }`;
    writeFileSync(join(flake, 'flake.nix'), `{ outputs = _: { ${packages}; text = "${ABSENT}/x"; }; }`);
    const value = await evaluate(`path:${flake}#packages.x86_64-linux.default`);
    assert.ok(value.kind === 'derivation' && value.drvPath.endsWith('-flaky.drv'));
    assert.deepEqual(await evaluate(`path:${flake}#text`), { kind: 'path', path: ABSENT });
    await assert.rejects(execa('ls', [join(flake, 'flake.lock')]));
  });

  test('refuses a value that is neither a derivation nor a store path', async () => {
    await assert.rejects(evaluate('number', { file }), failsWith('NIX_FAILED', /"number" is neither a derivation/));
  });

  test('fails in the words of Nix', async () => {
    await assert.rejects(evaluate('throws', { file }), failsWith('NIX_FAILED', /enough of this/));
    await assert.rejects(evaluate('nothing', { file }), failsWith('NIX_FAILED', /attribute 'nothing'.*not found/));
    await assert.rejects(evaluate('x', { file: join(folder, 'none.nix') }), failsWith('NIX_FAILED', /none\.nix/));
  });

  test('says how to do without Nix', async () => {
    process.env.PATH = folder;
    await assert.rejects(evaluate('plain', { file }), failsWith('NIX_MISSING', /subscribe to a store path/));
  });

  test('ends Nix if aborted, and throws the reason', async () => {
    fakeNix('exec sleep 60');
    const reason = new Error('enough');
    const controller = new AbortController();
    const calls = [
      evaluate('plain', { file, signal: controller.signal }),
      queryClosure(ABSENT, { signal: controller.signal }),
      queryDeriver(ABSENT, { signal: controller.signal }),
      readStoreFile(ABSENT, { signal: controller.signal }),
    ];
    controller.abort(reason);
    await Promise.all(calls.map((call) => assert.rejects(call, reason)));
  });

  test('refuses malformed output of Nix', () => {
    for (const json of [
      '',
      '[',
      'null',
      '3',
      '{"drvPath":"/x","outputs":[]}',
      '{"path":"hello"}',
      '{"path":"/nix/store/x"}',
    ]) {
      assert.throws(() => parseEvaluated(json, 'x'), failsWith('NIX_FAILED'), json);
    }
  });
});

test('splits outputs only from the end of an installable', () => {
  assert.deepEqual(splitOutputs('nixpkgs#curl'), { reference: 'nixpkgs#curl', outputs: undefined });
  assert.deepEqual(splitOutputs('nixpkgs#curl^*'), { reference: 'nixpkgs#curl', outputs: 'all' });
  assert.deepEqual(splitOutputs('nixpkgs#curl^bin,man'), { reference: 'nixpkgs#curl', outputs: ['bin', 'man'] });
  for (const odd of ['.#"a^b"', '.#x^', '.#x^a b', '.#x^a,']) {
    assert.deepEqual(splitOutputs(odd), { reference: odd, outputs: undefined });
  }
});

suite('queryDeriver', () => {
  test('returns the derivation of a built path, and undefined for other paths', async () => {
    const { drvPath } = await evaluateDerivation('plain');
    const [dep = ABSENT] = (await readDerivation(parseStorePath(drvPath))).inputDrvs.keys();
    const { stdout: built } = await execa('nix-store', ['--realise', dep]);
    assert.equal(await queryDeriver(parseStorePath(built)), dep);
    const { stdout: added } = await execa('nix-store', ['--add', file]);
    assert.equal(await queryDeriver(parseStorePath(added)), undefined);
    await assert.rejects(queryDeriver(ABSENT), failsWith('NIX_FAILED', /is not valid/));
  });
});

suite('readDerivation', () => {
  test('reads a chroot store from the disk, without a process', async () => {
    const { drvPath } = await evaluateDerivation('plain');
    fakeNix('echo "error: not that way" >&2; exit 1');
    const { env } = await readDerivation(parseStorePath(drvPath));
    assert.equal(env.get('name'), 'plain');
  });

  test('asks Nix if the file is not on the disk', async () => {
    const { drvPath } = await evaluateDerivation('plain');
    // The default store, by its name in the configuration: nothing says where its files are.
    process.env.NIX_CONFIG += `\nstore = ${process.env.NIX_REMOTE}`;
    delete process.env.NIX_REMOTE;
    const { env } = await readDerivation(parseStorePath(drvPath));
    assert.equal(env.get('name'), 'plain');
  });

  test('names a damaged file', async () => {
    const { drvPath } = await evaluateDerivation('plain');
    const path = `${folder}/default${drvPath}`;
    chmodSync(path, 0o644);
    writeFileSync(path, 'Derive([');
    await assert.rejects(
      readDerivation(parseStorePath(drvPath)),
      failsWith('DERIVATION_INVALID', new RegExp(`^${drvPath}: corrupt derivation: expected \\(`)),
    );
  });

  test('knows where stores keep their files', () => {
    for (const [store, expected] of [
      ['', ABSENT],
      ['daemon', ABSENT],
      ['auto?x=y', ABSENT],
      ['unix:///run/nix.sock', ABSENT],
      ['/mnt', `/mnt${ABSENT}`],
      ['local?root=/mnt', `/mnt${ABSENT}`],
      ['local:///mnt', `/mnt${ABSENT}`],
      ['local?root=/mnt&real=/data/store', '/data/store/00000000000000000000000000000000-absent'],
      ['ssh-ng://host', undefined],
      ['https://cache.example.org', undefined],
    ] as const) {
      assert.equal(physicalPath(ABSENT, store), expected, store);
    }
  });
});
