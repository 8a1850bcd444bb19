/** The memory of each side for the other's wants, if these are very many. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { Haves } from '../../../src/exchange/link/haves.ts';
import { prefixOf, type FilePrefix, type Message } from '../../../src/exchange/messages/messages.ts';
import { TheirWants } from '../../../src/exchange/link/their-wants.ts';
import { WantsRoom } from '../../../src/exchange/link/wants-room.ts';
import { WantedFiles } from '../../../src/exchange/link/wanted.ts';
import type { FileHash } from '../../../src/nix/brands.ts';
import { encodeNix32 } from '../../../src/nix/nix32.ts';
import { MAX_ALL_WANTS, MAX_PREFIXES_PER_MESSAGE, MAX_WANTS } from '../../../src/wire/bounds.ts';
import { madeFile, MadeOffer } from '../exchange-fixture.ts';

const FILE = madeFile(1000);

test('files beyond the bound are wanted in batches, as others arrive', () => {
  const wanted = new WantedFiles();
  const asked: number[] = [];
  const haves = new Haves(wanted, (message) => message.kind === 'want' && asked.push(message.prefixes.length));
  const files = wanted.add(Array.from({ length: MAX_WANTS + 3000 }, (_, index) => ({ file: fileAt(index) })));
  haves.want(files);
  assert.deepEqual(
    asked,
    Array.from({ length: 8 }, () => 4096),
  );
  for (const one of files.slice(0, 3000)) haves.unwant([one]);
  assert.deepEqual(asked.slice(8), [1024, 1024, 952]);
});

test('files that are no longer wanted are told together, and before one is wanted again', async () => {
  const wanted = new WantedFiles();
  const sent: [kind: string, count: number][] = [];
  const haves = new Haves(wanted, (message) => {
    if (message.kind === 'want' || message.kind === 'unwant') sent.push([message.kind, message.prefixes.length]);
  });
  const files = wanted.add(Array.from({ length: 100 }, (_, index) => ({ file: fileAt(index) })));
  haves.want(files);
  for (const one of files.slice(0, 50)) haves.unwant([one]);
  haves.want(files.slice(0, 1));
  assert.deepEqual(sent.splice(0), [
    ['want', 100],
    ['unwant', 50],
    ['want', 1],
  ]);
  for (const one of files.slice(50)) haves.unwant([one]);
  assert.deepEqual(sent, []);
  await sleep(100);
  assert.deepEqual(sent, [['unwant', 50]]);
});

test('files that a member announced make room to want others', () => {
  const wanted = new WantedFiles();
  const batches: { batch: number; count: number }[] = [];
  const haves = new Haves(wanted, (message) => {
    if (message.kind === 'want') batches.push({ batch: message.batch, count: message.prefixes.length });
  });
  const files = wanted.add(Array.from({ length: MAX_WANTS + 7000 }, (_, index) => ({ file: fileAt(index) })));
  haves.want(files);
  for (const { batch, count } of batches) haves.onMap(batch, new Uint8Array(count / 8).fill(0xff)); // it grows
  assert.ok(haves.isKnown);
  assert.ok(files.every(({ file }) => haves.get(file) === 'whole'));
});

test('strangers outside the scope take no room from a member', async () => {
  const [room, offer] = [new WantsRoom().of('10.0.0.1'), new MadeOffer()];
  const prefixes = Array.from({ length: MAX_PREFIXES_PER_MESSAGE }, (_, index) => prefixOf(fileAt(index)));
  for (let batch = 0; batch * MAX_PREFIXES_PER_MESSAGE < MAX_ALL_WANTS; batch++)
    new TheirWants({ offer, room, mayHave: () => false, send: () => undefined }).want(batch, prefixes);
  const { promise: told, resolve } = Promise.withResolvers<readonly FilePrefix[]>();
  const send = (message: Message): void => {
    if (message.kind === 'have') resolve(message.prefixes);
  };
  const member = new TheirWants({ offer, room, mayHave: () => true, send });
  member.want(1, [prefixOf(FILE.file)]);
  assert.ok(member.has(prefixOf(FILE.file)));
  member.onArrived(prefixOf(FILE.file));
  assert.deepEqual(await told, [prefixOf(FILE.file)]);
});

test('many members at one host take no room from another host', () => {
  const [room, offer] = [new WantsRoom(), new MadeOffer()];
  const member = (host: string): TheirWants =>
    new TheirWants({ offer, room: room.of(host), mayHave: () => true, send: () => undefined });
  const takeAll = (): TheirWants[] => {
    const members: TheirWants[] = [];
    for (let taken = 0; taken < MAX_ALL_WANTS; taken += MAX_PREFIXES_PER_MESSAGE) {
      const prefixes = Array.from({ length: MAX_PREFIXES_PER_MESSAGE }, (_, index) => prefixOf(fileAt(taken + index)));
      const one = member('10.0.0.1');
      one.want(1, prefixes);
      members.push(one);
    }
    return members;
  };
  const isRemembered = (host: string): boolean => {
    const one = member(host);
    one.want(1, [prefixOf(FILE.file)]);
    return one.has(prefixOf(FILE.file));
  };
  const members = takeAll();
  assert.deepEqual([isRemembered('10.0.0.1'), isRemembered('10.0.0.2')], [false, true]);
  for (const one of members) one.close();
  assert.ok(isRemembered('10.0.0.1'), 'it has its room back');
});

function fileAt(index: number): FileHash {
  const digest = Buffer.alloc(32);
  digest.writeUInt32BE(index, 0);
  return encodeNix32(digest) as FileHash;
}
