import { Command } from 'commander';
import { formatEndpoint, parseEndpoint, type Endpoint } from '../../discovery/endpoint.ts';
import { command, untilStopped, type CommonOptions } from '../run-command.ts';
import { addCommon } from '../options/shared-options.ts';
import { each, formatCount, parseAddress, parsePort } from '../words/values.ts';

interface DhtOptions extends CommonOptions {
  readonly bootstrap?: readonly Endpoint[];
  readonly listen?: string;
  readonly dhtPort: number;
}

export function dhtCommand(): Command {
  const dht = new Command('dht')
    .summary('run a plain DHT node')
    .description('run a plain DHT node, for private networks and labs, until interrupted')
    .option(
      '--bootstrap <host:port>',
      'node to join by; may be repeated (default: none, start a new network)',
      each(parseEndpoint),
    )
    .option('--listen <address>', 'address to listen on (default: all)', parseAddress)
    .option('--dht-port <port>', 'UDP port; 0 picks one', parsePort, 0);
  addCommon(dht, ['narswarm dht --dht-port 6881', 'narswarm dht --bootstrap 10.0.0.1:6881'], ['LISTEN']);
  return dht.action(
    command<DhtOptions, []>(async ({ output, signal, options }) => {
      const { DhtNode } = await import('../../discovery/dht.ts');
      await using node = await DhtNode.listen({
        bootstrap: options.bootstrap ?? [],
        port: options.dhtPort,
        ...(options.listen === undefined ? {} : { host: options.listen }),
      });
      const joined = (options.bootstrap ?? []).length === 0 || (await node.ready({ signal }));
      if (!joined) output.warn(`no answer from ${(options.bootstrap ?? []).map(formatEndpoint).join(', ')}`);
      output.result(
        'ready',
        { dhtPort: node.port, nodes: node.nodeCount() },
        `DHT node on port ${node.port} (UDP), ${formatCount(node.nodeCount(), 'node')} known\nready`,
      );
      await untilStopped(signal);
    }),
  );
}
