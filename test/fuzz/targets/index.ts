import type { FuzzTarget } from '../target.ts';
import { bencoding } from './bencoding.ts';
import { config } from './config.ts';
import { dht } from './dht.ts';
import { http } from './http.ts';
import { lan } from './lan.ts';
import { link } from './link.ts';
import { manifest } from './manifest.ts';
import { narinfo } from './narinfo.ts';
import { shardList } from './shard-list.ts';
import { shard } from './shard.ts';
import { swarm } from './swarm.ts';
import { wire } from './wire.ts';

/** Every reader of bytes from strangers, by name. */
export const TARGETS: Readonly<Record<string, () => FuzzTarget | Promise<FuzzTarget>>> = {
  bencoding,
  config,
  dht,
  http,
  lan,
  link,
  manifest,
  narinfo,
  shard,
  'shard-list': shardList,
  swarm,
  wire,
};
