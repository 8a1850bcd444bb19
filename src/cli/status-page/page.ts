import { createHash } from 'node:crypto';
import { hostname } from 'node:os';
import type { Problem } from '../../daemon/web/health.ts';
import type { Page } from '../../daemon/web/routes.ts';
import { farBytes, nearBytes, savedBytes, type TrafficSum } from '../../daemon/web/traffic-history.ts';
import type { DaemonView } from '../../daemon/web/watch.ts';
import { TRAFFIC_SOURCES } from '../../store/traffic.ts';
import { failureInWords, mappedSentence, wayOutOf } from '../port-mapping.ts';
import { whenInWords } from '../words/times.ts';
import { formatSize } from '../words/values.ts';
import { bars, legend, meter, shareBar } from './charts.ts';
import { Html, html } from './html.ts';
import { membersSection } from './members.ts';
import { narsInFlight } from './in-flight.ts';
import { SCRIPT } from './script.ts';
import { STYLE } from './style.ts';
import { subscriptionsSection } from './subscriptions.ts';
import { counted, grouped, shortenerOf } from './words.ts';

/** Two machines that exchange. */
const ICON =
  'data:image/svg+xml,%3Csvg xmlns=%22http://www.w3.org/2000/svg%22 viewBox=%220 0 16 16%22%3E%3Ccircle cx=%225%22 cy=%225%22 r=%224%22 fill=%22%230e9f6e%22/%3E%3Ccircle cx=%2211%22 cy=%2211%22 r=%224%22 fill=%22%23e08a1e%22/%3E%3C/svg%3E';

/** The status page of a daemon. Only its own style and script run, and only this server is asked. */
export const STATUS_PAGE: Page = {
  policy: [
    "default-src 'none'",
    `style-src '${hashOf(STYLE)}'`,
    `script-src '${hashOf(SCRIPT)}'`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; '),
  html: (view) => statusPage(view).text,
};

function statusPage(view: DaemonView): Html {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <noscript><meta http-equiv="refresh" content="30" /></noscript>
        <title>narswarm on ${hostname()}</title>
        <link rel="icon" href="${ICON}" />
        ${new Html(`<style>${STYLE}</style>`)}
      </head>
      <body>
        <div id="lost" role="status" hidden>The daemon does not answer. These are its last figures.</div>
        <main>
          ${topSection(view)} ${problemsSection(view)} ${monthSection(view)} ${nowSection(view)} ${daySection(view)}
          ${subscriptionsSection(view)} ${membersSection(view.facts)} ${mapsSection(view)}
        </main>
        <footer>
          File store <code>${view.facts.storeDir}</code>. For programs: <a href="/metrics">metrics</a>,
          <a href="/health">health</a>.
        </footer>
        ${new Html(`<script>${SCRIPT}</script>`)}
      </body>
    </html> `;
}

function topSection({ problems, facts, at }: DaemonView): Html {
  const isGood = problems.length === 0;
  return html`<section id="top">
    <h1>narswarm on ${hostname()}</h1>
    <span class="pill ${isGood ? 'good' : 'bad'}">${isGood ? 'all is well' : counted(problems.length, 'problem')}</span>
    <span class="soft small"
      >version ${facts.version}, scope ${facts.scope}, started ${whenInWords(facts.startedAt, at)}</span
    >
  </section>`;
}

function problemsSection(view: DaemonView): Html | undefined {
  const { problems } = view;
  const shorten = shortenerOf(view);
  if (problems.length === 0) return undefined;
  return html`<section id="problems">
    <ul class="problems">
      ${problems.map((problem) => html`<li>${shorten(problemInWords(problem))}</li>`)}
    </ul>
  </section>`;
}

/** Names the problems, each with the way out. */
export function problemInWords(problem: Problem): string {
  switch (problem.kind) {
    case 'subscription':
      return problem.health === 'stale'
        ? `${problem.name} is out of date, or has lost paths: see below, and run narswarm update ${problem.name}`
        : `${problem.name} is not complete: see below, and run narswarm update ${problem.name}`;
    case 'unreadable':
      return 'the state of the subscriptions cannot be read: narswarm status says why';
    case 'map-not-found':
      return `no edition of the hash map ${problem.map} was found: is its publisher running?`;
    case 'map-expired':
      return `the hash map ${problem.map} has expired: its publisher must publish again`;
    case 'dht-silent':
      return 'no node of the DHT answers: narswarm doctor says what is in the way';
    case 'port-not-mapped':
      return `${failureInWords(problem.reason, problem.mapping)}: ${wayOutOf(problem.reason)}`;
    default:
      return 'this machine’s own hash map has expired';
  }
}

function monthSection({ month, days, at }: DaemonView): Html {
  const names = days.map(({ at: day, sum }) => ({ sum, name: day.toISOString().slice(0, 10) }));
  return html`<section id="month">
    <div class="wide">
      <div>
        ${figure(savedBytes(month))}
        <p class="lead">of internet saved in the last 30 days</p>
        ${sources(month)}
      </div>
      <div>
        ${bars(names)}
        <div class="axis"><span>${names[0]?.name ?? ''}</span><span>today, ${at.toISOString().slice(0, 10)}</span></div>
      </div>
    </div>
  </section>`;
}

function daySection({ day, hours, at }: DaemonView): Html {
  const clock = (time: Date): string => `${String(time.getHours()).padStart(2, '0')}:00`;
  const near = nearBytes(day);
  const far = farBytes(day);
  const chart = html`${bars(hours.map(({ at: hour, sum }) => ({ sum, name: clock(hour) })))}
    <div class="axis"><span>${clock(hours[0]?.at ?? at)}</span><span>now</span></div>`;
  return html`<section id="day">
    <h2>The last 24 hours</h2>
    ${near + far === 0 ? undefined : html`<p class="lead">${formatSize(savedBytes(day))} saved, ${formatSize(far)} from the internet</p>`}
    ${sources(day)} ${near + far === 0 ? undefined : chart}
    <p class="small soft">
      ${counted(day.nars, 'NAR')} received; ${formatSize(day.given.sent)} given to peers,
      ${formatSize(day.given.overHttp)} to other machines over HTTP, ${formatSize(day.given.toNix)} to Nix on this
      machine.
    </p>
  </section>`;
}

/** Says where the bytes came from, or that none came. */
function sources(sum: TrafficSum): Html {
  if (nearBytes(sum) + farBytes(sum) === 0) return html`<p class="soft">Nothing was fetched.</p>`;
  return html`${shareBar(sum)} ${legend(sum.from)}`;
}

function figure(bytes: number): Html {
  const [value = '', unit = ''] = formatSize(bytes).split(' ');
  return html`<p class="figure">${value}<small>${unit}</small></p>`;
}

function nowSection({ running, inFlight, rates, facts }: DaemonView): Html {
  const total = TRAFFIC_SOURCES.reduce((sum, source) => sum + rates[source], 0);
  const perSecond = (bytes: number): string => `${formatSize(bytes)}/s`;
  const { updating } = facts;
  if (running.length === 0 && inFlight.length === 0 && total === 0)
    return html`<section id="now">
      <h2>Now</h2>
      <p class="soft">
        ${updating.length > 0 ? `Updating ${updating.join(', ')}; no bytes are arriving.` : 'Nothing is being fetched.'}
      </p>
    </section>`;
  return html`<section id="now">
    <div class="head">
      <h2>Fetching now${updating.length > 0 ? `: ${updating.join(', ')}` : ''}</h2>
      <b class="num">${perSecond(total)}</b>
    </div>
    ${shareBar({ from: rates })} ${legend(rates, perSecond)}
    ${running.map(
      ({ downloads: { nars, bytes, doneNars, doneBytes } }) =>
        html`<div class="item">
          <span class="num">${formatSize(Math.min(doneBytes, bytes))} of ${formatSize(bytes)}</span>
          <span class="soft num">${grouped(doneNars)} of ${counted(nars, 'NAR')}</span>${meter(doneBytes, bytes)}
        </div>`,
    )}
    ${narsInFlight(inFlight)}
  </section>`;
}

function mapsSection(view: DaemonView): Html {
  const { facts, at } = view;
  const { maps, published, dht, port, mapPort, portMapping } = facts;
  const shorten = shortenerOf(view);
  const edition = (one: { readonly created: string; readonly expires: string; readonly records: number }): string =>
    `${counted(one.records, 'NAR')}, made ${whenInWords(one.created, at)}, ${Date.parse(one.expires) < at.getTime() ? 'expired' : 'expires'} ${whenInWords(one.expires, at)}`;
  return html`<section id="maps">
    <h2>Hash maps and network</h2>
    ${maps.map(
      (map) =>
        html`<div class="item">
          <code title="${map.address}">${shorten(map.address)}</code>
          <p class="small soft">${map.edition === null ? 'not found yet' : edition(map.edition)}</p>
        </div>`,
    )}
    ${
      published === null
        ? undefined
        : html`<div class="item">
            <b>Published by this machine:</b> <code>${published.address}</code>
            <p class="small soft">${edition(published.edition)}</p>
          </div>`
    }
    ${maps.length === 0 && published === null ? html`<p class="soft">No publisher is followed. Neighbours need none.</p>` : undefined}
    <dl class="item">
      <dt>peers</dt>
      <dd>TCP port ${port}</dd>
      ${
        mapPort === null
          ? undefined
          : html`<dt>maps over HTTP</dt>
              <dd>TCP port ${mapPort}</dd>`
      }
      ${
        portMapping === null || portMapping.ports.length === 0
          ? undefined
          : html`<dt>router</dt>
              <dd>${mappedSentence(portMapping)}</dd>`
      }
      <dt>DHT</dt>
      <dd>${dht === null ? 'not used' : `${counted(dht.nodes, 'node')} known, UDP port ${dht.port}`}</dd>
    </dl>
  </section>`;
}

function hashOf(text: string): string {
  return `sha256-${createHash('sha256').update(text).digest('base64')}`;
}
