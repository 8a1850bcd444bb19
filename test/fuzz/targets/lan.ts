import type { InfoHash } from '../../../src/nix/brands.ts';
import { formatAnnouncements, parseAnnouncement } from '../../../src/discovery/lan-announcement.ts';
import type { FuzzTarget } from '../target.ts';

/** Announcements on the LAN (BEP 14): malformed ones are ignored. */
export function lan(): FuzzTarget {
  return {
    corpus: formatAnnouncements(6881, 'cookie', ['0'.repeat(40) as InfoHash, 'f'.repeat(40) as InfoHash]),
    words: ['\r\n', 'Infohash: ', 'Port: ', 'cookie: ', 'BT-SEARCH * HTTP/1.1', ':', '\0'],
    read: (input) => void parseAnnouncement(input, '192.168.1.2'),
  };
}
