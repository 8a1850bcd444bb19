import type { DaemonFacts } from '../../daemon/facts.ts';
import { formatSize } from '../words/values.ts';
import { meter } from './charts.ts';
import { html, type Html } from './html.ts';
import { counted, grouped } from './words.ts';

/** Limit on members shown. */
const SHOWN = 50;

/** A machine, over all of its connections. */
interface Machine {
  readonly host: string;
  readonly isNeighbour: boolean;
  holds: number | null;
  sent: number;
  gave: number;
}

export function membersSection({ members, nars, served }: DaemonFacts): Html {
  const machines = new Map<string, Machine>();
  for (const { host, isNeighbour, holds, sentBytes, gaveBytes } of members) {
    const machine = machines.get(host) ?? { host, isNeighbour, holds, sent: 0, gave: 0 };
    machine.sent += sentBytes;
    machine.gave += gaveBytes;
    machines.set(host, machine);
  }
  const sorted = [...machines.values()].toSorted(
    (a, b) => Number(b.isNeighbour) - Number(a.isNeighbour) || b.gave + b.sent - (a.gave + a.sent),
  );
  const given = served.bytesToMembers + served.bytesToClients + served.bytesOverHttp;
  const near = sorted.filter(({ isNeighbour }) => isNeighbour).length;
  return html`<section id="neighbours">
    <h2>${near === 0 ? 'No neighbour' : counted(near, 'neighbour')} connected</h2>
    ${sorted.length === 0 ? html`<p class="soft">Machines on this network that share the same keys appear here by themselves.</p>` : table(sorted, nars)}
    <p class="small soft">
      This machine offers ${counted(nars, 'NAR')}. Since the daemon started, it has given ${formatSize(given)} to
      others.
    </p>
  </section>`;
}

function table(machines: readonly Machine[], nars: number): Html {
  return html`<table>
      <thead>
        <tr>
          <th>machine</th>
          <th>holds of ours</th>
          <th class="num">gave us</th>
          <th class="num">got</th>
        </tr>
      </thead>
      <tbody>
        ${machines.slice(0, SHOWN).map(
          ({ host, isNeighbour, holds, sent, gave }) =>
            html`<tr>
              <td>${host}${isNeighbour ? undefined : html` <span class="soft small">elsewhere</span>`}</td>
              <td class="holds">
                ${holds === null ? html`<span class="soft">not counted</span>` : html`<span class="num">${grouped(holds)} NARs</span>${meter(holds, nars)}`}
              </td>
              <td class="num">${formatSize(gave)}</td>
              <td class="num">${formatSize(sent)}</td>
            </tr>`,
        )}
      </tbody>
    </table>
    ${machines.length > SHOWN ? html`<p class="soft">and ${machines.length - SHOWN} more</p>` : undefined}`;
}
