import type { DaemonView } from '../../daemon/web/watch.ts';
import { parsePublisherAddress } from '../../index/address.ts';
import { publishersOf } from '../../subscription/source/source.ts';
import { mayNamePublisher, shortener } from '../words/publisher-names.ts';
import { formatCount } from '../words/values.ts';

/** Formats a number of things for people: `1 NAR`, `18,412 NARs`. */
export function counted(count: number, thing: string): string {
  return formatCount(count, thing).replace(String(count), grouped(count));
}

/** Formats a number for people: `18,412`. */
export function grouped(count: number): string {
  return count.toLocaleString('en-US');
}

/** Returns a function that puts short names instead of the addresses of the publishers that a daemon follows. */
export function shortenerOf({ facts, subscriptions }: DaemonView): (text: string) => string {
  return shortener([
    ...facts.maps.map(({ address }) => parsePublisherAddress(address)),
    ...subscriptions.flatMap(({ subscription }) =>
      mayNamePublisher(subscription.source) ? publishersOf([], [subscription]) : [],
    ),
  ]);
}
