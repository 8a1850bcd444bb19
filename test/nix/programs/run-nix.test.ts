/** Runs the real Nix of this machine on stores of its own. A fake `nix` only stands in for other versions. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { suite, test } from 'node:test';
import { setImmediate } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { execa } from 'execa';
import { isNarswarmError } from '../../../src/errors.ts';
import type { StorePath } from '../../../src/nix/brands.ts';
import { formatNarInfo, parseNarInfo } from '../../../src/nix/narinfo.ts';
import type { NarInfo } from '../../../src/nix/narinfo.ts';
import { narHashOf } from '../../../src/nix/hash.ts';
import { dumpNars } from '../../../src/nix/programs/nar-dump.ts';
import { copyClosure } from '../../../src/nix/programs/nix-copy.ts';
import { queryRegistrations, queryInvalidPaths } from '../../../src/nix/programs/nix-queries.ts';
import { readNixConfig } from '../../../src/nix/programs/nix-settings.ts';
import { verifyNarInfo, parsePublicKey, parseSecretKey, signNarInfo } from '../../../src/nix/signature.ts';
import { parseStorePath, storeHashOf } from '../../../src/nix/store-path.ts';
import { useNixFolder } from '../../support/nix-folder.ts';
import { CACHE_DIR, failsWith, LEAF, readFixture, readNarInfo, TOP } from '../fixtures.ts';

const TRUSTED = [readFixture('fixture-1.public')];
const TOP_PATH = parseNarInfo(readNarInfo(TOP)).storePath;
const LEAF_PATH = parseNarInfo(readNarInfo(LEAF)).storePath;
const ABSENT = parseStorePath('/nix/store/00000000000000000000000000000000-absent');

let folder = '';
let store = '';

const { fakeNix } = useNixFolder((made) => {
  folder = made;
  store = `local?root=${folder}/target`;
});

/** Copies the fixture cache, since Nix writes to the caches that it reads. */
function copyCache(): string {
  cpSync(CACHE_DIR, join(folder, 'cache'), { recursive: true });
  return pathToFileURL(join(folder, 'cache')).href;
}

function rewriteNarInfo(storeHash: string, rewrite: (info: NarInfo) => NarInfo): void {
  const file = join(folder, 'cache', `${storeHash}.narinfo`);
  writeFileSync(file, formatNarInfo(rewrite(parseNarInfo(readFileSync(file, 'utf8')))));
}

suite('readNixConfig', () => {
  test('reads the configuration of the real Nix', async () => {
    process.env.NIX_CONFIG =
      'substituters = https://a.example https://b.example\ntrusted-public-keys = a-1:AA== b-1:BB==';
    assert.partialDeepStrictEqual(await readNixConfig(), {
      substituters: ['https://a.example', 'https://b.example'],
      trustedPublicKeys: ['a-1:AA==', 'b-1:BB=='],
    });
  });

  for (const [version, known, answer] of [
    ['newer', 'config show --json', '{"substituters":{"value":["https://a"]},"trusted-public-keys":{"value":["a:b"]}}'],
    ['without JSON', 'config show', 'substituters = https://a\ntrusted-public-keys = a:b'],
    ['older, without JSON', 'show-config', 'substituters = https://a\ntrusted-public-keys = a:b'],
  ] as const) {
    test(`reads the configuration of a Nix that is ${version}`, async () => {
      const args = `--extra-experimental-features nix-command ${known}`;
      fakeNix(`[ "$*" = "${args}" ] && echo '${answer}' && exit\necho "error: unrecognised flag" >&2; exit 1`);
      assert.partialDeepStrictEqual(await readNixConfig(), { substituters: ['https://a'], trustedPublicKeys: ['a:b'] });
    });
  }

  test('fails in the words of Nix if the configuration is broken', async () => {
    process.env.NIX_CONFIG = 'this is no setting';
    await assert.rejects(readNixConfig(), failsWith('NIX_FAILED', /illegal configuration line|syntax error/));
  });

  test('says so if nix has no such command', async () => {
    fakeNix(`echo "error: 'config' is not a recognised command" >&2; exit 1`);
    await assert.rejects(readNixConfig(), failsWith('NIX_FAILED', /neither/));
  });
});

suite('queryInvalidPaths', () => {
  test('returns the paths that a store does not hold', async () => {
    await copyClosure({ from: copyCache(), to: store, paths: [LEAF_PATH], trustedPublicKeys: TRUSTED });
    const invalid = await queryInvalidPaths([LEAF_PATH, TOP_PATH, ABSENT], store);
    assert.deepEqual(invalid, new Set([TOP_PATH, ABSENT]));
    assert.deepEqual(await queryInvalidPaths([LEAF_PATH], undefined), new Set([LEAF_PATH]));
    assert.deepEqual(await queryInvalidPaths([LEAF_PATH], store), new Set());
    assert.deepEqual(await queryInvalidPaths([], store), new Set());
  });

  test('asks for many paths in several calls', async () => {
    const paths = Array.from({ length: 2500 }, (_, index) => parseStorePath(`${ABSENT}-${index}`));
    assert.deepEqual(await queryInvalidPaths(paths, store), new Set(paths));
    fakeNix('echo $# >&2; exit 1');
    await assert.rejects(queryInvalidPaths(paths, undefined), failsWith('NIX_FAILED', /: 1002 \(exit status 1\)$/));
  });

  test('fails in the words of Nix', async () => {
    await assert.rejects(queryInvalidPaths([ABSENT], 'no-such-store://'), failsWith('NIX_FAILED', /no-such-store/));
    const elsewhere = parseStorePath('/elsewhere/00000000000000000000000000000000-x');
    await assert.rejects(queryInvalidPaths([elsewhere], store), failsWith('NIX_FAILED', /elsewhere/));
  });

  for (const words of [
    "could not set permissions on '/nix/var/nix/profiles/per-user' to 755: Operation not permitted",
    "opening lock file '/nix/var/nix/db/big-lock': Permission denied",
    "cannot connect to socket at '/nix/var/nix/daemon-socket/socket': Permission denied",
  ])
    test(`names the way out if this user may not use the store: ${words}`, async () => {
      fakeNix(`echo "error: ${words}" >&2; exit 1`);
      await assert.rejects(
        queryInvalidPaths([ABSENT], undefined),
        failsWith('NIX_FAILED', /: this user .*nix-daemon.*--to/),
      );
    });
});

suite('copyClosure', () => {
  test('imports a closure with the given keys, and reports its steps', async () => {
    const lines: string[] = [];
    const onLine = (line: string) => lines.push(line);
    await copyClosure({ from: copyCache(), to: store, paths: [TOP_PATH], trustedPublicKeys: TRUSTED, onLine });
    assert.deepEqual(await queryInvalidPaths([TOP_PATH, LEAF_PATH], store), new Set());
    assert.ok(
      lines.some((line) => line.startsWith(`copying path '${TOP_PATH}'`)),
      lines.join('\n'),
    );
  });

  test("imports into Nix's default store if no other is named", async () => {
    await copyClosure({ from: copyCache(), to: undefined, paths: [LEAF_PATH], trustedPublicKeys: TRUSTED });
    assert.deepEqual(await queryInvalidPaths([LEAF_PATH], `local?root=${folder}/default`), new Set());
  });

  test('does not import a path that no trusted key signed', async () => {
    await assert.rejects(
      copyClosure({ from: copyCache(), to: store, paths: [LEAF_PATH], trustedPublicKeys: [] }),
      (error) =>
        failsWith('IMPORT_FAILED', /lacks a (valid )?signature/)(error) &&
        isNarswarmError(error) &&
        error.facts.path === undefined,
    );
  });

  test('names the path whose NAR was tampered with', async () => {
    const from = copyCache();
    const { url } = parseNarInfo(readNarInfo(LEAF));
    const nar = join(folder, 'cache', url);
    const { stdout } = await execa('xz', ['-dc', nar], { encoding: 'buffer' });
    const tampered = Buffer.from(Buffer.from(stdout).toString('latin1').replace('leaf\n', 'lief\n'), 'latin1');
    writeFileSync(nar, (await execa('xz', ['-c'], { input: tampered, encoding: 'buffer' })).stdout);
    await assert.rejects(
      copyClosure({ from, to: store, paths: [TOP_PATH], trustedPublicKeys: TRUSTED }),
      (error) =>
        failsWith('IMPORT_FAILED', /hash mismatch importing path '.*-leaf-1\.0';\s+specified:/)(error) &&
        isNarswarmError(error) &&
        error.facts.path === LEAF_PATH,
    );
  });

  test('fails in the words of Nix if a NAR is missing or is not xz', async () => {
    const from = copyCache();
    const nar = join(folder, 'cache', parseNarInfo(readNarInfo(LEAF)).url);
    const request = { from, to: store, paths: [LEAF_PATH], trustedPublicKeys: TRUSTED };
    writeFileSync(nar, 'this is no xz');
    await assert.rejects(copyClosure(request), failsWith('IMPORT_FAILED', /compression|decompress/));
    rmSync(nar);
    await assert.rejects(copyClosure(request), failsWith('IMPORT_FAILED', /does not exist/));
  });

  test('lets Nix fetch from nowhere else, and print plain English', async () => {
    fakeNix('echo "error: $* in $LC_ALL, NO_COLOR=$NO_COLOR" >&2; exit 1');
    await assert.rejects(
      copyClosure({ from: 'file:///x', to: store, paths: [LEAF_PATH], trustedPublicKeys: [] }),
      failsWith('IMPORT_FAILED', /copy --from file:\/\/\/x --to .* --option substituters {2}\/nix.* in C, NO_COLOR=1$/),
    );
  });

  test('Nix accepts narinfos that narswarm signed and wrote, made from those of Nix', async () => {
    const name = 'hello.txt';
    writeFileSync(join(folder, name), 'hello\n');
    const source = `${folder}/source`;
    const { stdout: added } = await execa('nix-store', ['--store', source, '--add', join(folder, name)]);
    const path: StorePath = parseStorePath(added);

    await execa('nix-store', ['--generate-binary-cache-key', 'test-1', 'secret', 'public'], { cwd: folder });
    const publicKey = readFileSync(join(folder, 'public'), 'utf8');
    const secretKey = parseSecretKey(readFileSync(join(folder, 'secret'), 'utf8'));
    const nix = ['--extra-experimental-features', 'nix-command'];
    await execa('nix', [...nix, 'store', 'sign', '--store', source, '--key-file', `${folder}/secret`, path]);
    const from = pathToFileURL(join(folder, 'cache')).href;
    await execa('nix', [...nix, 'copy', '--from', source, '--to', from, path]);

    rewriteNarInfo(storeHashOf(path), (info) => {
      assert.equal(verifyNarInfo(info, [parsePublicKey(publicKey)]), 'test-1');
      assert.equal(signNarInfo(info, secretKey), info.signatures[0]);
      const { ca: _, ...unaddressed } = info;
      return { ...unaddressed, signatures: [signNarInfo(info, secretKey)], extra: [['InfoHash', 'x']] };
    });
    await assert.rejects(
      copyClosure({ from, to: store, paths: [path], trustedPublicKeys: [] }),
      failsWith('IMPORT_FAILED'),
    );
    await copyClosure({ from, to: store, paths: [path], trustedPublicKeys: [publicKey] });
    assert.deepEqual(await queryInvalidPaths([path], store), new Set());
  });
});

suite('queryRegistrations and dumpNars', () => {
  test('return the records of a closure, and its NARs', async () => {
    await copyClosure({ from: copyCache(), to: undefined, paths: [TOP_PATH], trustedPublicKeys: TRUSTED });
    const closure = await queryRegistrations([TOP_PATH]);
    assert.equal(closure.at(-1)?.storePath, TOP_PATH, 'references come first');
    const read: unknown[] = [];
    for await (const { path, nar } of dumpNars(closure, {})) {
      const sha256 = createHash('sha256');
      for await (const bytes of nar) sha256.update(bytes);
      read.push([path.storePath, narHashOf(sha256.digest())]);
    }
    assert.deepEqual(
      read,
      closure.map(({ storePath, narHash }) => [storePath, narHash]),
    );
  });

  test('name an invalid path', async () => {
    await assert.rejects(queryRegistrations([ABSENT]), failsWith('NOT_FOUND', new RegExp(`${ABSENT} is not valid`)));
    await assert.rejects(readAll([{ storePath: ABSENT, narSize: 1 }]), failsWith('NIX_FAILED', /absent/));
  });

  test('do not wait for the rest of a NAR that is too short', async () => {
    await copyClosure({ from: copyCache(), to: undefined, paths: [TOP_PATH], trustedPublicKeys: TRUSTED });
    const longer = [{ storePath: TOP_PATH, narSize: 1e9 }];
    await assert.rejects(readAll(longer), failsWith('NIX_FAILED', /ended in the middle/));
  });
});

/** Reads NARs to their ends. */
async function readAll(paths: Parameters<typeof dumpNars>[0]): Promise<void> {
  for await (const { nar } of dumpNars(paths, {})) for await (const _ of nar) continue;
}

suite('every call', () => {
  const calls: Readonly<Record<string, (signal?: AbortSignal) => Promise<unknown>>> = {
    readNixConfig: (signal) => readNixConfig({ signal }),
    queryInvalidPaths: (signal) => queryInvalidPaths([ABSENT], undefined, { signal }),
    copyClosure: (signal) =>
      copyClosure({ from: 'file:///nowhere', to: undefined, paths: [ABSENT], trustedPublicKeys: [], signal }),
    queryRegistrations: (signal) => queryRegistrations([ABSENT], { signal }),
  };
  for (const [name, call] of Object.entries(calls)) {
    test(`${name} says how to do without Nix`, async () => {
      process.env.PATH = folder;
      await assert.rejects(call(), failsWith('NIX_MISSING', /--from .*--trusted-public-key .*--no-copy/));
    });

    test(`${name} ends Nix if aborted, and throws the reason`, async () => {
      const reason = new Error('enough');
      fakeNix('exec sleep 60');
      const refused = call(AbortSignal.abort(reason)).catch((error: unknown) => error);
      assert.equal(await Promise.race([refused, setImmediate('a process was waited for')]), reason);

      const controller = new AbortController();
      const running = call(controller.signal);
      controller.abort(reason);
      await assert.rejects(running, reason);
    });

    test(`${name} reports an error if Nix dies without a message`, async () => {
      fakeNix('kill -9 $$');
      await assert.rejects(call(), (error) => isNarswarmError(error) && /killed by SIGKILL/.test(error.message));
    });
  }

  test('a question that Nix does not answer ends with an error, and Nix with it', async () => {
    fakeNix(`echo $$ > ${folder}/pid; exec sleep 60`);
    const asked = readNixConfig({ limitMs: 500 });
    await assert.rejects(
      asked,
      failsWith('NIX_FAILED', /^`nix show-config --json` has not answered within 0.5 s: .*restart/),
    );
    const pid = Number(readFileSync(join(folder, 'pid'), 'utf8'));
    while (existsSync(`/proc/${pid}/exe`)) await setImmediate();
  });
});
