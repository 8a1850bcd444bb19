/** Runs the real Nix of this machine on a store of its own. */
import assert from 'node:assert/strict';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { execa } from 'execa';
import type { StorePath } from '../../../src/nix/brands.ts';
import { evaluate } from '../../../src/nix/programs/nix-eval.ts';
import { parseStorePath } from '../../../src/nix/store-path.ts';
import { FileStore } from '../../../src/store/file-store.ts';
import { type Resolution, resolveSource, type SourceContext } from '../../../src/subscription/source/resolve-source.ts';
import { parseSource } from '../../../src/subscription/source/source.ts';
import { failsWith } from '../../nix/fixtures.ts';
import { type Site, startSite } from '../../support/http-site.ts';
import { useNixFolder } from '../../support/nix-folder.ts';

const ABSENT = parseStorePath('/nix/store/00000000000000000000000000000000-absent');
const EXPRESSION = `
let
  make = name: more: derivation ({
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" "echo $dep > $out; echo > $dev" ];
    dev = "/dev/null";
  } // more);
  fixed = name: more: make name ({
    args = [ "-c" "printf x > $out" ];
    outputHashMode = "flat"; outputHashAlgo = "sha256"; outputHash = builtins.hashString "sha256" "x";
  } // more);
in rec {
  bootstrap = fixed "bootstrap.tar.xz" { };
  source = fixed "source.tar.gz" { tool = bootstrap; };
  dep = make "dep" { src = source; };
  pkg = make "pkg" { inherit dep; outputs = [ "out" "dev" ]; dev = null; both = [ dep source ]; };
  floating = make "floating" { inherit dep; __contentAddressed = true; outputHashMode = "recursive"; outputHashAlgo = "sha256"; };
  text = "\${dep}/bin";
}
`;

let folder = '';
let file = '';
let context: SourceContext;
let site: Site;

before(async () => {
  site = await startSite((_request, response) => void response.writeHead(200).end(`${ABSENT}\n`));
});
after(() => site[Symbol.asyncDispose]());
useNixFolder(
  async (made) => {
    folder = made;
    file = join(folder, 'default.nix');
    writeFileSync(file, EXPRESSION);
    const files = await FileStore.open(join(folder, 'files'), { create: true });
    context = { http: site.client, files, withSources: false };
  },
  ['experimental-features = ca-derivations'],
);

async function resolve(text: string, options: { file?: string; withSources?: boolean } = {}): Promise<Resolution> {
  const source = parseSource(text, { file: options.file });
  assert.ok(source.kind !== 'publisher');
  return resolveSource(source, { ...context, withSources: options.withSources ?? false });
}

/** Returns the path of an attribute's output, whether it is built or not. */
async function outputOf(attribute: string): Promise<StorePath> {
  const { stdout } = await execa('nix', [
    '--extra-experimental-features',
    'nix-command',
    'eval',
    '--raw',
    '-f',
    file,
    `${attribute}.outPath`,
  ]);
  return parseStorePath(stdout);
}

async function build(attribute: string): Promise<StorePath> {
  const value = await evaluate(attribute, { file });
  assert.ok(value.kind === 'derivation');
  await execa('nix-store', ['--realise', value.drvPath]);
  return outputOf(attribute);
}

suite('an attribute', () => {
  test('stands for its output, and has the inputs of its build', async () => {
    const resolution = await resolve('pkg', { file });
    const [pkg, dep, source] = await Promise.all(['pkg', 'dep', 'source'].map(outputOf));
    assert.deepEqual(resolution.roots, [pkg]);
    assert.deepEqual(new Set(resolution.buildInputs), new Set([dep, source]));
    assert.deepEqual([resolution.mayLack, resolution.sources, resolution.notes], [false, [], []]);
    assert.deepEqual(await resolution.buildInputsOf(dep!), [source]);
    assert.deepEqual(await resolution.buildInputsOf(source!), [await outputOf('bootstrap')]);
    assert.deepEqual(await resolution.buildInputsOf(ABSENT), []);
    assert.deepEqual((await resolve('dep', { file })).buildInputs, [source]);
    assert.deepEqual((await resolve('bootstrap', { file })).buildInputs, []);
  });

  test('stands for the named outputs', async () => {
    const { roots } = await resolve('pkg^*', { file });
    assert.deepEqual(new Set(roots), new Set([await outputOf('pkg'), await outputOf('pkg.dev')]));
    await assert.rejects(resolve('pkg^lib', { file }), failsWith('NOT_FOUND', /has no output lib: it has dev, out$/));
  });

  test('has the sources of its whole build closure, if asked for', async () => {
    const { sources, roots } = await resolve('pkg', { file, withSources: true });
    assert.deepEqual(new Set(sources), new Set([await outputOf('source'), await outputOf('bootstrap')]));
    assert.equal(roots.length, 1);
  });

  test('may have no output before it is built', async () => {
    const { roots, buildInputs, notes } = await resolve('floating', { file });
    assert.deepEqual([roots, buildInputs], [[], [await outputOf('dep')]]);
    assert.deepEqual(
      notes.map(({ kind }) => kind),
      ['undecided-outputs'],
    );
  });

  test('may be a path', async () => {
    assert.deepEqual((await resolve('text', { file })).roots, [await outputOf('dep')]);
  });

  test('fails in the words of Nix', async () => {
    await assert.rejects(resolve('nothing', { file }), failsWith('NIX_FAILED', /'nothing'/));
  });
});

test('an installable stands for its output', async () => {
  const system = 'x86_64-linux';
  writeFileSync(
    join(folder, 'flake.nix'),
    `{ outputs = _: { x = derivation { name = "x"; system = "${system}"; builder = "b"; }; }; }`,
  );
  const { roots } = await resolve(`path:${folder}#x`);
  assert.match(roots.join(' '), /^\/nix\/store\/[^ ]*-x$/);
});

suite('a store path', () => {
  test('stands for itself', async () => {
    const { roots, mayLack, buildInputs, notes } = await resolve(ABSENT);
    assert.deepEqual([roots, mayLack, buildInputs, notes], [[ABSENT], false, [], []]);
  });

  test('has sources if Nix knows its derivation', async () => {
    const dep = await build('dep');
    const { sources, notes } = await resolve(dep, { withSources: true });
    assert.deepEqual(new Set(sources), new Set([await outputOf('source'), await outputOf('bootstrap')]));
    assert.deepEqual(notes, []);
    const unknown = await resolve(ABSENT, { withSources: true });
    assert.deepEqual([unknown.roots, unknown.sources], [[ABSENT], []]);
    assert.deepEqual(unknown.notes, [{ kind: 'unknown-sources', path: ABSENT }]);
    const { stdout: added } = await execa('nix-store', ['--add', file]);
    assert.equal((await resolve(added, { withSources: true })).notes.length, 1);
  });

  test('of a derivation stands for its outputs', async () => {
    const value = await evaluate('pkg', { file });
    assert.ok(value.kind === 'derivation');
    assert.deepEqual(await resolve(value.drvPath).then(({ roots }) => roots.length), 2);
  });
});

suite('a profile', () => {
  test('stands for its whole closure on this machine', async () => {
    const pkg = await build('pkg');
    const dep = await outputOf('dep');
    symlinkSync(pkg, join(folder, 'system-1-link'));
    symlinkSync('system-1-link', join(folder, 'system'));
    mkdirSync(join(folder, 'elsewhere'));
    symlinkSync('../system', join(folder, 'elsewhere', 'system'));
    mkdirSync(join(folder, 'deep'));
    symlinkSync(join(folder, 'elsewhere'), join(folder, 'deep', 'run'));
    for (const name of ['system', 'deep/run/system']) {
      const { roots, mayLack, lackNote, notes, buildInputs } = await resolve(join(folder, name));
      assert.deepEqual(new Set(roots), new Set([pkg, dep]));
      assert.deepEqual([mayLack, buildInputs, notes], [true, [], []]);
      assert.deepEqual(lackNote, { kind: 'profile', path: pkg, paths: 2 });
    }
    assert.equal((await resolve(join(folder, 'system'), { withSources: true })).sources.length, 2);
  });

  test('missing in the store fails in the words of Nix', async () => {
    symlinkSync(ABSENT, join(folder, 'system'));
    await assert.rejects(resolve(join(folder, 'system')), failsWith('NIX_FAILED', /absent' is not valid/));
  });
});

suite('a list', () => {
  test('in a file stands for its lines', async () => {
    const path = join(folder, 'paths.txt');
    writeFileSync(path, `# donated\n${ABSENT}\n`);
    symlinkSync('paths.txt', join(folder, 'link'));
    for (const name of [path, join(folder, 'link')]) {
      const { roots, mayLack, notes } = await resolve(name);
      assert.deepEqual([roots, mayLack, notes], [[ABSENT], true, []]);
    }
    assert.deepEqual((await resolve(path, { withSources: true })).notes, [{ kind: 'list-without-sources' }]);
    writeFileSync(path, 'hello\n');
    await assert.rejects(resolve(path), failsWith('USAGE', /paths\.txt has no path of \/nix\/store in line 1/));
  });

  test('at an address stands for its lines', async () => {
    const { roots, mayLack } = await resolve(`${site.url}/store-paths`);
    assert.deepEqual([roots, mayLack], [[ABSENT], true]);
  });

  test('or profile that is neither is refused, with the way out', async () => {
    await assert.rejects(resolve(join(folder, 'none')), failsWith('NOT_FOUND', /^there is no .*\/none: give a list/));
    await assert.rejects(
      resolve(folder),
      failsWith('USAGE', /neither a list .* a flake is written with a #: .*#default$/),
    );
    await assert.rejects(resolve('/dev/null'), failsWith('USAGE', /neither a list of store paths nor a link/));
    symlinkSync('there', join(folder, 'here'));
    symlinkSync('here', join(folder, 'there'));
    await assert.rejects(resolve(join(folder, 'here')), failsWith('USAGE', /leads in a circle/));
    await assert.rejects(resolve(join(file, 'x')), failsWith('USAGE', /cannot read .* \(ENOTDIR\)/));
  });
});

test('an aborted resolution throws the reason', async () => {
  const reason = new Error('enough');
  const signal = AbortSignal.abort(reason);
  for (const text of [`path:${folder}#x`, `${site.url}/list`]) {
    const source = parseSource(text);
    assert.ok(source.kind !== 'publisher');
    await assert.rejects(resolveSource(source, { ...context, signal }), reason);
  }
});
