/** `--map-port`: the ports that the network's router maps to this machine. */
import type { Command } from 'commander';
import type { MappingFailure, PortMapping } from '../discovery/gateway/mapping.ts';
import type { PortMapper } from '../discovery/gateway/port-mapper.ts';
import type { Network } from '../swarm/network.ts';
import { aside, type Origin } from './options/configuration.ts';
import { groupFrom, NETWORK } from './options/option-groups.ts';
import type { Output } from './output.ts';

export interface MapPortFlags {
  readonly mapPort?: boolean;
}

/**
 * Adds `--map-port`, after the options of the network.
 *
 * @param description default: that of a service, which has the ports mapped
 */
export function addMapPort(command: Command, description?: string): Command {
  const before = command.options.length;
  const hasScope = command.options.some(({ long }) => long === '--scope');
  command.option(
    '--map-port',
    description ??
      `${hasScope ? 'with --scope cohort or public: ' : ''}have the router map the ports for peers and the DHT to this machine (NAT-PMP, UPnP)`,
  );
  groupFrom(command, before, NETWORK);
  return command;
}

/** The mapping of a service: its state, and the end of it. */
export interface ServiceMapping extends AsyncDisposable {
  readonly mapping: PortMapping | undefined;
}

/**
 * Has the router map the ports of a network, if that is requested and useful. Reports each change. Nothing is loaded or
 * sent otherwise.
 *
 * @param from the origin of the value of `--scope`
 */
export async function mapPorts(
  { mapPort, listen }: MapPortFlags & { readonly listen?: string | undefined },
  network: Network,
  { output, from }: { readonly output: Output; readonly from: Origin },
): Promise<ServiceMapping> {
  if (mapPort !== true) return withoutMapper(undefined);
  const { swarm, announces } = network;
  const { unmapped } = await import('../discovery/gateway/mapping.ts');
  if (!announces) {
    output.warn(
      `--map-port has nothing to do: scope lan${aside(from)} offers nothing beyond the local network; give --scope cohort or public`,
    );
    return withoutMapper(unmapped('scope'));
  }
  const { PortMapper } = await import('../discovery/gateway/port-mapper.ts');
  const mapper: PortMapper = new PortMapper({
    listen,
    wanted: () => [
      { protocol: 'tcp', port: swarm.port },
      ...(network.dht === undefined ? [] : [{ protocol: 'udp', port: network.dht.port } as const]),
    ],
    onChange: (mapping) => {
      network.discovery.outerPort = mapping.ports.find(({ protocol }) => protocol === 'tcp')?.externalPort;
      const text = mappingSentence(mapping);
      output.result('port-mapping', { ...mapping });
      if (mapping.failure === null) output.note(text);
      else output.warn(text);
    },
  });
  return mapper;
}

function withoutMapper(mapping: PortMapping | undefined): ServiceMapping {
  return { mapping, [Symbol.asyncDispose]: () => Promise.resolve() };
}

/** Names the mapped ports, or the reason why there are none and the way out. */
export function mappingSentence(mapping: PortMapping): string {
  const { failure } = mapping;
  if (failure === null) return mappedSentence(mapping);
  const reason = `${failureInWords(failure, mapping)}: ${wayOutOf(failure)}`;
  return mapping.ports.length === 0 ? reason : `${mappedSentence(mapping)}; but ${reason}`;
}

const PROTOCOLS = { 'nat-pmp': 'NAT-PMP', upnp: 'UPnP' } as const;

/** Says which ports lead here. */
export function mappedSentence({ gateway, protocol, externalAddress, ports }: PortMapping): string {
  if (ports.length === 0) return 'the router is being asked to map the ports of this machine';
  const outer = ports.map((port) => {
    const inner = port.externalPort === port.internalPort ? '' : `, here ${port.internalPort}`;
    return `${port.protocol.toUpperCase()} ${port.externalPort}${inner}`;
  });
  const by = protocol === null ? '' : `, by ${PROTOCOLS[protocol]}`;
  return `the router ${gateway ?? ''} maps ${outer.join(' and ')} of ${externalAddress ?? 'its other side'} to this machine${by}`;
}

/** Says why no port is mapped, or why a mapping is useless. */
export function failureInWords(failure: MappingFailure, { gateway, externalAddress, refusal }: PortMapping): string {
  const router = `the router ${gateway ?? ''}`.trim();
  switch (failure) {
    case 'scope':
      return 'scope lan offers nothing beyond the local network, so no port is mapped';
    case 'no-gateway':
      return 'no port is mapped: there is no IPv4 route to the internet';
    case 'listen':
      return 'no port is mapped: the router cannot be reached from the address that is listened on';
    case 'public-address':
      return 'no port has to be mapped: this machine has an address of the internet';
    case 'no-answer':
      return `${router} does not answer, neither by NAT-PMP nor by UPnP`;
    case 'refused':
      return `${router} refuses to map the ports (error ${refusal ?? 'unknown'})`;
    case 'offline':
      return `${router} has no address on its other side`;
    default:
      return `the address of the router is ${externalAddress ?? 'unknown'}, which the internet cannot reach`;
  }
}

/** Gives the way out of a failure. */
export function wayOutOf(failure: MappingFailure): string {
  switch (failure) {
    case 'scope':
      return 'give --scope cohort or public, or leave map-port out';
    case 'no-gateway':
      return process.platform === 'linux'
        ? 'connect to a network with a router'
        : 'forward the ports in the router by hand: narswarm reads the route on Linux only';
    case 'listen':
      return 'leave --listen out, or give the address of this machine in the router’s network';
    case 'public-address':
      return 'let the ports in through the firewalls, and leave map-port out';
    case 'no-answer':
      return 'switch UPnP or NAT-PMP on in the router, or forward the ports there by hand';
    case 'refused':
      return 'let this machine map ports in the router’s settings, or forward the ports there by hand';
    case 'offline':
      return 'look whether the router is connected';
    default:
      return 'there is another NAT behind it, often the provider’s: map the ports there, too, or ask the provider for a public address';
  }
}
