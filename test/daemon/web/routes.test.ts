import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fastify, { type FastifyInstance } from 'fastify';
import { addWebRoutes } from '../../../src/daemon/web/routes.ts';
import type { DaemonView, Watch } from '../../../src/daemon/web/watch.ts';
import { STATUS_PAGE } from '../../../src/cli/status-page/page.ts';
import { newView, viewInUse } from '../../cli/status-page/view-fixture.ts';

const PATHS = ['/', '/status', '/health', '/metrics'];

function app(view: DaemonView, isOpen = false): FastifyInstance {
  const watch = { view: async () => view } as unknown as Watch;
  const made = fastify();
  addWebRoutes(made, { watch, page: STATUS_PAGE, isOpen });
  return made;
}

suite('the pages of the daemon’s HTTP port', () => {
  test('health: 200 and no problem, or 503 and the problems', async () => {
    const good = await app(newView()).inject('/health');
    assert.equal(good.statusCode, 200);
    assert.deepEqual(good.json()['problems'], []);
    const bad = await app(viewInUse()).inject('/health');
    assert.equal(bad.statusCode, 503);
    assert.deepEqual(bad.json()['problems'][0], { kind: 'subscription', name: 'lab', health: 'incomplete' });
    assert.equal(bad.json()['healthy'], false);
  });

  test('other machines get none of them, unless they are let in', async () => {
    for (const remoteAddress of ['192.0.2.7', '::ffff:192.168.1.4', 'fd00::7'])
      for (const url of PATHS) {
        assert.equal((await app(newView()).inject({ url, remoteAddress })).statusCode, 404);
        assert.ok((await app(newView(), true).inject({ url, remoteAddress })).statusCode < 400);
      }
    for (const remoteAddress of ['127.0.0.1', '::1', '::ffff:127.0.0.1'])
      assert.equal((await app(newView()).inject({ url: '/status', remoteAddress })).statusCode, 200);
  });

  test('a proxy on this machine does not make its clients local', async () => {
    for (const url of PATHS)
      assert.equal((await app(newView()).inject({ url, headers: { 'x-forwarded-for': '192.0.2.7' } })).statusCode, 404);
  });

  test('only viewers on this machine see which NARs are in flight', async () => {
    const [nar] = viewInUse().inFlight;
    assert.ok(nar);
    const page = async (remoteAddress: string): Promise<string> =>
      (await app(viewInUse(), true).inject({ url: '/status', remoteAddress })).body;
    assert.match(await page('127.0.0.1'), /chromium-unwrapped-152\.0<\/span>\s*<span class="num">58 % of 105 MB/);
    for (const remoteAddress of ['192.0.2.7', '::ffff:192.168.1.4']) {
      const body = await page(remoteAddress);
      assert.ok(!body.includes(nar.path));
      assert.match(body, /of internet saved/);
    }
  });

  test('the page forbids everything that is not its own, and names no other server', async () => {
    const { headers, body } = await app(viewInUse()).inject('/status');
    const policy = String(headers['content-security-policy']);
    assert.match(policy, /^default-src 'none'; /);
    assert.doesNotMatch(policy, /unsafe|\*/);
    assert.doesNotMatch(body, /(src|href)="(https?:)?\/\//);
    assert.equal(headers['cache-control'], 'no-store');
  });

  test('metrics: figures of the daemon and of its process, in Prometheus’ text format', async () => {
    const { body, headers } = await app(viewInUse()).inject('/metrics');
    assert.match(String(headers['content-type']), /^text\/plain; version=0\.0\.4/);
    for (const line of [
      /^narswarm_received_bytes_total\{source="lan_caches"\} \d/m,
      /^narswarm_sent_bytes_total\{to="members"\} 212000000000$/m,
      /^narswarm_sent_bytes_total\{to="nix"\} 58000000000$/m,
      /^narswarm_sent_bytes_total\{to="http"\} 11000000000$/m,
      /^narswarm_nars 18412$/m,
      /^narswarm_members\{network="local"\} 4$/m,
      /^narswarm_dht_nodes 214$/m,
      /^narswarm_map_age_seconds\{map="magnet:.*"\} 18000$/m,
      /^narswarm_fallbacks_total\{reason="fetched-again"\} 2$/m,
      /^narswarm_subscription_missing_paths\{name="lab"\} 3$/m,
      /^narswarm_fetch_duration_seconds_bucket\{le="1"\} 0$/m,
      /^process_resident_memory_bytes \d/m,
    ])
      assert.match(body, line);
  });
});
