/** A suitcase goes onto the disk that is carried, and not onto that of the system where none is mounted. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, realpath, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { assertMounted, type MountLists } from '../../src/suitcase/mounted-disk.ts';

let dir = '';
let lists: MountLists;

before(async () => {
  dir = await realpath(await mkdtemp(join(tmpdir(), 'narswarm-mounts-')));
  lists = {
    fstab: join(dir, 'fstab'),
    unitFolders: [join(dir, 'units')],
    mountInfo: join(dir, 'mountinfo'),
    mediaFolders: [join(dir, 'media')],
  };
  for (const name of ['media', 'units', 'usb disk', 'empty', 'used', 'unit-disk', 'plain', 'media/stick'])
    await mkdir(join(dir, name), { recursive: true });
  await writeFile(join(dir, 'used/a'), '');
  await symlink('empty', join(dir, 'link'));
  const spaced = `${dir}/usb\\040disk`;
  await writeFile(
    lists.fstab,
    `# ${dir}/plain\nUUID=1 / ext4 defaults 0 1\nUUID=2 none swap sw 0 0\nUUID=3 ${spaced} vfat noauto 0 0\nUUID=4\t${dir}/empty ext4\n\nLABEL=x ${dir}/used ext4\n`,
  );
  const unit = join(dir, 'unit-disk').slice(1).replaceAll('-', '\\x2d').replaceAll('/', '-');
  await writeFile(join(dir, 'units', `${unit}.mount`), '');
  await mountOnly();
});
after(() => rm(dir, { recursive: true }));

async function mountOnly(...places: readonly string[]): Promise<void> {
  const line = (place: string): string => `36 35 98:0 / ${place} rw - ext4 /dev/sda rw`;
  await writeFile(lists.mountInfo, ['/', ...places].map(line).join('\n'));
}

/** Returns the file systems of the warnings. */
async function look(...names: readonly string[]): Promise<string[]> {
  const disks: string[] = [];
  const target = join(dir, ...names);
  await assertMounted(target, (warning) => disks.push(warning.kind === 'nothing-mounted' ? warning.disk : ''), lists);
  return disks;
}

test('a mount point of fstab or systemd without its disk is refused, wherever below it the folder is', async () => {
  for (const names of [['empty'], ['empty', 'nix'], ['empty', 'a', 'b'], ['link', 'nix'], ['usb disk'], ['unit-disk']])
    await assert.rejects(look(...names), { code: 'STORE_UNWRITABLE', message: /^nothing is mounted on .*: mount it/ });
});

test('one that has its disk is taken, and so is any other folder', async () => {
  assert.deepEqual(await look('plain', 'nix'), []);
  await mountOnly(`${dir}/usb\\040disk`, join(dir, 'empty'));
  assert.deepEqual(await look('usb disk', 'nix'), []);
  assert.deepEqual(await look('link'), []);
  await mountOnly();
});

test('one that was used without its disk before is taken with a warning', async () => {
  assert.deepEqual(await look('used', 'nix'), ['/']);
});

test('below /media, a folder is not made where no disk is mounted, and one that is there is warned of', async () => {
  for (const names of [
    ['media', 'other'],
    ['media', 'other', 'nix'],
  ])
    await assert.rejects(look(...names), { code: 'STORE_UNWRITABLE', message: /^there is no folder .*other: mount/ });
  assert.deepEqual(await look('media', 'stick', 'nix'), ['/']);
  await mountOnly(join(dir, 'media/stick'));
  assert.deepEqual(await look('media', 'stick', 'nix'), []);
  await mountOnly();
});
