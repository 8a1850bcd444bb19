/** Files from real members on loopback. */
import assert from 'node:assert/strict';
import { hash } from 'node:crypto';
import { suite, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import { RateLimit } from '../../../src/bytes/rate-limit.ts';
import { HashThread } from '../../../src/bytes/hash-thread.ts';
import { Download } from '../../../src/exchange/download/download.ts';
import { PieceSet } from '../../../src/exchange/messages/piece-set.ts';
import type { DownloadFile, Sink } from '../../../src/exchange/download/sink.ts';
import type { FileHash, StoreHash } from '../../../src/nix/brands.ts';
import { encodeNix32 } from '../../../src/nix/nix32.ts';
import { pieceLengthOf } from '../../../src/torrent/canonical.ts';
import { madeFile, startMember, type MadeFile, type MadeMember } from '../exchange-fixture.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
/** Bytes of each piece of a larger file. */
const PIECE = 256 * KIB;
const PART = 64 * KIB;

/** A sink in memory. */
class MadeSink implements Sink {
  readonly bytes: Buffer;
  readonly origins = new Map<number, string>();
  /** Origins of bytes other than whole pieces, from the start of their write. */
  readonly writers = new Set<string>();
  #held = 0;
  readonly #pieces = new Set<number>();
  readonly #pieceLength: number;
  readonly #gate: Promise<void>;

  /** @param gate writes of other bytes than whole pieces wait for it */
  constructor(sizeBytes: number, gate = Promise.resolve()) {
    this.bytes = Buffer.alloc(sizeBytes);
    this.#gate = gate;
    this.#pieceLength = pieceLengthOf(sizeBytes);
  }

  missing(): { from: number; to: number }[] {
    const ranges: { from: number; to: number }[] = [];
    for (let from = this.#held; from < this.bytes.length; from += this.#pieceLength) {
      const to = Math.min(this.bytes.length, from + this.#pieceLength);
      if (!this.#pieces.has(Math.floor(from / this.#pieceLength))) ranges.push({ from, to });
    }
    return ranges;
  }

  async putPiece(index: number, bytes: Uint8Array, origin: string): Promise<void> {
    await new Promise(setImmediate); // as a disk does
    this.bytes.set(bytes, index * this.#pieceLength);
    this.#pieces.add(index);
    this.origins.set(index, origin);
  }

  async write(offset: number, chunks: readonly Uint8Array[], origin: string): Promise<void> {
    const bytes = Buffer.concat(chunks);
    this.writers.add(origin);
    await new Promise(setImmediate);
    await this.#gate;
    this.bytes.set(bytes, offset);
    this.#held = Math.max(this.#held, offset + bytes.length);
    this.origins.set(Math.floor(offset / this.#pieceLength), origin);
  }

  async read(offset: number, length: number): Promise<Uint8Array> {
    return this.bytes.subarray(offset, offset + length);
  }

  async dropFrom(origin: string): Promise<void> {
    const first = Math.min(...[...this.origins].flatMap(([index, one]) => (one === origin ? [index] : [])));
    this.#held = Math.min(this.#held, first * this.#pieceLength);
    for (const index of this.origins.keys()) if (index >= first) this.origins.delete(index);
  }

  reset(): void {
    this.#held = 0;
    this.#pieces.clear();
  }
}

function piecesOf({ bytes }: MadeFile): Uint8Array {
  const length = pieceLengthOf(bytes.length);
  const pieces: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += length)
    pieces.push(hash('sha1', bytes.subarray(at, at + length), 'buffer'));
  return Buffer.concat(pieces);
}

/** Downloads files as a fetch does: if a whole file is wrong, it begins again. */
function startDownload(
  client: MadeMember,
  {
    leavesUnchecked = false,
    gate,
    hashThread = new HashThread(),
  }: { readonly leavesUnchecked?: boolean; readonly gate?: Promise<void>; readonly hashThread?: HashThread } = {},
) {
  const sinks = new Map<FileHash, MadeSink>();
  const wanted = new Map<FileHash, DownloadFile>();
  const lies: string[] = [];
  const firstLie = Promise.withResolvers<string>();
  const received = new Map<number, number>();
  const news: [FileHash, number][] = [];
  const ends = new Map<FileHash, PromiseWithResolvers<MadeSink>>();
  const download: Download = new Download({
    hashThread,
    members: client.members,
    line: client.peers.line,
    leavesUnchecked,
    open: async (file) => {
      const sink = new MadeSink(wanted.get(file)!.sizeBytes, gate);
      sinks.set(file, sink);
      return sink;
    },
    onBytes: ({ peer: { endpoint } }, bytes) => {
      received.set(endpoint.port, (received.get(endpoint.port) ?? 0) + bytes);
    },
    onVerified: () => undefined,
    onPiece: (file, index) => news.push([file, index]),
    onLie: ({ peer: { address } }) => {
      lies.push(address);
      firstLie.resolve(address);
    },
    onComplete: (file) => {
      const sink = sinks.get(file)!;
      const isRight = madeHash(sink.bytes) === file;
      if (isRight) {
        void download
          .confirm(file, (offset, length) => sink.read(offset, length))
          .then(() => ends.get(file)!.resolve(sink));
      } else {
        sink.reset();
        download.doubt(file, false);
        download.add([wanted.get(file)!], new Map([[file, sink]]));
      }
    },
    onFailure: (file, error) => ends.get(file)!.reject(error),
    onNews: () => undefined,
    onKnown: () => undefined,
  });
  const fetch = (files: readonly MadeFile[], { hasPieces = true } = {}): Promise<MadeSink[]> => {
    for (const one of files) {
      const { file, bytes } = one;
      wanted.set(file, { file, sizeBytes: bytes.length, ...(hasPieces && { pieces: piecesOf(one) }) });
      ends.set(file, Promise.withResolvers());
    }
    download.add([...wanted.values()]);
    return Promise.all(files.map(({ file }) => ends.get(file)!.promise));
  };
  const dispose = (): Promise<void> => download[Symbol.asyncDispose]();
  return { download, fetch, sinks, received, lies, lied: firstLie.promise, news, [Symbol.asyncDispose]: dispose };
}

function madeHash(bytes: Buffer): FileHash {
  return encodeNix32(hash('sha256', bytes, 'buffer')) as FileHash;
}

suite('Download', () => {
  test('while narinfos do not wait for a limit, no more NARs are requested', { timeout: 180_000 }, async () => {
    const nars = Array.from({ length: 40 }, (_, index) => madeFile(PIECE, index));
    const storeHash = 'a'.repeat(32) as StoreHash;
    await using seeder = await startMember({ files: nars });
    seeder.offer.narInfos.set(storeHash, 'StorePath: /nix/store/a\n');
    await using client = await startMember({ downloadLimit: new RateLimit(20_000) });
    await using running = startDownload(client);
    running.fetch(nars).catch(() => undefined);
    client.meet(seeder);
    while (running.received.size === 0) await new Promise(setImmediate);
    const [member] = client.members.open;
    const signal = AbortSignal.timeout(30_000);
    for (let asked = 0; asked < 100; asked++)
      assert.deepEqual(await member?.narInfos([storeHash], signal), ['StorePath: /nix/store/a\n']);
    const askedBytes = seeder.offer.asked.reduce((sum, { length }) => sum + length, 0);
    assert.ok(askedBytes <= 2 * MIB, `${askedBytes} bytes were requested`);
  });

  const files = [madeFile(5 * PIECE + 7, 1), madeFile(300_000, 2), madeFile(10, 3)];

  for (const [hasPieces, leavesUnchecked] of [
    [true, false],
    [true, true],
    [false, false],
  ] as const) {
    const how = leavesUnchecked ? 'without checks of single pieces' : `${hasPieces ? 'with' : 'without'} piece hashes`;
    test(`files come from two members at once, ${how}`, async () => {
      await using client = await startMember();
      await using one = await startMember({ files });
      await using other = await startMember({ files });
      await using running = startDownload(client, { leavesUnchecked });
      client.meet(one);
      client.meet(other);
      const sinks = await running.fetch(files, { hasPieces });
      assert.deepEqual(
        sinks.map(({ bytes }) => madeHash(bytes)),
        files.map(({ file }) => file),
      );
      assert.deepEqual(running.lies, []);
    });

    test(`a lying member is found within one file and dropped, ${how}`, async () => {
      await using client = await startMember();
      await using honest = await startMember({ files });
      await using liar = await startMember({ files });
      liar.offer.lies = true;
      await using running = startDownload(client, { leavesUnchecked });
      const record = client.meet(liar);
      while (client.members.open.size === 0) await new Promise(setImmediate);
      const fetched = running.fetch(files, { hasPieces });
      client.meet(honest);
      await fetched;
      assert.deepEqual(running.lies, [record.address]);
      assert.ok(record.banned !== undefined);
    });
  }

  test('a late member is used at once, and another one continues if the first one ends', async () => {
    await using client = await startMember();
    await using running = startDownload(client);
    const fetched = running.fetch(files);
    await using first = await startMember({ files: files.slice(1) });
    client.meet(first);
    while (client.members.open.size === 0) await new Promise(setImmediate);
    await using second = await startMember({ files });
    client.meet(second);
    await fetched;
  });

  test('if two members are lost in the same range at once, the bytes of one are kept', async () => {
    const file = madeFile(5 * PIECE + 7, 4);
    await using client = await startMember();
    await using first = await startMember({ files: [file], partBytes: PART });
    await using second = await startMember({ files: [file], partBytes: PART });
    await using third = await startMember({ files: [file] });
    first.offer.stallsAt = (_, to) => to >= 3 * PART;
    second.offer.stallsAt = (_, to) => to === PIECE;
    await using running = startDownload(client);
    const fetched = running.fetch([file], { hasPieces: false });
    client.meet(first);
    while (running.received.get(first.port) !== 2 * PART) await new Promise(setImmediate);
    client.meet(second);
    while (running.received.get(second.port) !== 5 * PIECE + 7 - PART) await new Promise(setImmediate);
    for (const member of client.members.open) member.drop();
    client.meet(third);
    const [sink] = await fetched;
    assert.equal(madeHash(sink!.bytes), file.file);
  });

  test('a piece is written only after a beginning of it from another member', async () => {
    const file = madeFile(3 * PIECE, 8);
    await using client = await startMember();
    await using liar = await startMember({ files: [file], partBytes: PART });
    await using honest = await startMember({ files: [file] });
    liar.offer.lies = true;
    liar.offer.stallsAt = (_, to) => to >= 3 * PART;
    const disk = Promise.withResolvers<void>();
    await using running = startDownload(client, { gate: disk.promise });
    const fetched = running.fetch([file]);
    client.meet(liar);
    while (running.received.get(liar.port) !== 2 * PART) await new Promise(setImmediate);
    client.meet(honest);
    while (client.members.open.size < 2) await new Promise(setImmediate);
    for (const member of client.members.open) if (member.peer.endpoint.port === liar.port) member.drop();
    while (running.received.get(honest.port) !== 3 * PIECE) await new Promise(setImmediate);
    while ((running.sinks.get(file.file)?.origins.size ?? 0) < 2) await new Promise(setImmediate);
    for (let turns = 0; turns < 10; turns++) await new Promise(setImmediate); // the first piece would be written by now
    const written = [...running.sinks.get(file.file)!.origins.keys()];
    disk.resolve();
    assert.deepEqual(new Set(written), new Set([1, 2]));
    const [sink] = await fetched;
    assert.equal(madeHash(sink!.bytes), file.file);
    assert.deepEqual(running.lies, []);
  });

  suite('a file without piece hashes that a member is fetching itself', () => {
    const file = madeFile(3 * PIECE, 9);
    const wrong = { file: file.file, bytes: Buffer.from(file.bytes).fill(7, 0, 5) };

    test('comes part by part, as it arrives there', async () => {
      await using client = await startMember();
      await using fetcher = await startMember();
      await using running = startDownload(client);
      const fetched = running.fetch([file], { hasPieces: false });
      client.meet(fetcher);
      while (client.members.open.size === 0) await new Promise(setImmediate);
      const [member] = client.members.open;
      const pieces = new PieceSet(file.bytes.length);
      for (const index of [0, 1, 2]) {
        assert.ok(!running.download.isAtHand(file.file));
        fetcher.offer.addPiece(file, pieces, index);
        const isHere = (): boolean => running.sinks.get(file.file)?.origins.has(index) === true;
        const isTold = (): boolean => {
          const held = member!.has(file.file);
          return held === 'whole' || held?.has(index) === true;
        };
        while (!isTold()) await new Promise(setImmediate);
        assert.ok(isHere() || running.download.isAtHand(file.file));
        while (!isHere()) await new Promise(setImmediate);
      }
      const [sink] = await fetched;
      assert.equal(madeHash(sink!.bytes), file.file);
    });

    test('backs the claim of the host that gives it, and of no other', async () => {
      await using client = await startMember();
      await using fetcher = await startMember({ host: '127.0.0.2' });
      await using liar = await startMember({ host: '127.0.0.3' });
      await using running = startDownload(client);
      const fetched = running.fetch([file], { hasPieces: false });
      client.find(fetcher, '127.0.0.2');
      client.find(liar, '127.0.0.3');
      while (client.members.open.size < 2) await new Promise(setImmediate);
      for (const claimant of [fetcher, liar]) {
        const isWanted = (): boolean => [...claimant.members.open].some((member) => member.wants(file.file));
        while (!isWanted()) await new Promise(setImmediate);
        claimant.members.tellFetching([{ file: file.file, heldBytes: 2 * PIECE }]);
      }
      const backed = (): (boolean | undefined)[] => {
        const rivals = running.download.rivals(file.file).filter(({ claim }) => claim !== undefined);
        return [fetcher, liar].map((one) => rivals.find(({ id }) => id === one.members.peerId)?.isBacked);
      };
      while (backed().includes(undefined)) await new Promise(setImmediate);
      assert.deepEqual(backed(), [false, false]);
      const pieces = new PieceSet(file.bytes.length);
      fetcher.offer.addPiece(file, pieces, 0);
      while (running.sinks.get(file.file)?.origins.has(0) !== true) await new Promise(setImmediate);
      assert.deepEqual(backed(), [true, false]);
      assert.ok(running.download.arrivalRate(file.file)! > 0);
      for (const index of [1, 2]) fetcher.offer.addPiece(file, pieces, index);
      await fetched;
    });

    test('does not come in parts from a member beyond the local network', async () => {
      await using client = await startMember({ isNear: false });
      await using fetcher = await startMember();
      await using running = startDownload(client);
      const fetched = running.fetch([file], { hasPieces: false });
      client.meet(fetcher);
      while (client.members.open.size === 0) await new Promise(setImmediate);
      const pieces = new PieceSet(file.bytes.length);
      for (const index of [0, 1, 2]) fetcher.offer.addPiece(file, pieces, index);
      const [member] = client.members.open;
      while (member!.has(file.file) === undefined) await new Promise(setImmediate);
      assert.ok(!running.download.isAtHand(file.file));
      fetcher.offer.add(file);
      await fetched;
    });

    test('is requested again if it was wrong, and only whole files from that host, which is not banned', async () => {
      await using client = await startMember();
      await using misled = await startMember({ host: '127.0.0.2' });
      await using holder = await startMember();
      const second = madeFile(3 * PIECE, 10);
      await using running = startDownload(client);
      const fetched = running.fetch([file, second], { hasPieces: false });
      client.find(misled, '127.0.0.2');
      const pieces = new PieceSet(file.bytes.length);
      for (const index of [0, 1, 2]) misled.offer.addPiece(wrong, pieces, index);
      const isWrong = (sink: MadeSink): boolean => sink.origins.size === 3 && sink.missing().length === 3;
      while (!isWrong(running.sinks.get(file.file) ?? new MadeSink(0))) await new Promise(setImmediate);
      assert.deepEqual(running.lies, []);
      const [member] = client.members.open;
      misled.offer.addPiece(second, new PieceSet(second.bytes.length), 0);
      while (member!.has(second.file) === undefined) await new Promise(setImmediate);
      assert.ok(!running.download.isAtHand(file.file) && !running.download.isAtHand(second.file));
      assert.deepEqual(running.lies, []);
      misled.offer.add(second);
      client.meet(holder);
      holder.offer.add(file);
      await fetched;
      assert.ok(running.received.get(misled.port)! >= 6 * PIECE);
    });
  });

  test('after wrong parts, other hosts give parts only once they have given right bytes', async () => {
    const [file, second, small] = [madeFile(3 * PIECE, 9), madeFile(3 * PIECE, 10), madeFile(9, 11)];
    await using client = await startMember();
    await using misled = await startMember({ host: '127.0.0.2' });
    await using other = await startMember({ host: '127.0.0.3' });
    await using running = startDownload(client);
    const fetched = running.fetch([file, second, small], { hasPieces: false });
    client.find(misled, '127.0.0.2');
    const wrong = { file: file.file, bytes: Buffer.alloc(3 * PIECE) };
    const pieces = new PieceSet(3 * PIECE);
    for (const index of [0, 1, 2]) misled.offer.addPiece(wrong, pieces, index);
    const isWrong = (sink: MadeSink): boolean => sink.origins.size === 3 && sink.missing().length === 3;
    while (!isWrong(running.sinks.get(file.file) ?? new MadeSink(0))) await new Promise(setImmediate);
    client.find(other, '127.0.0.3');
    const find = () => [...client.members.open].find(({ host }) => host === '127.0.0.3');
    while (find() === undefined) await new Promise(setImmediate);
    const parts = new PieceSet(3 * PIECE);
    other.offer.addPiece(second, parts, 0);
    while (find()!.has(second.file) === undefined) await new Promise(setImmediate);
    assert.ok(!running.download.isAtHand(second.file));
    other.offer.add(small);
    while (running.sinks.get(second.file)?.origins.has(0) !== true) await new Promise(setImmediate);
    other.offer.add(file, second);
    await fetched;
  });

  test('a member is not blamed for bytes that another one sent before a pause', async () => {
    const file = madeFile(3 * PIECE, 5);
    await using client = await startMember();
    await using liar = await startMember({ files: [file] });
    await using honest = await startMember({ files: [file] });
    liar.offer.lies = true;
    liar.offer.stallsAt = (_, to) => to > PIECE;
    await using running = startDownload(client);
    const fetched = running.fetch([file], { hasPieces: false });
    const { address } = client.meet(liar);
    while (running.sinks.get(file.file)?.origins.size !== 1) await new Promise(setImmediate);
    await running.download.pause(file.file);
    for (const member of client.members.open) member.drop();
    client.meet(honest);
    const wanted = { file: file.file, sizeBytes: file.bytes.length };
    running.download.add([wanted], new Map([[file.file, running.sinks.get(file.file)!]]));
    assert.equal(await running.lied, address);
    await fetched;
    assert.deepEqual(running.lies, [address]);
  });

  test('once a liar is found, others send what it has sent of other files', async () => {
    const [large, small] = [madeFile(4 * PIECE, 12), madeFile(9, 13)];
    await using client = await startMember();
    await using liar = await startMember({ files: [large], host: '127.0.0.2' });
    await using honest = await startMember({ files: [large, small] });
    liar.offer.lies = true;
    liar.offer.stallsAt = (_, to) => to > 2 * PIECE;
    await using running = startDownload(client);
    const fetched = running.fetch([large, small], { hasPieces: false });
    client.find(liar, '127.0.0.2');
    while (running.sinks.get(large.file)?.origins.size !== 2) await new Promise(setImmediate);
    liar.offer.add(small);
    await running.lied;
    client.meet(honest);
    await fetched;
    assert.equal(running.lies.length, 1);
    assert.equal(running.received.get(honest.port), large.bytes.length + small.bytes.length);
  });

  suite('bytes of a liar that are on their way into a file when it is found', () => {
    const [large, small] = [madeFile(4 * PIECE, 12), madeFile(9, 13)];

    /**
     * Fetches both files: a liar gives some of the large one, and is found by the small one once `isUnderWay`. Fails unless
     * an honest member then gives all of both once.
     */
    async function assertDropped(
      options: { readonly stallsAt: number; readonly hashThread?: HashThread; readonly gate?: Promise<void> },
      isUnderWay: (received: number, running: ReturnType<typeof startDownload>) => boolean,
      letGo: () => void = () => undefined,
    ): Promise<ReturnType<typeof startDownload>> {
      await using client = await startMember();
      await using liar = await startMember({ files: [large], host: '127.0.0.2', partBytes: PART });
      await using honest = await startMember({ files: [large, small] });
      liar.offer.lies = true;
      liar.offer.stallsAt = (_, to) => to >= options.stallsAt;
      await using running = startDownload(client, options);
      const fetched = running.fetch([large, small], { hasPieces: false });
      client.find(liar, '127.0.0.2');
      while (!isUnderWay(running.received.get(liar.port) ?? 0, running)) await new Promise(setImmediate);
      liar.offer.add(small);
      const address = await running.lied;
      await new Promise(setImmediate);
      letGo();
      client.meet(honest);
      await fetched;
      assert.deepEqual(running.lies, [address]);
      assert.equal(running.received.get(honest.port), large.bytes.length + small.bytes.length);
      return running;
    }

    test('are not written if they are still being hashed', async () => {
      const hashed = Promise.withResolvers<void>();
      let isHashing = false;
      class SlowHashThread extends HashThread {
        override async sha1(bytes: Uint8Array): Promise<string> {
          if (bytes.length === PIECE) {
            isHashing = true;
            await hashed.promise;
          }
          return super.sha1(bytes);
        }
      }
      const { sinks } = await assertDropped(
        { stallsAt: PIECE + PART, hashThread: new SlowHashThread() },
        () => isHashing,
        hashed.resolve,
      );
      assert.equal(sinks.get(large.file)?.writers.size, 1);
    });

    test('are dropped if they are being written', async () => {
      const gate = Promise.withResolvers<void>();
      await assertDropped(
        { stallsAt: PIECE + PART, gate: gate.promise },
        (_, { sinks }) => sinks.get(large.file)?.writers.size === 1,
        gate.resolve,
      );
    });

    test('are not kept as the beginning of a range', async () => {
      await assertDropped({ stallsAt: 3 * PART }, (received) => received === 2 * PART);
    });
  });

  test('a file that another lane writes meanwhile keeps what a liar has sent', async () => {
    const [large, small] = [madeFile(4 * PIECE, 12), madeFile(9, 13)];
    await using client = await startMember();
    await using liar = await startMember({ files: [large], host: '127.0.0.2' });
    liar.offer.lies = true;
    liar.offer.stallsAt = (_, to) => to > 2 * PIECE;
    await using running = startDownload(client);
    void running.fetch([large, small], { hasPieces: false });
    client.find(liar, '127.0.0.2');
    while (running.sinks.get(large.file)?.origins.size !== 2) await new Promise(setImmediate);
    await running.download.pause(large.file);
    liar.offer.add(small);
    await running.lied;
    await new Promise(setImmediate);
    assert.deepEqual(running.sinks.get(large.file)?.missing()[0]?.from, 2 * PIECE);
  });

  test('the single sender after a wrong mixture is replaced if it falls silent', async () => {
    const file = madeFile(3 * PIECE, 6);
    await using client = await startMember();
    await using silent = await startMember({ files: [file] });
    await using other = await startMember({ files: [file] });
    silent.offer.stallsAt = (_, to) => to > PIECE;
    await using running = startDownload(client);
    const fetched = running.fetch([file], { hasPieces: false });
    client.meet(silent);
    while (running.sinks.get(file.file)?.origins.size !== 1) await new Promise(setImmediate);
    running.download.doubt(file.file, true);
    client.meet(other);
    await fetched;
    assert.ok(running.received.get(other.port)! >= 2 * PIECE);
  });

  test('on a slow disk, ranges without piece hashes take bounded memory', async () => {
    const { bytes } = madeFile(8 * MIB, 7);
    const many = Array.from({ length: 20 }, (_, index) => ({ file: madeFile(100, index).file, bytes }));
    await using client = await startMember();
    await using seeder = await startMember({ files: many });
    const disk = Promise.withResolvers<undefined>();
    const received = { bytes: 0 };
    await using download = new Download({
      hashThread: new HashThread(),
      members: client.members,
      line: client.peers.line,
      open: async () => ({
        missing: () => [{ from: 0, to: bytes.length }],
        putPiece: () => disk.promise,
        write: () => disk.promise,
        read: async () => bytes,
        dropFrom: async () => undefined,
      }),
      onBytes: (_, length) => (received.bytes += length),
      onVerified: () => undefined,
      onPiece: () => undefined,
      onLie: () => undefined,
      onComplete: () => undefined,
      onFailure: () => undefined,
      onNews: () => undefined,
      onKnown: () => undefined,
    });
    download.add(many.map(({ file }) => ({ file, sizeBytes: bytes.length })));
    client.meet(seeder);
    for (let before = -1; received.bytes > before || received.bytes < 30 * MIB; await sleep(500)) {
      before = received.bytes; // it looks for more requests twice as often
    }
    disk.reject(new Error('the disk is full'));
    assert.ok(received.bytes <= 64 * MIB, `${received.bytes} bytes wait`);
  });

  test('each verified piece is reported', async () => {
    await using client = await startMember();
    await using seeder = await startMember({ files });
    await using running = startDownload(client);
    client.meet(seeder);
    await running.fetch(files);
    const large = running.news.filter(([file]) => file === files[0]!.file).map(([, index]) => index);
    assert.deepEqual(new Set(large), new Set([0, 1, 2, 3, 4, 5]));
  });

  test('pieces are checked only if another member wants them, or the whole takes long', async () => {
    const [first, second, third] = [madeFile(9 * MIB, 4), madeFile(5 * MIB, 5), madeFile(5 * MIB, 6)] as const;
    await using client = await startMember();
    await using seeder = await startMember({ files: [first, second, third, files[1]!] });
    await using other = await startMember();
    await using running = startDownload(client, { leavesUnchecked: true });
    client.meet(seeder);
    await running.fetch([first, files[1]!]); // its rate must be known
    const pieces = (of: MadeFile): number => running.news.filter(([file]) => file === of.file).length;
    assert.equal(pieces(files[1]!), 0);
    assert.ok(pieces(first) > 0);
    await running.fetch([second]);
    assert.equal(pieces(second), 0);
    other.members.want([{ file: third.file, sizeBytes: third.bytes.length }]);
    client.meet(other);
    while (![...client.members.open].some((member) => member.wants(third.file))) {
      client.members.want([{ file: third.file, sizeBytes: third.bytes.length }]);
      await new Promise(setImmediate);
    }
    await running.fetch([third]);
    assert.equal(pieces(third), third.bytes.length / PIECE);
  });
});
