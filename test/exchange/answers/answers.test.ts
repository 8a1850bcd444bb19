import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Answers } from '../../../src/exchange/answers/answers.ts';
import { LeastSent } from '../../../src/exchange/answers/least-sent.ts';
import { EmptyOffer } from '../../../src/exchange/answers/offer.ts';
import { RequestsRoom } from '../../../src/exchange/answers/requests-room.ts';
import {
  FEW_WAITING_REQUEST_BYTES,
  MAX_ALL_WAITING_REQUEST_BYTES,
  MAX_HOST_WAITING_REQUEST_BYTES,
  MAX_WAITING_REQUEST_BYTES,
} from '../../../src/wire/bounds.ts';
import { madeFile } from '../exchange-fixture.ts';

const { file } = madeFile(10);

interface Asked {
  readonly answers: Answers;
  /** Sends requests until no more may wait. @returns their number */
  readonly fill: () => number;
  /** Makes room for answers. */
  readonly answer: () => void;
  readonly refused: number[];
  readonly readOn: Promise<void>;
}

/** Answers for a member that asks and reads nothing. */
function askedInVain(requestsRoom: RequestsRoom, host = '127.0.0.1'): Asked {
  let hasRoom = false;
  const refused: number[] = [];
  const { promise: readOn, resolve } = Promise.withResolvers<void>();
  const answers = new Answers({
    offer: new EmptyOffer(),
    address: `${host}:1`,
    takeTurn: (part) => part(),
    mayHave: () => true,
    leastSent: new LeastSent(),
    uploadLimit: undefined,
    takeRoom: () => hasRoom,
    admitNarInfo: () => true,
    requestsRoom: requestsRoom.of(host),
    readOn: resolve,
    unsentBytes: () => 0,
    extensionId: () => 1,
    send: (message) => message.kind === 'refuse' && refused.push(message.id),
    sendBytes: () => assert.fail(),
    onUpload: () => assert.fail(),
  });
  const fill = (): number => {
    const before = requestsRoom.usedBytes;
    for (let id = 0; id < 10_000 && !answers.isFull; id++)
      assert.ok(answers.ask({ kind: 'get', id, file, from: 0, length: 10 }));
    return requestsRoom.usedBytes - before;
  };
  const answer = (): void => {
    hasRoom = true;
    answers.onRoom();
  };
  return { answers, fill, answer, refused, readOn };
}

test('waiting requests of a member are bounded, and it is read again once most are answered', async () => {
  const room = new RequestsRoom();
  const { answers, fill, answer, refused, readOn } = askedInVain(room);
  const bytes = fill();
  assert.ok(bytes >= MAX_WAITING_REQUEST_BYTES && bytes < MAX_WAITING_REQUEST_BYTES + 1000, `${bytes} bytes`);
  answer();
  await readOn;
  assert.ok(!answers.isFull && refused.length > 500);
});

test('waiting requests of all members are bounded, and answers make room', () => {
  const room = new RequestsRoom();
  const crowd = Array.from({ length: 200 }, (_, index) => askedInVain(room, `127.0.1.${index}`));
  for (const { fill } of crowd) fill();
  const fewBytes = 200 * (FEW_WAITING_REQUEST_BYTES + 1000);
  assert.ok(room.usedBytes < MAX_ALL_WAITING_REQUEST_BYTES + MAX_WAITING_REQUEST_BYTES + fewBytes);
  const bytes = askedInVain(room).fill();
  assert.ok(bytes >= FEW_WAITING_REQUEST_BYTES && bytes < FEW_WAITING_REQUEST_BYTES + 1000, `${bytes} bytes`);
  for (const { answers } of crowd) answers.close();
  assert.equal(room.usedBytes, bytes);
});

test('waiting requests of one host are bounded, and leave room to others', () => {
  const room = new RequestsRoom();
  const crowd = Array.from({ length: 50 }, () => askedInVain(room, '127.0.1.1'));
  for (const { fill } of crowd) fill();
  const fewBytes = 50 * (FEW_WAITING_REQUEST_BYTES + 1000);
  assert.ok(room.usedBytes < MAX_HOST_WAITING_REQUEST_BYTES + MAX_WAITING_REQUEST_BYTES + fewBytes);
  assert.ok(askedInVain(room, '127.0.1.2').fill() >= MAX_WAITING_REQUEST_BYTES);
});
