import assert from 'node:assert/strict';
import { test, suite } from 'node:test';
import * as fc from 'fast-check';
import { parseHead } from '../../../src/http/connection/response-head.ts';
import { ResponseParser } from '../../../src/http/connection/response-parser.ts';

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
      ({ isKept } = head);
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
  if (!parser.isPlain) isKept = false;
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
  ['with a list of the same length', 'HTTP/1.1 200 OK\r\nContent-Length: 1, 01\r\n\r\n1', { body: '1', isKept: true }],
  [
    'with the encoding identity',
    'HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\nContent-Length: 1\r\n\r\n1',
    { body: '1', hasEnded: true },
  ],
  [
    'with a chunk of 16 digits and a long extension',
    `HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0000000000000001;${'x'.repeat(2_000)}\r\n1\r\n0\r\n\r\n+`,
    { body: '1', hasEnded: true, isKept: true, rest: '+' },
  ],
];

/** Answers that a proxy could read in another way. */
const DOUBTFUL: Readonly<Record<string, string>> = {
  'both a length and chunks':
    'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n+',
  'chunks in HTTP/1.0':
    'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n+',
  'bare lines': 'HTTP/1.1 200 OK\nContent-Length: 5\n\nhello+',
  'a bare line in a header': 'HTTP/1.1 200 OK\r\nA: b\nContent-Length: 5\r\n\r\nhello+',
  'bare lines between chunks': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n+',
  'a blank before a colon': 'HTTP/1.1 200 OK\r\nContent-Length : 7\r\nContent-Length: 5\r\n\r\nhello+',
  'a control character': 'HTTP/1.1 200 OK\r\nX: \x1B[31m\r\nContent-Length: 5\r\n\r\nhello+',
};

suite('an answer', () => {
  for (const [name, text] of Object.entries(DOUBTFUL))
    test(`that a proxy could read in another way is the last one on its connection: ${name}`, () => {
      const parsed = parse(text);
      assert.deepEqual(parsed, { statuses: [200], body: 'hello', hasEnded: true, isKept: false, rest: '+' });
      assert.deepEqual(parse(text, [1]), parsed);
    });

  test('joins folded headers, and leaves out those that no part reads', () => {
    const text = 'HTTP/1.1 200 OK\r\nA: b\r\n\t c\r\n\r\nX\x01: y\r\n\r\n';
    assert.equal(parse(text).statuses[0], 200);
    const { headers } = parseHead('HTTP/1.1 200 OK\r\nA: b\r\n\t c\r\nX Y: z\r\nD: \x01\r\n: e\r\nF:g \r\n');
    assert.deepEqual({ ...headers }, { a: 'b c', f: 'g' });
  });

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

  test('costs time in proportion to its headers, however they arrive', () => {
    const blanks = `A: ${' '.repeat(250_000)}\x01\r\n`;
    const repeated = 'A: b\r\n'.repeat(40_000);
    // quadratic ones take minutes
    for (const headers of [blanks, repeated]) {
      const text = `HTTP/1.1 200 OK\r\n${headers}Content-Length: 1\r\n\r\n1`;
      assert.equal(parse(text).body, '1');
      assert.equal(parse(text, [1]).body, '1');
    }
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
    'two lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n',
    'a list of lengths': 'HTTP/1.1 200 OK\r\nContent-Length: 5, 6\r\n\r\n',
    'a header without a colon': 'HTTP/1.1 200 OK\r\nA\r\n\r\n',
    'a NUL in a header': 'HTTP/1.1 200 OK\r\nA: \0\r\n\r\n',
    'a length with a sign': 'HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n',
    'another transfer encoding': 'HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n',
    'a chunk without a size': `${CHUNKED}x\r\n`,
    'a chunk of 2^52 bytes': `${CHUNKED}10000000000000\r\n`,
    'a chunk of 17 digits': `${CHUNKED}${'0'.repeat(16)}5\r\n`,
    'a negative chunk': `${CHUNKED}-5\r\n`,
    'a chunk that is longer than its size': `${CHUNKED}2\r\nhello\r\n`,
    'a line of a chunk without end': `${CHUNKED}5;${'x'.repeat(400_000)}`,
    'headers without end': `HTTP/1.1 200 OK\r\n${'A: b\r\n'.repeat(60_000)}`,
    'trailers without end': `${CHUNKED}0\r\n${'A: b\r\n'.repeat(60_000)}`,
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
