import { writeFile } from 'node:fs/promises';
import { Command } from 'commander';
import { NarswarmError } from '../../errors.ts';
import { readNamedPath } from '../../nix/named-path.ts';
import { describeNar } from '../../store/hashing/describe-nar.ts';
import { FileStore } from '../../store/file-store.ts';
import { magnetOf, torrentFile } from '../../torrent/canonical.ts';
import { formatEndpoint, type Endpoint } from '../../discovery/endpoint.ts';
import { command, type CommonOptions } from '../run-command.ts';
import { addCommon, addPeers, defaultStoreDir } from '../options/shared-options.ts';

interface TorrentOptions extends CommonOptions {
  readonly store: string;
  readonly out?: string;
  readonly magnet?: boolean;
  readonly peer?: readonly Endpoint[];
}

export function torrentCommand(): Command {
  const torrent = new Command('torrent')
    .summary('write the .torrent file of a NAR')
    .description('write the .torrent file of a NAR, for any BitTorrent client')
    .argument('<path>', 'store path, a link to one such as ./result, or its hash part')
    .option('--store <dir>', 'file store that holds the NAR', defaultStoreDir())
    .option('--out <file>', 'file to write (default: <name>.torrent in the current folder)')
    .option('--magnet', 'print a magnet link and write no file');
  addPeers(torrent, 'peer to name in the magnet link');
  addCommon(
    torrent,
    [
      'narswarm torrent /nix/store/…-hello-2.12 --store /srv/cache',
      'narswarm torrent 1b9pmz8v3hfhx4b3xh3vlw5bkz7rvl0n --store /srv/cache --magnet --peer 192.0.2.7:6881',
    ],
    ['NOT_FOUND', 'STORE'],
  );
  return torrent.action(
    command<TorrentOptions, [string]>(async ({ output, signal, options }, text) => {
      const store = await FileStore.open(options.store, { create: false });
      const found = await describeNar(store, await readNamedPath(text), signal);
      const magnet = magnetOf(found.torrent, (options.peer ?? []).map(formatEndpoint));
      const { infoHash, name, sizeBytes } = found.torrent;
      if (options.magnet === true) {
        output.result('torrent', { path: found.storePath, infoHash, magnet, sizeBytes }, magnet);
        return;
      }
      const file = options.out ?? `${name}.torrent`;
      await writeFile(file, torrentFile(found.torrent)).catch((error: unknown) =>
        Promise.reject(cannotWrite(file, error)),
      );
      output.result('torrent', { path: found.storePath, infoHash, file, magnet, sizeBytes }, file);
    }),
  );
}

function cannotWrite(file: string, cause: unknown): NarswarmError {
  const reason = cause instanceof Error ? cause.message : String(cause);
  return new NarswarmError('USAGE', `cannot write ${file} (${reason}): name another file with --out`, { cause });
}
