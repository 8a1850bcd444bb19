/** Private members of libraries that the program touches: each is a debt, named in ARCHITECTURE.md. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { glob } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import WebTorrent from 'webtorrent';
import { quietClient } from '../../src/swarm/webtorrent-client.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** The private members by file, in the order of their first use. */
const SEAMS: Readonly<Record<string, readonly string[]>> = {
  'src/discovery/dht-items.ts': ['_values'],
  'src/swarm/webtorrent-seams.ts': ['_connPool', '_onListening'],
};

/** Versions whose source was read. The guards of a connection depend on what WebTorrent does with each message. */
const VERSIONS: Readonly<Record<string, string>> = {
  webtorrent: '3.0.21',
  'bittorrent-protocol': '5.0.9',
  ut_metadata: '5.0.1',
  bencode: '4.0.1',
};

async function sources(): Promise<Map<string, string>> {
  const texts = new Map<string, string>();
  for await (const path of glob('src/**/*.ts', { cwd: ROOT })) {
    if (path.endsWith('.d.ts')) continue;
    const text = readFileSync(join(ROOT, path), 'utf8');
    texts.set(path, text.replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, ''));
  }
  return texts;
}

test('at most four private members of libraries are used, in the listed files', async () => {
  const found: Record<string, string[]> = {};
  for (const [path, text] of await sources()) {
    const dotted = text.replaceAll(/'[^'\n]*'|`[^`]*`/g, "''").matchAll(/[\w)\]]\??\.(_[a-zA-Z]\w*)/g);
    const members = [...dotted, ...text.matchAll(/\[['"](_[a-zA-Z]\w*)/g)].map(([, member]) => member ?? '');
    if (members.length > 0) found[path] = [...new Set(members)];
  }
  assert.deepEqual(found, SEAMS);
  assert.ok(Object.values(SEAMS).flat().length <= 4);
});

test('no member of a library is replaced', async () => {
  for (const [path, text] of await sources()) {
    const replaced = [...text.matchAll(/\b(\w+)\.prototype\.\w+\s*=[^=]/g)].map(([, name]) => name);
    assert.deepEqual(
      replaced.filter((name) => name !== 'Extension'),
      [],
      path,
    );
  }
});

test('WebTorrent asks no router to map ports', () => {
  const client = quietClient(6881, assert.fail) as WebTorrent & Readonly<Record<string, unknown>>;
  assert.deepEqual([client['natUpnp'], client['natPmp'], client['natTraversal']], [false, false, undefined]);
  client.destroy(() => undefined);
});

test('the libraries still have these members', () => {
  const client = new WebTorrent({ dht: false, tracker: false, lsd: false, natUpnp: false, natPmp: false, utp: false });
  assert.equal(typeof client._connPool?.destroy, 'function');
  assert.equal(typeof client._onListening, 'function');
  client.destroy(() => undefined);
});

for (const [name, version] of Object.entries(VERSIONS)) {
  test(`${name} has the version that was examined`, () => {
    const file = createRequire(import.meta.url).resolve(`../../node_modules/${name}/package.json`);
    assert.equal((JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version, version);
  });
}
