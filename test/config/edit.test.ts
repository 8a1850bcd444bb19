import assert from 'node:assert/strict';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { chmod, mkdtemp, readFile, readdir, readlink, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import * as fc from 'fast-check';
import { addSubscription, checkEdit, removeSubscription, replaceSubscription } from '../../src/config/edit.ts';
import { parseConfig } from '../../src/config/schema.ts';
import { editConfigFile } from '../../src/config/write.ts';
import { canBeReady, SUBSCRIPTION_NAME, type Subscription } from '../../src/subscription/subscription.ts';

const FILE = 'config.toml';
const plain: Subscription = {
  name: 'new',
  source: '/run/current-system',
  import: false,
  sources: false,
  ready: false,
  publish: false,
};

suite('editing the config file', () => {
  const TEXT = [
    '# My settings  ',
    'port = 6881   # do not change',
    '',
    '# What the lab runs.',
    '# [subscriptions.lab] is a look-alike.',
    '[subscriptions.lab]',
    "to = '''[subscriptions.next]",
    "source = 1'''",
    'source = "/z"',
    'import = true',
    '# import = false',
    '',
    'publish = true # yes',
    '# sources = true',
    '',
    '',
    '# A remark on its own.',
    '',
    '# The next one.',
    '[subscriptions."next"] # here',
    'source = "/x"',
    '# The last one.',
    '[subscriptions.last]',
    'source = "/y"',
    '',
  ].join('\n');

  test('adding leaves every earlier byte unchanged', () => {
    const added = addSubscription(TEXT, { ...plain, import: true, to: '/mnt' }, FILE);
    const table = '\n[subscriptions.new]\nsource = "/run/current-system"\nimport = true\nto = "/mnt"\n';
    assert.equal(added, TEXT + table);
    assert.equal(addSubscription('', plain, FILE), '[subscriptions.new]\nsource = "/run/current-system"\n');
    const windows = addSubscription('port = 1\r\n# end', plain, FILE);
    assert.equal(windows, 'port = 1\r\n# end\r\n\r\n[subscriptions.new]\r\nsource = "/run/current-system"\r\n');
  });

  test('removing takes only the table, its comments, and the comments directly above it', () => {
    const [head = '', rest = ''] = TEXT.split('# What the lab runs.\n');
    const remark = '# A remark on its own.';
    assert.equal(removeSubscription(TEXT, 'lab', FILE), `${head}\n${remark}${rest.split(remark)[1] ?? ''}`);
    const next = removeSubscription(TEXT, 'next', FILE);
    assert.equal(next, TEXT.replace('# The next one.\n[subscriptions."next"] # here\nsource = "/x"\n', ''));
    const last = removeSubscription(TEXT, 'last', FILE);
    assert.equal(last, TEXT.replace('# The last one.\n[subscriptions.last]\nsource = "/y"\n', ''));
  });

  test('removing an added table restores the same bytes, for any name and source', () => {
    const name = fc.stringMatching(SUBSCRIPTION_NAME).filter((text) => text !== 'constructor' && text !== 'lab');
    const words = fc.string({ minLength: 1, unit: 'grapheme' }).map((value) => `/${value}`);
    const any = fc.record(
      {
        name,
        source: words,
        file: fc.option(words, { nil: undefined }),
        import: fc.boolean(),
        to: fc.option(words, { nil: undefined }),
        sources: fc.boolean(),
        ready: fc.boolean(),
        publish: fc.boolean(),
      },
      { noNullPrototype: true },
    );
    const subscription = any.filter((one) => (one.import || one.to === undefined) && (!one.ready || canBeReady(one)));
    const start = fc.constantFrom(
      '',
      '\n',
      '# only\n',
      'port = 1\n\n',
      'port = 1\r\n',
      '[subscriptions.lab]\nsource = "/x"\n# end\n',
    );
    fc.assert(
      fc.property(start, subscription, subscription, (text, one, other) => {
        const added = addSubscription(text, one, FILE);
        const { where: _where, ...found } = parseConfig(added, FILE).subscriptions.at(-1) ?? { where: '' };
        assert.deepEqual({ file: undefined, to: undefined, ...found }, one);
        assert.ok(added.startsWith(text));
        assert.equal(removeSubscription(added, one.name, FILE), text);
        const replaced = replaceSubscription(added, { ...other, name: one.name }, FILE);
        assert.ok(replaced.startsWith(text));
        assert.equal(removeSubscription(replaced, one.name, FILE), text);
      }),
    );
  });

  test('replacing keeps the place, unchanged lines and comments', () => {
    const to = '[subscriptions.next]\nsource = 1';
    const same = { ...plain, name: 'lab', source: '/z', import: true, to, publish: true };
    assert.equal(replaceSubscription(TEXT, same, FILE), TEXT);
    const next = { ...plain, name: 'next', source: '/"other"', import: true, to: '/mnt' };
    assert.equal(
      replaceSubscription(TEXT, next, FILE),
      TEXT.replace('source = "/x"\n', 'source = "/\\"other\\""\nimport = true\nto = "/mnt"\n'),
    );
    const text =
      '# ours\r\n[subscriptions.b] # mine\r\n  import = false # no\r\n  source  =  "/x" # here\r\n  publish = true\r\n# tail';
    assert.equal(
      replaceSubscription(text, { ...plain, name: 'b', source: '/y', import: true, sources: true }, FILE),
      '# ours\r\n[subscriptions.b] # mine\r\n  import = true # no\r\n  source  =  "/y" # here\r\n  sources = true\r\n# tail\r\n',
    );
    const torn = '[subscriptions.b]\nsource = "/x"\n';
    const published = { ...plain, name: 'b', source: '/x', publish: true };
    assert.equal(replaceSubscription(`${torn}import = true`, published, FILE), `${torn}publish = true\n`);
  });

  test('the end of a string that looks like a comment is not one', () => {
    const text = 'salt = """\n# x"""\n[subscriptions.a]\nsource = "/x"\n';
    assert.equal(removeSubscription(text, 'a', FILE), 'salt = """\n# x"""\n');
  });

  test('does not write a text that means something else than intended', () => {
    const found = parseConfig('port = 1', FILE);
    const byHand = { code: 'USAGE', message: /edit the file by hand/ };
    assert.equal(checkEdit('port = 1 # same', [], found, FILE), 'port = 1 # same');
    assert.throws(() => checkEdit('port = 2', [], found, FILE), byHand);
    assert.throws(() => checkEdit('port = 1\n[subscriptions.a]\nsource = "/x"', [], found, FILE), byHand);
    assert.throws(() => checkEdit('port = 1\n[subscriptions.new]\nsource = "/x"', [plain], found, FILE), byHand);
  });

  test('refuses a name that is taken, and an impossible source', () => {
    assert.throws(() => addSubscription(TEXT, { ...plain, name: 'lab' }, FILE), {
      code: 'USAGE',
      message: /config\.toml:6 has a subscription lab: .*--replace/,
    });
    assert.throws(() => addSubscription('', { ...plain, source: './x' }, FILE), { code: 'USAGE' });
  });

  test('leaves tables to people if a command cannot remove or extend them', () => {
    const byHand = { code: 'USAGE', message: /config\.toml .*edit the file by hand/ };
    const written = [
      'subscriptions = { a = { source = "/x" } }',
      '[subscriptions]\na = { source = "/x" }',
      'subscriptions.a.source = "/x"',
      '[subscriptions]\na.source = "/x"',
      '[subscriptions.a]\nsource = "/x"\n[subscriptions]\nb.source = "/y"',
    ];
    for (const text of written.slice(0, 4)) assert.throws(() => removeSubscription(text, 'a', FILE), byHand);
    assert.throws(() => removeSubscription(written[4] ?? '', 'b', FILE), byHand);
    assert.throws(() => addSubscription(written[0] ?? '', plain, FILE), byHand);
    assert.throws(() => removeSubscription('port = 1', 'a', FILE), byHand);
    for (const text of written.slice(0, 4))
      assert.throws(() => replaceSubscription(text, { ...plain, name: 'a' }, FILE), byHand);
    assert.throws(() => replaceSubscription('port = 1', plain, FILE), byHand);
  });
});

suite('writing the config file', () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-edit-'));
  });
  after(() => rm(dir, { recursive: true }));

  test('makes the file and its folder if they do not exist', async () => {
    const file = join(dir, 'new', 'folder', 'config.toml');
    await editConfigFile(file, (text) => `${text}a`);
    assert.equal(await readFile(file, 'utf8'), 'a');
  });

  test('keeps a symlink and the mode, and leaves no other file behind', async () => {
    const folder = join(dir, 'linked');
    const real = join(folder, 'real.toml');
    await editConfigFile(real, () => 'a');
    await chmod(real, 0o620);
    const link = join(dir, 'link.toml');
    await symlink('linked/real.toml', link);
    const { ino: oldIno } = await stat(real);
    await editConfigFile(link, (text) => `${text}b`);
    assert.equal(await readlink(link), 'linked/real.toml');
    assert.equal(await readFile(real, 'utf8'), 'ab');
    const { mode, ino } = await stat(real);
    assert.equal(mode & 0o7777, 0o620);
    assert.notEqual(ino, oldIno, 'replaced, not overwritten');
    assert.deepEqual(await readdir(folder), ['real.toml']);
  });

  test('leaves a read-only file to NixOS', async () => {
    const file = join(dir, 'nixos.toml');
    await writeFile(file, 'a', { mode: 0o444 });
    const refused = { code: 'USAGE', message: /nixos\.toml is read-only: .*services\.narswarm\.subscriptions/ };
    await assert.rejects(
      editConfigFile(file, () => 'b'),
      refused,
    );
    assert.equal(await readFile(file, 'utf8'), 'a');
  });

  test('does not replace a device or a socket by a file', async () => {
    const path = join(dir, 'socket');
    const server = createServer().listen(path);
    await once(server, 'listening');
    await assert.rejects(
      editConfigFile(path, () => 'b'),
      { code: 'USAGE', message: /socket is not a file/ },
    );
    await new Promise((resolve) => server.close(resolve));
  });

  test('a failed edit leaves the file unchanged', async () => {
    const file = join(dir, 'kept.toml');
    await writeFile(file, 'a');
    const fail = (): string => {
      throw new RangeError('no');
    };
    await assert.rejects(editConfigFile(file, fail), RangeError);
    assert.equal(await readFile(file, 'utf8'), 'a');
    assert.ok(!(await readdir(dir)).includes('kept.toml.lock'));
  });

  test('keeps the changes that a person makes meanwhile', async () => {
    const file = join(dir, 'meanwhile.toml');
    await writeFile(file, 'a much longer text');
    let times = 0;
    await editConfigFile(file, (text) => {
      if (times++ === 0) writeFileSync(file, 'theirs');
      return `${text}, ours`;
    });
    assert.equal(await readFile(file, 'utf8'), 'theirs, ours');
  });

  for (const [what, at] of [
    ['', 0],
    [', also if the clock was set back since', Date.now() / 1000 + 86_400],
  ] as const)
    test(`ignores the lock of an ended process${what}`, async () => {
      const file = join(dir, 'stale.toml');
      await writeFile(`${file}.lock`, 'half');
      await utimes(`${file}.lock`, at, at);
      await editConfigFile(file, () => 'a');
      assert.equal(await readFile(file, 'utf8'), 'a');
    });

  test('keeps both of two edits at the same time', async () => {
    const file = join(dir, 'both.toml');
    await writeFile(file, '');
    const names = ['a', 'b', 'c', 'd'];
    await Promise.all(
      names.map((name) => editConfigFile(file, (text) => addSubscription(text, { ...plain, name }, file))),
    );
    const { subscriptions } = parseConfig(await readFile(file, 'utf8'), file);
    assert.deepEqual(subscriptions.map(({ name }) => name).toSorted(), names);
  });
});
