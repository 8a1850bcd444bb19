import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { narHashOf } from '../../src/nix/hash.ts';
import type { NarInfo } from '../../src/nix/narinfo.ts';
import { parseStorePath } from '../../src/nix/store-path.ts';
import { MountFolder } from '../../src/mount/mount-folder.ts';
import { UnpackedNars, type NarWay } from '../../src/mount/unpacked-nars.ts';
import { FileStore } from '../../src/store/file-store.ts';

/** A NAR of one file. */
function narOf(contents: string): Buffer {
  const string = (text: string): Buffer => {
    const bytes = Buffer.alloc(8 + Math.ceil(Buffer.byteLength(text) / 8) * 8);
    bytes.writeBigUInt64LE(BigInt(Buffer.byteLength(text)));
    bytes.write(text, 8);
    return bytes;
  };
  return Buffer.concat(['nix-archive-1', '(', 'type', 'regular', 'contents', contents, ')'].map(string));
}

function infoOf(nar: Buffer): NarInfo {
  return {
    storePath: parseStorePath(`/nix/store/${'0'.repeat(32)}-x`),
    url: 'nar/x',
    compression: 'none',
    narHash: narHashOf(createHash('sha256').update(nar).digest()),
    narSize: nar.length,
    references: [],
    signatures: [],
    extra: [],
  };
}

suite('unpacked NARs', () => {
  let dir: string;
  let folder: MountFolder;

  before(async () => {
    dir = await mkdtemp(join(tmpdir(), 'narswarm-test-'));
    folder = await MountFolder.open(await FileStore.open(join(dir, 'store'), { create: true }));
  });
  after(async () => {
    await folder[Symbol.asyncDispose]();
    await rm(dir, { recursive: true, force: true });
  });

  const giving =
    (info: NarInfo, nar: Buffer, begun: () => void = () => undefined): NarWay =>
    async () => {
      begun();
      return { info, writeTo: (to) => writeFile(to, nar) };
    };
  const files = async (): Promise<string[]> => readdir(folder.path('.'));

  test('each is unpacked once, whoever opens it, and shows where its contents are', async () => {
    const nar = narOf('contents');
    const info = infoOf(nar);
    let count = 0;
    const nars = new UnpackedNars(folder, { waysTo: () => [giving(info, nar, () => count++)] });
    const [one, other] = await Promise.all([nars.open(info), nars.open(info)]);
    assert.equal(one.file, other.file);
    const [node] = one.tree.nodes;
    assert.ok(node?.kind === 'regular' && node.offset !== undefined && node.sizeBytes === 8);
    const { buffer } = await one.file.read(Buffer.alloc(8), 0, 8, node.offset);
    assert.equal(buffer.toString(), 'contents');
    const releasing = Promise.all([one.release(), other.release()]);
    const again = await nars.open(info); // while it is being closed
    assert.equal(again.tree.nodes.length, 1);
    await releasing;
    await again.release();
    assert.equal(count, 1);
  });

  test('one with other contents than the signed ones is tried the next way, and leaves nothing', async () => {
    const nar = narOf('right');
    const info = infoOf(nar);
    const failures: unknown[] = [];
    const wrong = giving(info, narOf('wrong'));
    const last: NarWay = async (failure) => void failures.push(failure);
    const before_ = await files();
    await assert.rejects(new UnpackedNars(folder, { waysTo: () => [wrong, last] }).open(info), {
      code: 'HASH_MISMATCH',
    });
    assert.equal((failures[0] as { code: string }).code, 'HASH_MISMATCH');
    assert.deepEqual(await files(), before_);
    const opened = await new UnpackedNars(folder, { waysTo: () => [wrong, giving(info, nar)] }).open(info);
    await opened.release();
  });

  test('bytes after NarSize do not belong to it, and fewer are not it', async () => {
    const nar = narOf('some text');
    const info = infoOf(nar);
    const longer = giving(info, Buffer.concat([nar, Buffer.alloc(100)]));
    await (await new UnpackedNars(folder, { waysTo: () => [longer] }).open(info)).release();
    const shorter = giving(info, nar.subarray(0, -8));
    await assert.rejects(new UnpackedNars(folder, { waysTo: () => [shorter] }).open(info), { code: 'HASH_MISMATCH' });
  });

  test('those that nobody reads go when there is no room, and the one released last stays', async () => {
    const made = ['one', 'two', 'three'].map((text) => narOf(`${text} `.repeat(200)));
    const infos = made.map(infoOf);
    const asked: NarInfo[] = [];
    const nars = new UnpackedNars(folder, {
      waysTo: (info) => [giving(info, made[infos.indexOf(info)]!, () => asked.push(info))],
      mostBytes: 2.5 * made[0]!.length,
    });
    const [one, two, three] = infos as [NarInfo, NarInfo, NarInfo];
    const open = async (info: NarInfo): Promise<void> => (await nars.open(info)).release();
    const held = await nars.open(one);
    await open(two);
    await open(three);
    await open(three);
    assert.deepEqual(asked, [one, two, three]);
    await held.release();
    await open(two);
    assert.ok((await files()).includes(three.narHash) && (await files()).includes(two.narHash));
    await open(infoAgain(narOf('four'.repeat(200)), made, infos));
    assert.ok(!(await files()).includes(three.narHash), 'the one that was not read for the longest time is gone');
  });

  function infoAgain(nar: Buffer, made: Buffer[], infos: NarInfo[]): NarInfo {
    made.push(nar);
    infos.push(infoOf(nar));
    return infos.at(-1)!;
  }
});
