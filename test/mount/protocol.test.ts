import assert from 'node:assert/strict';
import { test } from 'node:test';
import { initReply, listingReply, parseRequest, type Attributes, type FuseRequest } from '../../src/mount/protocol.ts';

/** A request as the kernel writes it: header, then its own bytes. */
function request(opcode: number, body: Buffer, node = { high: 7, low: 9 }): Buffer {
  const header = Buffer.alloc(40);
  header.writeUInt32LE(40 + body.length, 0);
  header.writeUInt32LE(opcode, 4);
  header.writeBigUInt64LE(0x1234_5678_9abcn, 8);
  header.writeUInt32LE(node.low, 16);
  header.writeUInt32LE(node.high, 20);
  return Buffer.concat([header, body]);
}

const init = (major: number, minor: number, flags = 0xffffffff): Buffer => {
  const body = Buffer.alloc(64);
  [major, minor, 131_072, flags].forEach((value, index) => body.writeUInt32LE(value, index * 4));
  return request(26, body);
};

test('requests are read with the whole of their 64-bit numbers, and names as bytes', () => {
  const lookup = parseRequest(request(1, Buffer.from('caf\xe9\0', 'latin1')));
  assert.deepEqual(lookup, {
    kind: 'lookup',
    name: 'caf\xe9',
    unique: 0x1234_5678_9abcn,
    node: { high: 7, low: 9 },
  });
  const body = Buffer.alloc(40);
  body.writeBigUInt64LE(42n, 0);
  body.writeBigUInt64LE(5_000_000_000n, 8);
  body.writeUInt32LE(131_072, 16);
  const read = parseRequest(request(15, body));
  assert.ok(read.kind === 'read');
  assert.deepEqual([read.handle, read.offset, read.size], [42, 5_000_000_000, 131_072]);
  assert.equal(parseRequest(request(16, body)).kind, 'write');
  assert.equal(parseRequest(request(22, body)).kind, 'unknown');
});

test('the answer to INIT keeps to the older version, and takes only flags that are offered', () => {
  const answer = (major: number, minor: number, flags?: number): Buffer => {
    const asked = parseRequest(init(major, minor, flags));
    assert.ok(asked.kind === 'init');
    return initReply(asked.unique, asked);
  };
  const newer = answer(7, 45);
  assert.equal(newer.length, 16 + 64);
  assert.deepEqual([newer.readUInt32LE(16), newer.readUInt32LE(20)], [7, 31]);
  assert.equal(answer(7, 28).readUInt32LE(20), 28);
  assert.equal(answer(7, 31, 1).readUInt32LE(28), 1);
  assert.equal(answer(8, 0).readUInt32LE(20), 31, 'the kernel then asks with our major version');
  assert.equal(answer(7, 12).readInt32LE(4), -71);
});

test('a listing has as many whole lines as fit, each with the offset of the next one', () => {
  const attributes: Attributes = { node: { high: 2, low: 1 }, kind: 'regular', isExecutable: true, sizeBytes: 5 };
  const asked = (kind: 'readdir' | 'readdirplus', size: number) =>
    ({ kind, size, offset: 3, unique: 1n, node: attributes.node }) satisfies FuseRequest;
  const lines = ['a', 'bb', 'a longer name'].map((name) => ({ name, attributes }));
  const plain = listingReply(1n, lines, asked('readdir', 80)).subarray(16);
  assert.equal(plain.length, 64, 'the third one needs 40 bytes');
  assert.deepEqual([plain.readBigUInt64LE(8), plain.readBigUInt64LE(40)], [4n, 5n]);
  assert.equal(plain.toString('latin1', 56, 58), 'bb');
  const full = listingReply(1n, lines, asked('readdirplus', 4096)).subarray(16);
  assert.equal(full.length, 2 * (128 + 32) + 128 + 40);
  assert.equal(full.readUInt32LE(40 + 60), 0o100555);
  const unknown = listingReply(1n, [{ name: 'x', attributes: undefined }], asked('readdirplus', 4096)).subarray(16);
  assert.ok(
    unknown.subarray(0, 128).every((byte) => byte === 0),
    'the kernel asks for the rest',
  );
});
