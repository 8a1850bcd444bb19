import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { packageChanges, packageOf } from '../../src/nix/package-changes.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';

const PATH = (name: string, hash = '1') => parseStorePath(`/nix/store/${hash.repeat(32)}-${name}`);
const sized = (name: string, narSize: number, hash?: string) => ({ storePath: PATH(name, hash), narSize });

suite('packageOf', () => {
  const names: readonly (readonly [path: string, name: string, version: string])[] = [
    ['hello-2.12.1', 'hello', '2.12.1'],
    ['nixos-system-lab-25.05.1234.abcdef0', 'nixos-system-lab', '25.05.1234.abcdef0'],
    ['gcc-13.2.0-lib', 'gcc', '13.2.0'],
    ['python3.11-requests-2.31.0', 'python3.11-requests', '2.31.0'],
    ['unit-script-nix-gc', 'unit-script-nix-gc', ''],
    ['foo-bin', 'foo-bin', ''],
    ['linux-6.6.1-modules', 'linux', '6.6.1-modules'],
    ['x-unstable-2024-01-01', 'x-unstable', '2024-01-01'],
    ['etc', 'etc', ''],
  ];
  for (const [path, name, version] of names)
    test(path, () => assert.deepEqual(packageOf(PATH(path)), { name, version }));
});

suite('packageChanges', () => {
  test('tells other versions, additions, removals, sizes and rebuilds', () => {
    const before = [
      sized('firefox-128.0', 100_000),
      sized('gone-1', 500),
      sized('glibc-2.39', 1000),
      sized('glibc-2.39-bin', 100),
      sized('same-1', 7),
      sized('grown-1', 1),
    ];
    const after = [
      sized('firefox-129.0', 150_000, '2'),
      sized('new', 50, '2'),
      sized('glibc-2.39', 1001, '2'),
      sized('glibc-2.39-bin', 100, '2'),
      sized('same-1', 7),
      sized('grown-1', 8193, '2'),
    ];
    assert.deepEqual(packageChanges(before, after), {
      changes: [
        { name: 'firefox', before: ['128.0'], after: ['129.0'], sizeDelta: 50_000 },
        { name: 'gone', before: ['1'], after: [], sizeDelta: -500 },
        { name: 'grown', before: ['1'], after: ['1'], sizeDelta: 8192 },
        { name: 'new', before: [], after: [''], sizeDelta: 50 },
      ],
      rebuilt: 1,
      sizeDelta: 50_000 - 500 + 8192 + 50 + 1,
    });
  });

  test('several versions of one package stand side by side', () => {
    const after = [sized('a-1', 1), sized('a-2', 2, '2')];
    const { changes } = packageChanges([sized('a-1', 1)], after);
    assert.deepEqual(changes, [{ name: 'a', before: ['1'], after: ['1', '2'], sizeDelta: 2 }]);
    assert.deepEqual(packageChanges(after, after), { changes: [], rebuilt: 0, sizeDelta: 0 });
  });
});
