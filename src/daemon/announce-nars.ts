import { setTimeout as sleep } from 'node:timers/promises';
import type { Catalogue } from '../store/catalogue/catalogue.ts';
import type { Network } from '../swarm/network.ts';

/**
 * Pause between two announcements of single NARs. Ten thousand are announced before BEP 5 nodes forget the first one.
 */
const PAUSE_MS = 100;
/** Pause between two rounds. BEP 5 nodes forget peers after half an hour. */
const ROUND_MS = 30 * 60_000;

/** Announces each NAR in the DHT, round after round, until the signal aborts. Only for the scope `public`. */
export async function announceNars(
  catalogue: Pick<Catalogue, 'entries'>,
  network: Network,
  signal: AbortSignal,
): Promise<void> {
  const dht = await network.openDht();
  if (dht === undefined) return;
  await dht.ready({ signal }).catch(() => false);
  while (!signal.aborted) {
    for (const { torrent } of catalogue.entries()) {
      if (signal.aborted) return;
      if (torrent !== undefined)
        await dht.announce(torrent.infoHash, network.discovery.announcedPort).catch(() => undefined);
      await sleep(PAUSE_MS, undefined, { signal }).catch(() => undefined);
    }
    await sleep(ROUND_MS, undefined, { signal }).catch(() => undefined);
  }
}
