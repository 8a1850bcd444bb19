import type { NarInFlight } from '../../daemon/web/in-flight.ts';
import { baseNameOf } from '../../nix/store-path.ts';
import { formatSize } from '../words/values.ts';
import { html, type Html } from './html.ts';

/** Limit on NARs shown. */
const SHOWN = 6;

/** The NARs that are arriving for Nix: their paths, their progress and their senders. */
export function narsInFlight(nars: readonly NarInFlight[]): Html | undefined {
  if (nars.length === 0) return undefined;
  return html`<ul class="nars">
    ${nars.slice(0, SHOWN).map(row)}
    ${nars.length > SHOWN ? html`<li class="soft">and ${nars.length - SHOWN} more</li>` : undefined}
  </ul>`;
}

function row({ path, sizeBytes, heldBytes, from }: NarInFlight): Html {
  const percent = Math.floor((Math.min(heldBytes, sizeBytes) / sizeBytes) * 100);
  return html`<li>
    <span title="${path}">${baseNameOf(path).slice(33)}</span>
    <span class="num">${percent} % of ${formatSize(sizeBytes)}</span>
    <span class="soft from" title="${from.join(', ')}">${sendersInWords(from)}</span>
  </li>`;
}

function sendersInWords([first, ...others]: readonly string[]): string {
  if (first === undefined) return 'waiting';
  return `from ${first}${others.length === 0 ? '' : ` and ${others.length} more`}`;
}
