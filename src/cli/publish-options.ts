import { Option, type Command } from 'commander';
import { defaultKeyFile } from '../config/locations.ts';
import type { Built } from '../publish/build-publication.ts';
import { parseEndpoint, type Endpoint } from '../discovery/endpoint.ts';
import type { Output } from './output.ts';
import { each, formatSize, parseLifetime, parsePort } from './values.ts';

/** Default life of a generation: a publisher may be down for two weeks before its followers notice. */
const VALID_FOR_MS = 14 * 86_400_000;

/** Options of every command that signs a hash map, as commander gives them. */
export interface PublishingFlags {
  readonly salt: string;
  readonly key: string;
  readonly hint?: readonly Endpoint[];
  readonly validFor: number;
}

/** Adds the options that say whose map it is and what it says of itself. */
export function addPublishing(command: Command): Command {
  return command
    .option('--salt <name>', 'name of the hash map: one key can sign several', '')
    .option('--key <file>', 'publisher key; made where there is none', defaultKeyFile())
    .option(
      '--hint <host:port>',
      'peer to name in the hash map, such as this machine’s public address; may be repeated',
      each(parseEndpoint),
    )
    .addOption(
      new Option('--valid-for <duration>', 'how long followers may rely on the hash map without a newer one')
        .argParser(parseLifetime)
        .default(VALID_FOR_MS, '14d'),
    );
}

/** Adds `--http-port`. */
export function addHttpPort(command: Command): Command {
  return command.option('--http-port <port>', 'port to serve the hash map at over HTTP; 0 picks one', parsePort, 0);
}

/** Says what a generation of a map is of. */
export function tellBuilt(output: Output, { publication, records, leftOut, hashedBytes }: Built): void {
  const { manifest, isNew } = publication;
  output.result('built', {
    records: records.length,
    leftOut: leftOut.length,
    hashedBytes,
    seq: manifest.seq,
    isNew,
    expires: manifest.expires.toISOString(),
  });
  output.note(
    `${records.length} NARs in the hash map (${formatSize(hashedBytes)} hashed, generation ${manifest.seq}${isNew ? '' : ', unchanged'})`,
  );
  for (const { storePath, reason } of leftOut.slice(0, 10)) output.warn(`${storePath} is left out: ${reason}`);
  if (leftOut.length > 10) output.warn(`${leftOut.length - 10} more paths are left out`);
}
