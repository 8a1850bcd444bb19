/** Checks the documents against the code: README's tables against the definitions that they describe. */
import assert from 'node:assert/strict';
import { access, readdir, readFile } from 'node:fs/promises';
import { suite, test } from 'node:test';
import { program } from '../../src/cli/program.ts';
import {
  formatDuration,
  formatSize,
  parseDuration,
  parsePort,
  parseRates,
  parseSize,
} from '../../src/cli/words/values.ts';
import { EXIT_STATUSES } from '../../src/errors.ts';

const PROGRAM = await program();
const read = (name: string): Promise<string> => readFile(new URL(`../../${name}`, import.meta.url), 'utf8');

suite('documents', () => {
  test('the README has every exit status with its meaning', async () => {
    const readme = await read('README.md');
    for (const [status, meaning] of Object.values(EXIT_STATUSES)) {
      assert.ok(readme.includes(`| ${status} | ${meaning} |`), `README.md lacks the row of exit status ${status}`);
    }
  });

  test('the README names every command', async () => {
    const readme = await read('README.md');
    for (const command of PROGRAM.commands) {
      assert.match(readme, new RegExp(`\\| \`${command.name()}[ \`]`), `README.md lacks ${command.name()}`);
    }
  });

  test('links between the documents lead to a file and a heading', async () => {
    const names = ['README.md', 'MANUAL.md', 'ARCHITECTURE.md', 'EXCHANGE.md', 'CHANGELOG.md'];
    const texts = new Map(await Promise.all(names.map(async (name) => [name, await read(name)] as const)));
    const anchorsOf = (text: string): string[] =>
      Array.from(text.matchAll(/^#+ (.*)$/gm), ([, title = '']) =>
        title
          .toLowerCase()
          .replaceAll(/[^\w\- ]/g, '')
          .replaceAll(' ', '-'),
      );
    for (const [name, text] of texts) {
      for (const [link, path = '', anchor] of text.matchAll(/\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)/g)) {
        const target = path === '' ? name : path;
        if (anchor === undefined) await access(new URL(`../../${target}`, import.meta.url));
        else assert.ok(anchorsOf(texts.get(target) ?? '').includes(anchor), `${name}: ${link} leads nowhere`);
      }
    }
  });

  test('ARCHITECTURE.md names only files that exist, and every folder of src', async () => {
    const text = await read('ARCHITECTURE.md');
    const roots = ['src', 'test', 'nix', 'packaging'];
    const listed = await Promise.all(
      roots.map(async (root) => {
        const entries = await readdir(new URL(`../../${root}`, import.meta.url), { recursive: true });
        return entries.map((entry) => `${root}/${entry}`);
      }),
    );
    const files = listed
      .flat()
      .map((file) => `/${file}\n`)
      .join('');
    for (const [name] of text.matchAll(/[\w./-]+\.(?:ts|cjs|nix|sh)\b/g))
      assert.ok(files.includes(`/${name}\n`), `ARCHITECTURE.md names ${name}, which does not exist`);
    const rooms = text.slice(text.indexOf('## The rooms'), text.indexOf('## The main job'));
    const folders = await readdir(new URL('../../src', import.meta.url), { recursive: true, withFileTypes: true });
    for (const folder of folders) if (folder.isDirectory()) assert.match(rooms, new RegExp(`\\b${folder.name}/`));
  });

  test('add --help says how to reach another Nix store', () => {
    let help = '';
    const add = PROGRAM.commands.find((command) => command.name() === 'add');
    add?.configureOutput({ writeOut: (text) => (help += text) }).outputHelp();
    assert.match(help, /NIX_REMOTE/);
  });

  test('every command has examples, exit statuses and --json', () => {
    for (const command of PROGRAM.commands) {
      let help = '';
      command.configureOutput({ writeOut: (text) => (help += text) }).outputHelp();
      for (const part of ['Examples:', 'Exit status:', '--json'])
        assert.ok(help.includes(part), `${command.name()} --help lacks ${part}`);
      const statuses = [...help.slice(help.indexOf('Exit status:')).matchAll(/^ +(\d+) /gm)].map(([, n]) => Number(n));
      assert.deepEqual(
        statuses,
        statuses.toSorted((a, b) => a - b),
      );
    }
  });
});

suite('values that people write', () => {
  test('reads sizes', () => {
    assert.equal(parseSize('500'), 500);
    assert.equal(parseSize('50G'), 50e9);
    assert.equal(parseSize('4GiB'), 4 * 2 ** 30);
    assert.equal(parseSize('1.5 MB'), 1.5e6);
    for (const nonsense of ['', 'G', '10 apples', '-1', '1e3', '5GG'])
      assert.throws(() => parseSize(nonsense), /Expected a size/);
  });

  test('reads rates and durations', () => {
    assert.deepEqual(parseRates('10MB/s'), [{ rateBytesPerSec: 10e6 }]);
    assert.deepEqual(parseRates('500k'), [{ rateBytesPerSec: 500e3 }]);
    assert.throws(() => parseRates('0'), /above 0/);
    for (const nonsense of ['10', '8Mbit', 'fast', '10/s']) assert.throws(() => parseRates(nonsense), /a rate above 0/);
    assert.equal(parseDuration('90s'), 90_000);
    assert.equal(parseDuration('1.5h'), 5_400_000);
    for (const nonsense of ['', '10', 'h', '5 fortnights', '-3s'])
      assert.throws(() => parseDuration(nonsense), /Expected a duration/);
  });

  test('reads ports', () => {
    assert.equal(parsePort('0'), 0);
    assert.equal(parsePort('65535'), 65_535);
    for (const nonsense of ['65536', '-1', 'x', '', '1.5']) assert.throws(() => parsePort(nonsense), /Expected a port/);
  });

  test('sizes and durations are printed readably', () => {
    assert.equal(formatSize(999), '999 B');
    assert.equal(formatSize(1_400_000_000), '1.40 GB');
    assert.equal(formatDuration(850), '850 ms');
    assert.equal(formatDuration(245_000), '4 min 05 s');
    assert.equal(formatDuration(11_400_000), '3 h 10 min');
  });
});
