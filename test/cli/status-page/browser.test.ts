/** The status page in a real browser: on a phone and a desktop, light and dark, with and without JavaScript. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import type { Browser, BrowserContextOptions, Page } from 'playwright-core';
import { startChromium } from '../../support/chromium.ts';
import { servePage } from './served-page.ts';
import { newView, viewInUse } from './view-fixture.ts';

const DESKTOP = { width: 1280, height: 900 };
const PHONE = { width: 360, height: 740 };

describe('the status page in Chromium', { timeout: 180_000 }, () => {
  let browser: Browser;
  before(async () => {
    browser = await startChromium();
  });
  after(() => browser.close());

  /** Opens a page. Its errors, and requests to anywhere else, are in `faults`. */
  async function open(url: string, options: BrowserContextOptions): Promise<{ page: Page; faults: string[] }> {
    const page = await (await browser.newContext(options)).newPage();
    const faults: string[] = [];
    page.on('console', (message) => faults.push(message.text()));
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('request', (request) => {
      const asked = request.url();
      if (!asked.startsWith(url) && !asked.startsWith('data:')) faults.push(asked);
    });
    await page.goto(url);
    return { page, faults };
  }

  for (const [name, viewport] of [
    ['desktop', DESKTOP],
    ['phone', PHONE],
  ] as const)
    for (const colorScheme of ['light', 'dark'] as const)
      test(`${name}, ${colorScheme}: nothing is wider than the screen, and text has enough contrast`, async () => {
        for (const view of [viewInUse(), newView()]) {
          await using served = await servePage(view);
          const { page, faults } = await open(served.url, { viewport, colorScheme });
          assert.equal(await page.evaluate('document.documentElement.scrollWidth'), viewport.width);
          const style = async (selector: string, key: string): Promise<string> =>
            String(await page.evaluate(`getComputedStyle(document.querySelector('${selector}'))['${key}']`));
          const back = await style('#subscriptions', 'backgroundColor');
          const texts = await Promise.all(['h2', '.soft', '.figure'].map((one) => style(one, 'color')));
          for (const text of texts) assert.ok(contrast(text, back) >= 3, `${text} on ${back}`);
          assert.equal(luminance(back) > 0.5, colorScheme === 'light');
          assert.deepEqual(faults, []);
          await page.context().close();
        }
      });

  test('it replaces its figures by itself, leaves opened details open, and says when the daemon is gone', async () => {
    await using served = await servePage(viewInUse());
    const { page, faults } = await open(served.url, { viewport: DESKTOP });
    await page.getByText('3 paths missing').click();
    await page.getByText('firefox-unwrapped-147.0', { exact: false }).last().waitFor({ state: 'visible' });
    await page.evaluate(`document.querySelector('#now').setAttribute('data-old', '')`);
    const view = viewInUse();
    served.view = { ...view, rates: { ...view.rates, neighbours: 123_000_000 }, problems: [] };
    await page.getByText('123 MB/s').waitFor();
    await page.getByText('all is well').waitFor();
    assert.equal(await page.locator('#problems').count(), 0);
    assert.equal(await page.locator('#now[data-old]').count(), 0);
    assert.ok(await page.getByText('firefox-unwrapped-147.0', { exact: false }).last().isVisible());
    assert.deepEqual(faults, []);

    served.view = undefined;
    await page.getByText('The daemon does not answer').waitFor({ state: 'visible' });
    served.view = view;
    await page.getByText('The daemon does not answer').waitFor({ state: 'hidden' });
    assert.equal(await page.locator('#problems').count(), 1);
  });

  test('without JavaScript, everything can be read', async () => {
    await using served = await servePage(viewInUse());
    const { page } = await open(served.url, { viewport: DESKTOP, javaScriptEnabled: false });
    const text = (await page.textContent('main')) ?? '';
    for (const words of ['of internet saved', '71.0 MB/s', 'desktop', '192.168.1.23', '17,980 NARs', 'expires'])
      assert.ok(text.includes(words), words);
    await page.getByText('3 paths missing').click();
    assert.ok(await page.getByText('rustc-1.95.0', { exact: false }).isVisible());
  });

  test('a name with HTML in it is shown as text', async () => {
    const view = viewInUse();
    const [first] = view.subscriptions;
    assert.ok(first);
    const source = '"><img src=x onerror="document.title=1"><script>document.title=2</script>';
    await using served = await servePage({
      ...view,
      subscriptions: [{ ...first, subscription: { ...first.subscription, source } }],
    });
    const { page, faults } = await open(served.url, { viewport: DESKTOP });
    assert.equal(await page.locator('#subscriptions code').first().textContent(), source);
    assert.equal(await page.locator('main img, main script').count(), 0);
    assert.deepEqual(faults, []);
  });
});

/** The ratio of WCAG 2. */
function contrast(one: string, other: string): number {
  const [dark = 0, light = 0] = [luminance(one), luminance(other)].toSorted((a, b) => a - b);
  return (light + 0.05) / (dark + 0.05);
}

function luminance(color: string): number {
  const [red = 0, green = 0, blue = 0] = (color.match(/[\d.]+/g) ?? []).map((part) => {
    const value = Number(part) / 255;
    return value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}
