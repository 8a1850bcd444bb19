import type { FetchEvent } from '../../src/fetch/events.ts';

/** Bytes of a NAR from a member on the local network, at `host:port`. */
export function fromNeighbour(origin: string, bytes: number, nar = 'nar'): FetchEvent {
  return { type: 'nar-bytes', source: 'peers', group: 'neighbours', isNear: true, origin, nar, bytes };
}

/** Bytes of a NAR from a member beyond the local network. */
export function fromCohort(origin: string, bytes: number, nar = 'nar'): FetchEvent {
  return { type: 'nar-bytes', source: 'peers', group: 'cohort', isNear: false, origin, nar, bytes };
}

/** Bytes of a NAR from a configured cache. */
export function fromCache(bytes: number, nar = 'nar'): FetchEvent {
  const origin = 'https://cache.nixos.org';
  return { type: 'nar-bytes', source: 'upstream', group: 'caches', isNear: false, origin, nar, bytes };
}
