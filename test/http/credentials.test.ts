import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, it } from 'node:test';
import { HttpClient } from '../../src/http/client.ts';
import { findInNetrc, parseNetrc } from '../../src/http/netrc.ts';
import { makeCertificate } from '../support/certificate.ts';
import { readPort } from '../support/http-cache.ts';
import { serve } from '../support/odd-server.ts';
import type { Warning } from '../../src/warning.ts';

const basic = (pair: string): string => `Basic ${Buffer.from(pair).toString('base64')}`;

describe('netrc', () => {
  const find = (text: string, host = 'a.test', login?: string): string | undefined => {
    const entry = findInNetrc(parseNetrc(text), { host, login, mayDefault: true });
    return entry && `${entry.login}:${entry.password}`;
  };
  const files: [what: string, text: string, found: string | undefined][] = [
    ['one line', 'machine a.test login me password pw', 'me:pw'],
    ['several lines, CRLF, tabs', 'machine\ta.test\r\n\tlogin me\r\n\tpassword pw\r\n', 'me:pw'],
    ['the password first', 'machine a.test password pw login me', 'me:pw'],
    ['no login', 'machine a.test password pw', ':pw'],
    ['no password', 'machine a.test login me', 'me:'],
    ['the first of two', 'machine a.test login x password 1 machine a.test login y password 2', 'x:1'],
    ['another host before it', 'machine b.test login x password 1\nmachine a.test login me password pw', 'me:pw'],
    ['upper case', 'MACHINE A.TEST LOGIN me PASSWORD pw', 'me:pw'],
    ['quotes', String.raw`machine a.test login "m e" password "p\"w\\ \n#"`, 'm e:p"w\\ \n#'],
    ['comments', '# machine a.test login no password no\nmachine a.test # x\nlogin me # y\npassword pw#1', 'me:pw#1'],
    ['words that it has as a password', 'machine a.test login machine password default', 'machine:default'],
    ['an account', 'machine a.test account x login me password pw', 'me:pw'],
    ['a macro', 'macdef init\nmachine a.test login no password no\n\nmachine a.test login me password pw', 'me:pw'],
    ['default', 'machine b.test login x password 1\ndefault login me password pw', 'me:pw'],
    ['default before it', 'default login x password 1\nmachine a.test login me password pw', 'x:1'],
    ['nothing for it', 'machine ab.test login me password pw', undefined],
    ['nothing', '', undefined],
    ['noise', 'login password machine', undefined],
    ['an open quote', 'machine a.test login me password "pw', 'me:pw'],
  ];
  for (const [what, text, found] of files) it(`has ${what}`, () => assert.equal(find(text), found));

  it('applies to a host on any port, and to a login if one is known', () => {
    assert.equal(find('machine ::1 login me password pw', '[::1]'), 'me:pw');
    const two = 'machine a.test login x password 1 machine a.test login y password 2';
    assert.equal(find(two, 'a.test', 'y'), 'y:2');
    assert.equal(find(two, 'a.test', 'z'), undefined);
  });
});

describe('credentials', { timeout: 180_000 }, () => {
  let folder = '';
  let netrcFile = '';
  before(async () => {
    folder = await mkdtemp(join(tmpdir(), 'narswarm-netrc-'));
    netrcFile = join(folder, 'netrc');
    await writeFile(netrcFile, 'machine 127.0.0.1 login me password pw\ndefault login any password where');
  });
  after(() => rm(folder, { recursive: true }));

  /** A server that records requests and redirects them. */
  async function startServer(): Promise<
    { url: string; port: string; seen: (string | undefined)[]; location: string | undefined } & AsyncDisposable
  > {
    const state = { seen: [] as (string | undefined)[], location: undefined as string | undefined };
    const server = await serve((request, response) => {
      state.seen.push(request.headers.authorization);
      if (state.location === undefined) response.end('x');
      else response.writeHead(302, { location: state.location }).end();
      state.location = undefined;
    });
    return Object.assign(state, {
      url: server.url,
      port: new URL(server.url).port,
      [Symbol.asyncDispose]: () => server[Symbol.asyncDispose](),
    });
  }

  it('come from the netrc file, for every kind of request', async () => {
    await using server = await startServer();
    await using client = new HttpClient({ netrcFile });
    await client.getBytes(server.url, { maxBytes: 9 });
    await client.getIfChanged(server.url, { maxBytes: 9 });
    await client.download(server.url, { sink: () => undefined });
    assert.deepEqual(
      server.seen,
      Array.from({ length: 3 }, () => basic('me:pw')),
    );
    await client.getBytes(server.url.replace('127.0.0.1', 'localhost'), { maxBytes: 9 });
    assert.equal(server.seen.at(-1), basic('any:where'));
  });

  it('of the URL come first, and netrc completes the password of its user', async () => {
    await using server = await startServer();
    await using client = new HttpClient({ netrcFile });
    for (const [user, sent] of [
      ['you:own@', 'you:own'],
      ['me@', 'me:pw'],
      ['you@', 'you:'],
      ['a%40b:%zz@', 'a@b:%zz'],
    ] as const) {
      await client.getBytes(server.url.replace('//', `//${user}`), { maxBytes: 9 });
      assert.equal(server.seen.at(-1), basic(sent));
    }
  });

  it('stay with their origin: another host, another port, and a URL named by a narinfo get none', async () => {
    await using server = await startServer();
    await using other = await startServer();
    await using client = new HttpClient({ netrcFile });
    const withUser = server.url.replace('//', '//you:own@');
    for (const url of [withUser, server.url]) {
      for (const host of ['127.0.0.1', 'localhost']) {
        server.location = `http://${host}:${other.port}/x`;
        await client.getBytes(url, { maxBytes: 9 });
        await client.getBytes(`http://${host}:${other.port}/x`, { maxBytes: 9, linkedFrom: url });
      }
      server.location = `/elsewhere`;
      await client.getBytes(url, { maxBytes: 9 });
      server.location = `${server.url}/elsewhere`;
      await client.getBytes(url, { maxBytes: 9 });
    }
    assert.deepEqual(new Set(other.seen), new Set([undefined]));
    assert.equal(other.seen.length, 8);
    assert.deepEqual(new Set(server.seen.slice(0, 6)), new Set([basic('you:own')]));
    assert.deepEqual(new Set(server.seen.slice(6)), new Set([basic('me:pw')]));
  });

  it('are withheld from a cache that was found on the network, and not from the configured one at the same origin', async () => {
    await using server = await startServer();
    await using other = await startServer();
    await using client = new HttpClient({ netrcFile });
    await client.getBytes(server.url, { maxBytes: 9, isAnnounced: true });
    await client.getBytes(server.url.replace('//', '//you:own@'), { maxBytes: 9, isAnnounced: true });
    await client.getBytes(server.url, { maxBytes: 9 });
    assert.deepEqual(server.seen, [undefined, undefined, basic('me:pw')]);
    server.location = `http://127.0.0.1:${other.port}/x`;
    const away = client.getBytes(server.url, { maxBytes: 9, retries: 0, isAnnounced: true });
    await assert.rejects(away, {
      code: 'HTTP_FAILED',
      message: /a redirect to .* by a cache that nobody has configured/,
    });
    assert.deepEqual(other.seen, []);
  });

  it('of another host go to that host, if netrc has them', async () => {
    await using server = await startServer();
    await using other = await startServer();
    const file = join(folder, 'two');
    await writeFile(file, 'machine 127.0.0.1 login me password pw machine localhost login you password too');
    await using client = new HttpClient({ netrcFile: file });
    server.location = `http://localhost:${other.port}/x`;
    await client.getBytes(server.url, { maxBytes: 9 });
    assert.deepEqual(other.seen, [basic('you:too')]);
  });

  it('never go over plain http if https led there, though a redirect is followed as in Nix', async () => {
    await using certificate = await makeCertificate();
    await using plain = await startServer();
    let location = '';
    const server = createServer(certificate, (_, response) => response.writeHead(302, { location }).end());
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const file = join(folder, 'both');
    await writeFile(file, 'machine 127.0.0.1 login me password pw machine localhost login you password too');
    await using client = new HttpClient({ netrcFile: file, caFile: certificate.caFile, retries: 0 });
    const url = `https://127.0.0.1:${readPort(server)}/x`;
    for (const host of ['127.0.0.1', 'localhost', 'me:pw@127.0.0.1']) {
      location = `http://${host}:${plain.port}/x`;
      assert.ok(await client.getBytes(url, { maxBytes: 9 }));
      assert.ok(await client.getBytes(url.replace('//', '//you:own@'), { maxBytes: 9 }));
      assert.ok(await client.getBytes(location, { maxBytes: 9, linkedFrom: url }));
    }
    assert.deepEqual(plain.seen, Array(9).fill(undefined));
    server.closeAllConnections();
    server.close();
  });

  it('are explained after a 401 or 403, and those of the proxy after a 407', async () => {
    let status = 407;
    await using server = await serve((_, response) => response.writeHead(status).end());
    const fail = async (options: { netrcFile?: string }, url = server.url): Promise<string> => {
      await using client = new HttpClient({ retries: 0, ...options });
      const error: unknown = await client.download(url, { sink: () => undefined }).catch((reason: unknown) => reason);
      return error instanceof Error ? error.message : '';
    };
    assert.match(await fail({ netrcFile }), /407: the proxy wants another user or password: correct its address/);
    for (status of [401, 403]) {
      assert.match(await fail({ netrcFile }), new RegExp(`${status}: with the password of 127.0.0.1 in .*/netrc$`));
    }
    assert.match(await fail({ netrcFile: join(folder, 'none') }), /netrc file .*\/none does not exist$/);
    await writeFile(join(folder, 'empty'), '');
    assert.match(await fail({ netrcFile: join(folder, 'empty') }), /empty has no password for 127\.0\.0\.1$/);
    const text = await fail({ netrcFile }, server.url.replace('//', '//you:s3cret@'));
    assert.match(text, /with the user and the password of the URL$/);
    assert.doesNotMatch(text, /s3cret/);
  });

  it('that cannot be read cause one warning, and caches without a password still work', async () => {
    await using server = await startServer();
    const file = join(folder, 'directory');
    await mkdir(file); // root may read any file
    const warnings: Warning[] = [];
    await using client = new HttpClient({ netrcFile: file, onWarning: (warning) => void warnings.push(warning) });
    await client.getBytes(server.url, { maxBytes: 9 });
    await client.getBytes(server.url, { maxBytes: 9 });
    assert.deepEqual(server.seen, [undefined, undefined]);
    assert.deepEqual(warnings, [{ kind: 'unreadable-netrc', file, reason: 'EISDIR' }]);
    await using endless = new HttpClient({
      netrcFile: '/dev/zero',
      onWarning: (warning) => void warnings.push(warning),
    });
    await endless.getBytes(server.url, { maxBytes: 9 });
    const reason = 'it has more than 1048576 bytes';
    assert.deepEqual(warnings[1], { kind: 'unreadable-netrc', file: '/dev/zero', reason });
  });
});
