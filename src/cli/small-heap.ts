import { setFlagsFromString } from 'node:v8';

/**
 * Makes V8 collect garbage when the heap has grown by a quarter. By default it waits until the heap has grown two- to
 * fourfold: a daemon with 100,000 NARs then takes 490 MB instead of 195 MB once all were served. The daemon serves more
 * NARs a second with the additional collections: they cost less than processor caches that miss.
 */
export function keepHeapSmall(): void {
  setFlagsFromString('--heap-growing-percent=25');
}
