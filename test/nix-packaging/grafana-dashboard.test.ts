import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Metrics } from '../../src/daemon/web/metrics.ts';
import { viewInUse } from '../cli/status-page/view-fixture.ts';

interface Dashboard {
  readonly templating: { readonly list: readonly { readonly definition?: string }[] };
  readonly panels: readonly {
    readonly title: string;
    readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
    readonly targets: readonly { readonly expr: string }[];
  }[];
}

const FILE = new URL('../../nix/grafana-dashboard.json', import.meta.url);

test('every metric and label of the Grafana dashboard exists, and every metric of narswarm is on it', async () => {
  const { panels, templating } = JSON.parse(readFileSync(FILE, 'utf8')) as Dashboard;
  const metrics = new Metrics();
  metrics.onFetch(1);
  metrics.onRequest('/status', 1);
  const text = await metrics.text(viewInUse());
  const names = new Set([...text.matchAll(/^(\w+)(?=[{ ])/gm)].map(([, name = '']) => name));
  const labels = new Set([...text.matchAll(/(\w+)="/g)].map(([, label]) => label));
  const expressions = [
    ...panels.flatMap(({ targets }) => targets.map(({ expr }) => expr)),
    ...templating.list.flatMap(({ definition }) => definition ?? []),
  ].join('\n');
  const used = new Set(expressions.match(/\b(narswarm|process|nodejs)_\w+/g));
  assert.deepEqual(
    [...used].filter((name) => !names.has(name)),
    [],
  );
  for (const [, list = ''] of expressions.matchAll(/by \(([^)]*)\)/g))
    for (const label of list.split(', ')) assert.ok(labels.has(label), label);
  const unused = [...names].filter((name) => /^narswarm_(?!.*_(sum|count)$)/.test(name) && !used.has(name));
  assert.deepEqual(unused.toSorted(), [
    'narswarm_map_expires_timestamp_seconds',
    'narswarm_received_nars_total',
    'narswarm_served_nars_total',
    'narswarm_subscription_complete',
  ]);
});

test('no panel of the dashboard covers another', () => {
  const { panels } = JSON.parse(readFileSync(FILE, 'utf8')) as Dashboard;
  const taken = new Map<string, string>();
  for (const { title, gridPos } of panels)
    for (let x = gridPos.x; x < gridPos.x + gridPos.w; x++)
      for (let y = gridPos.y; y < gridPos.y + gridPos.h; y++) {
        assert.equal(taken.get(`${x} ${y}`), undefined, title);
        assert.ok(x < 24, title);
        taken.set(`${x} ${y}`, title);
      }
});
