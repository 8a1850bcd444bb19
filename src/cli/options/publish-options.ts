import { Option, type Command } from 'commander';
import { defaultKeyFile } from '../../config/locations.ts';
import type { Built } from '../../publish/build-publication.ts';
import { formatPublisherAddress } from '../../index/address.ts';
import type { Publisher } from '../../publish/publisher.ts';
import { ownHost } from '../../discovery/own-address.ts';
import { formatEndpoint, parseEndpoint, type Endpoint } from '../../discovery/endpoint.ts';
import { defaultPortInWords, SERVICE_PORTS } from '../../wire/ports.ts';
import { unpublishedInWords } from '../words/error-sentences.ts';
import type { Output } from '../output.ts';
import { tellPatched } from '../make-deltas.ts';
import { tellRecompressed } from '../recompression.ts';
import { each, formatCount, formatSize, parseLifetime, parsePort } from '../words/values.ts';

/** Default lifetime of an edition. A publisher may be down for two weeks before its followers notice. */
const VALID_FOR_MS = 14 * 86_400_000;

/** Options of every command that signs a hash map, as commander gives them. */
export interface PublishingFlags {
  readonly salt: string;
  readonly key: string;
  readonly hint?: readonly Endpoint[];
  readonly validFor: number;
}

/** Adds the options that name the hash map, its key, its lifetime and its peers. */
export function addPublishing(command: Command): Command {
  return command
    .option('--salt <name>', 'name of the hash map: one key can sign several', '')
    .option('--key <file>', 'publisher key; created if it does not exist', defaultKeyFile())
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
  return command.option(
    '--http-port <port>',
    `TCP port on which to serve the hash map and its patches over HTTP; 0 picks one (default: ${defaultPortInWords(SERVICE_PORTS.http)})`,
    parsePort,
  );
}

/** Returns the address of a hash map at its HTTP mirror, for networks without UDP. */
export function mirrorOf({ built, http, network }: Publisher, listen: string | undefined): string {
  const host = ownHost(listen, network.networks);
  const baseUrl = `http://${formatEndpoint({ host, port: http.port })}`;
  return formatPublisherAddress({ ...built.publication.address, baseUrl });
}

/** Reports the contents of an edition, and the paths that were left out. */
export function tellBuilt(output: Output, { publication, leftOut, hashedBytes, recompressed, patched }: Built): void {
  if (recompressed !== undefined) tellRecompressed(output, recompressed);
  if (patched !== undefined) tellPatched(output, patched);
  const { manifest, isNew } = publication;
  output.result('built', {
    records: manifest.recordCount,
    leftOut: leftOut.length,
    hashedBytes,
    seq: manifest.seq,
    isNew,
    expires: manifest.expires.toISOString(),
  });
  output.note(
    `${formatCount(manifest.recordCount, 'NAR')} in the hash map (${formatSize(hashedBytes)} hashed, edition ${manifest.seq}${isNew ? '' : ', unchanged'})`,
  );
  for (const { storePath, reason } of leftOut.slice(0, 10))
    output.warn(`${storePath} is left out: ${unpublishedInWords(reason)}`);
  if (leftOut.length > 10) output.warn(`${leftOut.length - 10} more paths are left out`);
}
