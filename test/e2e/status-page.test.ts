/** The status page, /health and /metrics of a real daemon, and bytes of other processes on its store. */
import assert from 'node:assert/strict';
import { cp } from 'node:fs/promises';
import { after, before, describe, test } from 'node:test';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MadeClosure } from '../../src/demo/closure.ts';
import { startChromium } from '../support/chromium.ts';
import { startHttpCache } from '../support/http-cache.ts';
import { ALONE, Lab, type CliProcess, narBytesOf } from '../support/lab.ts';
import { until } from '../support/update-lab.ts';

describe('the status page of a daemon', { timeout: 180_000 }, () => {
  let lab: Lab;
  let made: MadeClosure;
  before(async () => {
    lab = await Lab.open();
    made = await lab.closure([400_000, 30_000]);
  });
  after(() => lab[Symbol.asyncDispose]());

  const daemonOn = async (
    store: string,
    ...args: string[]
  ): Promise<{ url: string; daemon: CliProcess; close: () => Promise<unknown> }> => {
    const all = [
      'daemon',
      '--store',
      store,
      ...ALONE,
      '--trusted-public-key',
      made.publicKey,
      '--substituter-port',
      '0',
    ];
    const { process: daemon, ready } = await lab.service([...all, ...args]);
    return { url: String(ready['statusPage']).replace('/status', ''), daemon, close: () => daemon.stop() };
  };
  const textOf = async (url: string): Promise<string> => (await fetch(url)).text();

  test('it counts what a fetch in another process has received, also after a restart', async () => {
    const store = lab.path('store');
    await using cache = await startHttpCache(made.cacheDir);
    const first = await daemonOn(store);
    assert.equal((await fetch(`${first.url}/health`)).status, 200);
    assert.match(await textOf(`${first.url}/metrics`), /^narswarm_received_nars_total 0$/m);
    const what = ['--store', store, '--no-copy', '--trusted-public-key', made.publicKey, '--from', cache.url];
    assert.equal((await lab.run(['fetch', made.root, ...what, ...ALONE])).status, 0);
    const metrics = await textOf(`${first.url}/metrics`);
    const received = [...metrics.matchAll(/^narswarm_received_bytes_total\{.*\} (\d+)$/gm)];
    const bytes = await narBytesOf(made.cacheDir);
    assert.equal(
      received.reduce((sum, [, one]) => sum + Number(one), 0),
      bytes,
    );
    assert.match(metrics, /^narswarm_fetch_duration_seconds_count 1$/m);
    await first.close();

    const second = await daemonOn(store);
    const browser = await startChromium();
    const page = await browser.newPage();
    await page.goto(`${second.url}/`);
    assert.match((await page.textContent('#day')) ?? '', /4\d\d kB.*[1-9]\d* NARs received/s);
    await page.getByText('metrics').click();
    await page.getByText('narswarm_problems 0').waitFor();
    await browser.close();
    await second.close();
  });

  test('without the substituter, the page is there, and nothing of the store', async () => {
    const store = lab.path('store');
    await cp(made.cacheDir, store, { recursive: true });
    const { url, close } = await daemonOn(store, '--no-substituter');
    const [hash] = made.root.slice('/nix/store/'.length).split('-');
    for (const path of ['/nix-cache-info', `/${hash}.narinfo`]) assert.equal((await fetch(url + path)).status, 404);
    assert.equal((await fetch(`${url}/status`)).status, 200);
    await close();
  });

  test('what Nix fetches through the daemon counts, too, and its NARs are named while they arrive', async () => {
    await using cache = await startHttpCache(made.cacheDir);
    const { url, daemon, close } = await daemonOn(lab.path('store'), '--from', cache.url);
    const [hash] = made.root.slice('/nix/store/'.length).split('-');
    const text = await textOf(`${url}/${hash}.narinfo`);
    cache.faults = [{ kind: 'stall', match: /^\/nar\//, afterBytes: 100 }];
    const nar = textOf(`${url}/${/^URL: (.*)$/m.exec(text)?.[1]}`);
    const large = new RegExp(
      `<span title="/nix/store/[^"]*">lab-blob-0</span>\\s*<span class="num">\\d+ % of 4\\d\\d kB`,
    );
    await until(async () => {
      await sleep(100);
      const page = await textOf(`${url}/status`);
      return large.test(page) && page.includes(`from ${cache.url}`);
    }, daemon);
    cache.faults = [];
    await nar;
    await until(async () => {
      await sleep(100);
      const metrics = await textOf(`${url}/metrics`);
      return [/^narswarm_received_nars_total [1-9]/m, /^narswarm_sent_bytes_total\{to="nix"\} [1-9]/m].every((line) =>
        line.test(metrics),
      );
    }, daemon);
    await close();
  });
});
