/** Hosts that no connection reaches: a machine that is offline does not wait for each of its requests in turn. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { isNarswarmError } from '../../../src/errors.ts';
import { HttpClient } from '../../../src/http/client.ts';
import { startDeafServer } from '../../support/deaf-server.ts';
import { serveText } from '../../support/odd-server.ts';

const HASTE = { connectTimeoutMs: 100, backoffMs: 1, retries: 3 } as const;

suite('a host that no connection reaches', { timeout: 180_000 }, () => {
  async function failureOf(asking: Promise<unknown>): Promise<{ attempts: unknown; cause: unknown }> {
    const error: unknown = await asking.then(
      () => assert.fail('it answers'),
      (failure: unknown) => failure,
    );
    assert.ok(isNarswarmError(error, 'HTTP_FAILED'), String(error));
    return { attempts: error.facts['attempts'], cause: error.cause };
  }

  test('gets all attempts while they take little time', async () => {
    await using deaf = await startDeafServer('127.0.0.3', 0);
    await using client = new HttpClient({ ...HASTE, giveUpMs: 60_000 });
    const asking = client.getBytes(`http://127.0.0.3:${deaf.port}/x`, { maxBytes: 1 });
    assert.equal((await failureOf(asking)).attempts, 4);
  });

  test('is given up after some time, for all that wait for it and for what is asked next', async () => {
    await using deaf = await startDeafServer('127.0.0.3', 0);
    await using client = new HttpClient({ ...HASTE, giveUpMs: 50, connectionsPerOrigin: 1 });
    const ask = (name: number): Promise<unknown> =>
      client.getBytes(`http://127.0.0.3:${deaf.port}/${name}`, { maxBytes: 1 });
    const failures = await Promise.all([1, 2, 3, 4, 5, 6].map((name) => failureOf(ask(name))));
    failures.push(await failureOf(ask(7)));
    assert.deepEqual(
      failures.map(({ attempts }) => attempts),
      failures.map(() => 1),
    );
    const [first, ...others] = failures;
    for (const { cause } of others) assert.equal(cause, first?.cause, 'nobody connected again');
  });

  test('gets all attempts if a connection reached it before', async () => {
    await using client = new HttpClient({ ...HASTE, giveUpMs: 0 });
    const server = await serveText('HTTP/1.1 200 OK\r\ncontent-length: 1\r\nconnection: close\r\n\r\nx');
    const ask = (): Promise<unknown> => client.getBytes(`${server.url}/x`, { maxBytes: 1 });
    await ask();
    await server[Symbol.asyncDispose]();
    assert.equal((await failureOf(ask())).attempts, 4);
  });
});
