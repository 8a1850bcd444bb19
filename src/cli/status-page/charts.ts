import { farBytes, nearBytes, type TrafficSum } from '../../daemon/web/traffic-history.ts';
import { TRAFFIC_SOURCES, type TrafficSource } from '../../store/traffic.ts';
import { formatSize } from '../words/values.ts';
import { html, type Html } from './html.ts';

export const SOURCE_NAMES: Readonly<Record<TrafficSource, string>> = {
  neighbours: 'neighbours',
  lanCaches: 'caches on this network',
  cohort: 'members elsewhere',
  clients: 'BitTorrent clients elsewhere',
  caches: 'caches on the internet',
};

/** Height and width of a bar chart, in units of its own. */
const HEIGHT = 100;
const WIDTH = 1_000;

/** One bar, divided by sender. */
export function shareBar({ from }: Pick<TrafficSum, 'from'>): Html {
  const total = TRAFFIC_SOURCES.reduce((sum, source) => sum + from[source], 0);
  let x = 0;
  const parts = TRAFFIC_SOURCES.filter((source) => from[source] > 0).map((source) => {
    const width = (from[source] / total) * WIDTH;
    x += width;
    return html`<rect class="${source}" x="${x - width}" y="0" width="${width}" height="1" />`;
  });
  return html`<svg class="share" viewBox="0 0 ${WIDTH} 1" preserveAspectRatio="none" aria-hidden="true">${parts}</svg>`;
}

/** The senders that sent something, with their colours. */
export function legend(
  from: Readonly<Record<TrafficSource, number>>,
  inWords: (bytes: number) => string = formatSize,
): Html {
  const items = TRAFFIC_SOURCES.filter((source) => from[source] > 0).map(
    (source) =>
      html`<li>
        <svg viewBox="0 0 1 1" aria-hidden="true"><circle class="${source}" cx=".5" cy=".5" r=".5" /></svg
        >${SOURCE_NAMES[source]} <b class="num">${inWords(from[source])}</b>
      </li>`,
  );
  return html`<ul class="legend">
    ${items}
  </ul>`;
}

/** A part of a whole. */
export function meter(part: number, whole: number): Html {
  const width = whole <= 0 ? 0 : Math.min(1, part / whole) * WIDTH;
  return html`<svg class="meter" viewBox="0 0 ${WIDTH} 1" preserveAspectRatio="none" aria-hidden="true">
    <rect class="neighbours" x="0" y="0" width="${width}" height="1" />
  </svg>`;
}

export interface Span {
  readonly sum: TrafficSum;
  /** The time, for people. */
  readonly name: string;
}

/** Bars side by side: bytes from this network below, bytes from elsewhere on top. */
export function bars(spans: readonly Span[]): Html {
  const most = Math.max(1, ...spans.map(({ sum }) => nearBytes(sum) + farBytes(sum)));
  const step = WIDTH / spans.length;
  const columns = spans.map(({ sum, name }, index) => {
    const near = nearBytes(sum);
    const far = farBytes(sum);
    const x = index * step + step * 0.12;
    const width = step * 0.76;
    const text = `${name}: ${formatSize(near)} from this network, ${formatSize(far)} from the internet`;
    let y = HEIGHT;
    const rects = (
      [
        ['neighbours', near],
        ['caches', far],
      ] as const
    ).map(([kind, bytes]) => {
      const height = (bytes / most) * (HEIGHT - 2);
      y -= height;
      return html`<rect class="${kind}" x="${x}" y="${y}" width="${width}" height="${height}" />`;
    });
    return html`<g>
      <title>${text}</title>
      <rect fill="transparent" x="${index * step}" y="0" width="${step}" height="${HEIGHT}" />
      <rect class="track" x="${x}" y="${HEIGHT - 1.5}" width="${width}" height="1.5" />
      ${rects}
    </g>`;
  });
  return html`<svg
    class="bars"
    viewBox="0 0 ${WIDTH} ${HEIGHT}"
    preserveAspectRatio="none"
    role="img"
    aria-label="bytes from this network and from the internet over time"
  >
    ${columns}
  </svg>`;
}
