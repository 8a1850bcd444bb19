/** No code reads our own English: it branches on codes and facts. A message goes to people or into another message. */
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { ROOT } from './table.ts';

/** Places where a message of another program is cut to the part that people need. */
const FOREIGN: Readonly<Record<string, string>> = {
  'src/cli/program.ts': 'commander',
  'src/config/schema.ts': 'smol-toml',
  'src/demo/closure.ts': 'Nix',
};

const SENTENCE = String.raw`\b(?:message|reason|why|wayOut|sentence)\b\)?\??`;
const METHODS = 'includes|startsWith|endsWith|match|matchAll|split|search|indexOf|lastIndexOf|replace|replaceAll|slice';
const READS: readonly RegExp[] = [
  new RegExp(`${SENTENCE}\\s*\\.(?:${METHODS})\\(`),
  new RegExp(`\\.(?:test|exec)\\([^()]*${SENTENCE}\\)`),
  new RegExp(`\\.(?:message|reason)\\s*[!=]==\\s*(?!\\s|undefined|'')`),
  new RegExp(`[!=]==\\s*(?:\\w+\\??\\.)+message\\b`),
];

test('no code reads a sentence', () => {
  const reading: string[] = [];
  for (const path of readdirSync(`${ROOT}src`, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.ts')) continue;
    const text = readFileSync(`${ROOT}src/${path}`, 'utf8').replaceAll(/\/\*[^]*?\*\/|\/\/.*/g, '');
    for (const line of text.split('\n'))
      if (READS.some((read) => read.test(line))) reading.push(`src/${path}: ${line.trim()}`);
  }
  const ours = reading.filter((line) => FOREIGN[line.slice(0, line.indexOf(':'))] === undefined);
  assert.deepEqual(ours, []);
  for (const path of Object.keys(FOREIGN))
    assert.ok(
      reading.some((line) => line.startsWith(path)),
      path,
    );
});
