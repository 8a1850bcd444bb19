import type { PushEvent } from '../../push/push.ts';
import { formatSize } from '../words/values.ts';
import type { Line } from './line.ts';
import type { ProgressNow } from './shown-progress.ts';
import { formatShare } from './work-lines.ts';

/** The state of one host. */
type State =
  | { readonly kind: 'waiting' }
  | { readonly kind: 'fetching'; readonly bytes: number; readonly totalBytes: number; readonly importing: boolean }
  | { readonly kind: 'done' | 'failed' | 'same' };

/** The progress of a push, a line for each host that is not done. */
export class PushProgress {
  readonly #hosts: Map<string, State>;

  constructor(hosts: readonly string[]) {
    this.#hosts = new Map(hosts.map((host) => [host, { kind: 'waiting' }]));
  }

  /** Counts an event. */
  take(event: PushEvent): void {
    if (event.type === 'progress') this.#hosts.set(event.host, { kind: 'fetching', ...event.progress });
    else if (event.type === 'done' || event.type === 'failed' || event.type === 'same')
      this.#hosts.set(event.host, { kind: event.type });
  }

  /** Undefined once no host is waited for. */
  now(): ProgressNow | undefined {
    const open = [...this.#hosts].filter(([, { kind }]) => kind === 'waiting' || kind === 'fetching');
    if (open.length === 0) return undefined;
    const width = Math.max(...open.map(([host]) => host.length));
    return {
      lines: () =>
        open.map(([host, state]): Line => [{ text: `${host.padEnd(width)}  `, style: 'bold' }, ...wordsOf(state)]),
      text: open.map(([host, state]) => `${host} ${shareOf(state)}`).join(', '),
      facts: {},
    };
  }
}

function shareOf(state: State): string {
  return state.kind === 'fetching' ? formatShare(state.bytes, state.totalBytes) : 'waits';
}

function wordsOf(state: State): Line {
  if (state.kind !== 'fetching') return [{ text: 'waits' }];
  const { bytes, totalBytes, importing } = state;
  const sizes = `  ${formatSize(Math.min(bytes, totalBytes))} of ${formatSize(totalBytes)}${importing ? ', importing' : ''}`;
  return [{ text: shareOf(state).padStart(5), style: 'cyan' }, { text: sizes }];
}
