import type { DaemonView } from '../../daemon/web/watch.ts';
import type { Replicas } from '../../store/replicas.ts';
import type { SubscriptionStatus } from '../../subscription/state/status.ts';
import { sourceInWords } from '../../subscription/subscription.ts';
import { failureSentence, groupByReason } from '../words/missing-paths.ts';
import { whenInWords } from '../words/times.ts';
import { formatSize } from '../words/values.ts';
import { html, type Html } from './html.ts';
import { counted, shortenerOf } from './words.ts';

/** Limit on paths shown for each reason. */
const SHOWN_PATHS = 20;

const HEALTH = {
  complete: ['good', 'complete'],
  incomplete: ['bad', 'incomplete'],
  stale: ['bad', 'out of date'],
  never: ['', 'not updated yet'],
} as const satisfies Record<SubscriptionStatus['health'], readonly [string, string]>;

export function subscriptionsSection(view: DaemonView): Html {
  const { subscriptions, facts, at } = view;
  const shorten = shortenerOf(view);
  return html`<section id="subscriptions">
    <h2>Subscriptions</h2>
    ${
      subscriptions.length === 0
        ? html`<p class="soft">None yet. <code>narswarm subscribe NAME SOURCE</code> adds one.</p>`
        : subscriptions.map((one) =>
            item(one, { isBusy: facts.updating.includes(one.subscription.name), now: at, shorten }),
          )
    }
  </section>`;
}

function item(
  status: SubscriptionStatus,
  {
    isBusy,
    now,
    shorten,
  }: { readonly isBusy: boolean; readonly now: Date; readonly shorten: (text: string) => string },
): Html {
  const { subscription, state, map, replicas, failure, lack } = status;
  const [tone, text] = HEALTH[status.health];
  const when = (time: string | Date): string => whenInWords(time, now);
  const isBad = status.health === 'incomplete' || status.health === 'stale';
  return html`<div class="item">
    <div class="head">
      <h3>${subscription.name}</h3>
      <span class="pill ${tone}">${text}</span>${isBusy ? html`<span class="pill">updating</span>` : undefined}
    </div>
    <dl>
      <dt>source</dt>
      <dd><code title="${sourceInWords(subscription)}">${shorten(sourceInWords(subscription))}</code></dd>
      ${state?.completeAsOf === undefined ? undefined : row('complete as of', when(state.completeAsOf))}
      ${map && row('its map', `made ${when(map.created)}; ${map.isExpired ? 'expired' : 'expires'} ${when(map.expires)}`)}
      ${state?.lastRun && row('last update', `${when(state.lastRun.at)}: ${formatSize(state.lastRun.bytes.peers)} from peers, ${formatSize(state.lastRun.bytes.upstream)} from caches`)}
      ${replicas && row('copies', copiesInWords(replicas))}
      ${isBad && failure !== undefined ? row('why', shorten(failureSentence(failure, lack))) : undefined}
    </dl>
    ${missing(status)}
  </div>`;
}

function row(name: string, text: string): Html {
  return html`<dt>${name}</dt>
    <dd>${text}</dd>`;
}

function missing({ subscription: { name }, state, lost }: SubscriptionStatus): Html | undefined {
  const isLost = lost !== undefined && lost.count > 0;
  const paths = isLost ? lost.missing : (state?.missing ?? []);
  const count = isLost ? lost.count : (state?.missingCount ?? 0);
  if (count === 0) return undefined;
  return html`<details id="missing-${name}">
    <summary>${counted(count, 'path')} missing</summary>
    ${groupByReason(paths).map(
      ({ reason, paths: of }) =>
        html`<p>${reason}</p>
          <ul class="paths">
            ${of.slice(0, SHOWN_PATHS).map((path) => html`<li><code>${path}</code></li>`)}
            ${of.length > SHOWN_PATHS ? html`<li>and ${of.length - SHOWN_PATHS} more</li>` : undefined}
          </ul>`,
    )}
  </details>`;
}

/** Says how many machines hold all roots, and how much is only here. */
function copiesInWords({ machines, roots }: Replicas): string {
  if (machines === 0) return 'no other machine was there to be asked';
  const holders = Math.min(...roots.map((root) => root.holders));
  const sole = new Map(roots.flatMap((root) => root.sole.map((nar) => [nar.nar, nar.sizeBytes] as const)));
  const bytes = [...sole.values()].reduce((sum, size) => sum + size, 0);
  const only = sole.size === 0 ? '' : `; ${counted(sole.size, 'NAR')} (${formatSize(bytes)}) only here`;
  return `${holders} of ${counted(machines, 'other machine')} ${holders === 1 ? 'holds' : 'hold'} all of it${only}`;
}
