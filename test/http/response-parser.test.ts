import assert from 'node:assert/strict';
import { test, suite } from 'node:test';
import * as fc from 'fast-check';
import { ResponseParser } from '../../src/http/response-parser.ts';

interface Parsed {
  readonly statuses: number[];
  readonly body: string;
  readonly hasEnded: boolean;
  readonly isKept: boolean | undefined;
  readonly rest: string;
}

/** Parses text that arrives in parts of these lengths, over and over. */
function parse(text: string, lengths: readonly number[] = [text.length], closes = false): Parsed {
  const bytes = Buffer.from(text, 'latin1');
  const statuses: number[] = [];
  const body: Buffer[] = [];
  let isKept: boolean | undefined;
  let ends = 0;
  const parser = new ResponseParser({
    head: (head) => {
      statuses.push(head.statusCode);
      isKept = head.isKept;
    },
    body: (chunk) => void body.push(Buffer.from(chunk)),
    end: () => void ends++,
  });
  let at = 0;
  for (let turn = 0; at < bytes.length && !parser.hasEnded; turn++) {
    const part = bytes.subarray(at, at + Math.max(1, lengths[turn % lengths.length] ?? 1));
    const taken = parser.push(part);
    assert.ok(taken === part.length || parser.hasEnded);
    at += taken;
  }
  if (closes) parser.close();
  assert.equal(ends, parser.hasEnded ? 1 : 0);
  const rest = bytes.subarray(at).toString('latin1');
  return { statuses, body: Buffer.concat(body).toString('latin1'), hasEnded: parser.hasEnded, isKept, rest };
}

const ANSWERS: readonly (readonly [name: string, text: string, expected: Partial<Parsed>])[] = [
  [
    'with a length',
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1',
    { statuses: [200], body: 'hello', hasEnded: true, isKept: true, rest: 'HTTP/1.1' },
  ],
  [
    'in chunks, with an extension and trailers',
    'HTTP/1.1 206 Partial\r\nTransfer-Encoding: Chunked\r\n\r\n3;a=b\r\nhel\r\nA\r\nlo, world!\r\n0\r\nX: y\r\n\r\n+',
    { statuses: [206], body: 'hello, world!', hasEnded: true, isKept: true, rest: '+' },
  ],
  ['without a body', 'HTTP/1.1 304 \r\nContent-Length: 7\r\n\r\n', { statuses: [304], body: '', hasEnded: true }],
  [
    'after interim answers',
    'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n',
    { statuses: [100, 103, 200], body: '', hasEnded: true },
  ],
  [
    'of a server that closes the connection',
    'HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\n1',
    { body: '1', hasEnded: true, isKept: false },
  ],
  ['of HTTP/1.0', 'HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\n1', { hasEnded: true, isKept: false }],
  ['with the same length twice', 'HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n1', { body: '1' }],
];

suite('an answer', () => {
  for (const [name, text, expected] of ANSWERS)
    test(`${name}, however it arrives`, () => {
      const pick = (parsed: Parsed): object =>
        Object.fromEntries(Object.keys(expected).map((key) => [key, parsed[key as keyof Parsed]]));
      assert.deepEqual(pick(parse(text)), expected);
      const whole = parse(text);
      fc.assert(
        fc.property(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1 }), (lengths) =>
          assert.deepEqual(parse(text, lengths), whole),
        ),
      );
    });

  test('without a length ends with the connection', () => {
    const text = 'HTTP/1.1 200 OK\r\n\r\nhello';
    assert.deepEqual(parse(text), { statuses: [200], body: 'hello', hasEnded: false, isKept: false, rest: '' });
    assert.equal(parse(text, undefined, true).hasEnded, true);
  });

  test('is not complete if the connection ends inside it', () => {
    for (const text of [
      'HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello',
      'HTTP/1.1 200 OK\r\n',
      CHUNKED + '5\r\nhello\r\n',
    ])
      assert.equal(parse(text, undefined, true).hasEnded, false, text);
  });
});

const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';

suite('refuses', () => {
  for (const [name, text] of Object.entries({
    'another protocol': 'SSH-2.0-OpenSSH_9.2p1\r\n\r\n',
    'HTTP/2': 'HTTP/2 200 OK\r\n\r\n',
    'a status of two digits': 'HTTP/1.1 20 OK\r\n\r\n',
    'a change of the protocol': 'HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n',
    'a folded header': 'HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n',
    'a header without a name': 'HTTP/1.1 200 OK\r\n: b\r\n\r\n',
    'a blank before the colon': 'HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello',
    'a line feed in a header': 'HTTP/1.1 200 OK\r\nA: b\nContent-Length: 5\r\n\r\nhello',
    'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
    'a list of lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\n',
    'a length with a sign': 'HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n',
    'both a length and chunks': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n',
    'another transfer encoding': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
    'a chunk without a size': `${CHUNKED}x\r\n`,
    'a chunk of 2^52 bytes': `${CHUNKED}10000000000000\r\n`,
    'a chunk that is longer than its size': `${CHUNKED}2\r\nhello\r\n`,
    'a line of a chunk without end': `${CHUNKED}5;${'x'.repeat(2_000)}`,
    'headers without end': `HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(4_000)}`,
    'trailers without end': `${CHUNKED}0\r\n${'A: b\r\n'.repeat(4_000)}`,
  }))
    test(name, () => {
      assert.throws(() => parse(text), { message: /^the answer is not HTTP/ });
      assert.throws(() => parse(text, [1]), { message: /^the answer is not HTTP/ });
    });

  test('no bytes with another error', () => {
    const parts = fc.constantFrom(
      'HTTP/1.1 200 OK\r\n',
      '\r\n',
      'Content-Length: ',
      'Transfer-Encoding: chunked\r\n',
      '5',
      'hello',
      '\0',
      ': ',
      ' ',
    );
    fc.assert(
      fc.property(fc.array(fc.oneof(parts, fc.string({ unit: 'binary' })), { maxLength: 20 }), (texts) => {
        try {
          parse(texts.join(''));
        } catch (error) {
          assert.match((error as Error).message, /^the answer is not HTTP/);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});
