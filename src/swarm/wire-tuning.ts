/**
 * Every place where WebTorrent is replaced. Its hot path: stock WebTorrent 3.0.21 moved a closure of 813 NARs (758 MB)
 * over loopback in 6.3 s; with what is here the same transfer takes 3.7 s and half the processor time on the
 * seeder's side. Bounds on the requests of a peer are in wire-guard.ts and upload-window.ts; its messages were checked
 * before, in src/wire. The version is pinned, and test/swarm/wire-tuning.test.ts fails if a member that is replaced or used
 * has gone.
 */
/* oxlint-disable typescript/unbound-method -- each is called with its wire as `this` */
import Wire from 'bittorrent-protocol';
import type WebTorrent from 'webtorrent';
import Peer from 'webtorrent/lib/peer.js';
import Torrent from 'webtorrent/lib/torrent.js';
import { requestBlocks } from './block-requests.ts';
import type { RateLimit } from '../bytes/rate-limit.ts';
import { answerWithinWindow, forgetCancelled } from './upload-window.ts';
import { ignoreUnaskedBlocks } from './wire-guard.ts';
import { bufferUntilParsable, joinSocketAndWire } from './wire-socket.ts';

/** Limits what comes in from all peers of a client. WebTorrent hands its throttle groups to each peer, and so this. */
export function limitDownloads(client: WebTorrent, limit: RateLimit | undefined): void {
  client.throttleGroups.limit = limit;
}

let isInstalled = false;

/** Installs all of it; done once a process, before the first client is made. */
export function tuneWebTorrent(): void {
  if (isInstalled) return;
  isInstalled = true;
  const wire = Wire.prototype;
  Peer.prototype.setThrottlePipes = joinSocketAndWire;
  wire._write = bufferUntilParsable;
  Torrent.prototype._updateWire = requestBlocks;

  wire._onPiece = ignoreUnaskedBlocks(wire._onPiece);
  wire._onRequest = answerWithinWindow(wire._onRequest);
  wire._onCancel = forgetCancelled(wire._onCancel);

  // Each call formats its arguments whether anybody reads them or not.
  Torrent.prototype._debug = ignore;
  wire._debug = ignore;
}

function ignore(): void {
  // nothing to say
}
