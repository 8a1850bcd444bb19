/** UPnP Internet Gateway Device, versions 1 and 2: asks a router for mappings by SOAP. */
import { randomInt } from 'node:crypto';
import { isIPv4 } from 'node:net';
import { askGateway } from './gateway-request.ts';
import {
  LEASE_SECONDS,
  type Gateway,
  type MapAnswer,
  type MappedPort,
  type Place,
  type WantedPort,
} from './mapping.ts';
import { findDescriptions, urlAt } from './ssdp.ts';
import { elementsOf, textOf } from './xml.ts';

/** A description lists about ten services. */
const MAX_SERVICES = 64;
const CONNECTION = /^urn:schemas-upnp-org:service:WAN(?:IP|PPP)Connection:[12]$/;

/** Error numbers of UPnP (WANIPConnection:1, 2.4). */
const CONFLICT = 718;
const ONLY_PERMANENT = 725;
/** Other external ports to try while they belong to another machine. Ports from here on are assigned to nothing. */
const OTHER_PORTS = 3;
const FIRST_DYNAMIC_PORT = 49_152;

/** A connection of the router to the internet. */
interface Service {
  readonly type: string;
  readonly control: URL;
}

type SoapAnswer =
  | { readonly kind: 'done'; readonly text: string }
  | { readonly kind: 'refused'; readonly code: number }
  | { readonly kind: 'silent' };

/** Finds the router's service for mappings. Returns undefined if it does not speak UPnP. */
export async function openUpnp(place: Place, signal: AbortSignal): Promise<Gateway | undefined> {
  for (const location of await findDescriptions(place, signal)) {
    const answer = await askGateway(place, location, {}, signal);
    if (answer?.status !== 200) continue;
    let first: Upnp | undefined;
    for (const service of servicesOf(answer.text, place.gateway, location)) {
      const upnp = new Upnp(place, service, await addressOf(place, service, signal));
      if (upnp.externalAddress !== undefined) return upnp; // a router may have several lines, some of them not in use
      first ??= upnp;
    }
    if (first !== undefined) return first;
  }
  return undefined;
}

/** Reads the services for mappings from a description. Leaves out those that another host would answer. */
export function servicesOf(description: string, gateway: string, location: URL): Service[] {
  const base = urlAt(gateway, textOf(description, 'URLBase') ?? '') ?? location;
  return elementsOf(description, 'service', MAX_SERVICES).flatMap((service) => {
    const type = textOf(service, 'serviceType');
    const control = urlAt(gateway, textOf(service, 'controlURL') ?? '', base);
    return type !== undefined && CONNECTION.test(type) && control !== undefined ? { type, control } : [];
  });
}

class Upnp implements Gateway {
  readonly protocol = 'upnp';
  readonly externalAddress: string | undefined;
  readonly #place: Place;
  readonly #service: Service;

  constructor(place: Place, service: Service, externalAddress: string | undefined) {
    this.#place = place;
    this.#service = service;
    this.externalAddress = externalAddress;
  }

  async map(wanted: WantedPort, externalPort: number, signal: AbortSignal): Promise<MapAnswer> {
    let port = externalPort;
    let leaseSeconds = LEASE_SECONDS;
    let answer: SoapAnswer = { kind: 'silent' };
    for (let others = 0; others <= OTHER_PORTS;) {
      const isTaken = await this.#isOfAnother(wanted, port, signal);
      answer = isTaken ? { kind: 'refused', code: CONFLICT } : await this.#add(wanted, port, leaseSeconds, signal);
      if (answer.kind === 'done')
        return { kind: 'mapped', externalPort: port, leaseSeconds: leaseSeconds === 0 ? undefined : leaseSeconds };
      if (answer.kind === 'refused' && answer.code === ONLY_PERMANENT && leaseSeconds !== 0) leaseSeconds = 0;
      else if (answer.kind === 'refused' && answer.code === CONFLICT) {
        port = randomInt(FIRST_DYNAMIC_PORT, 2 ** 16);
        others++;
      } else break;
    }
    return answer;
  }

  async unmap(
    { protocol, externalPort }: Pick<MappedPort, 'protocol' | 'externalPort'>,
    signal: AbortSignal,
  ): Promise<void> {
    if (await this.#isOfAnother({ protocol }, externalPort, signal)) return;
    await this.#call('DeletePortMapping', mappingKey(protocol, externalPort), signal);
  }

  /** Returns true if a port is mapped to another machine. Not every router would refuse to take it away. */
  async #isOfAnother({ protocol }: Pick<WantedPort, 'protocol'>, port: number, signal: AbortSignal): Promise<boolean> {
    const answer = await this.#call('GetSpecificPortMappingEntry', mappingKey(protocol, port), signal);
    const client = answer.kind === 'done' ? textOf(answer.text, 'NewInternalClient') : undefined;
    return client !== undefined && isIPv4(client) && client !== this.#place.own;
  }

  #add({ protocol, port }: WantedPort, externalPort: number, lease: number, signal: AbortSignal): Promise<SoapAnswer> {
    const args = {
      ...mappingKey(protocol, externalPort),
      NewInternalPort: String(port),
      NewInternalClient: this.#place.own,
      NewEnabled: '1',
      NewPortMappingDescription: 'narswarm',
      NewLeaseDuration: String(lease),
    };
    return this.#call('AddPortMapping', args, signal);
  }

  #call(action: string, args: Readonly<Record<string, string>>, signal: AbortSignal): Promise<SoapAnswer> {
    return call(this.#place, this.#service, action, args, signal);
  }
}

function mappingKey(protocol: 'tcp' | 'udp', externalPort: number): Record<string, string> {
  return { NewRemoteHost: '', NewExternalPort: String(externalPort), NewProtocol: protocol.toUpperCase() };
}

async function addressOf(place: Place, service: Service, signal: AbortSignal): Promise<string | undefined> {
  const answer = await call(place, service, 'GetExternalIPAddress', {}, signal);
  const address = answer.kind === 'done' ? textOf(answer.text, 'NewExternalIPAddress') : undefined;
  return address !== undefined && isIPv4(address) && address !== '0.0.0.0' ? address : undefined;
}

/** Calls an action. @param args in the order of the specification, without characters that XML would escape */
async function call(
  place: Place,
  { type, control }: Service,
  action: string,
  args: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<SoapAnswer> {
  const body = `<?xml version="1.0"?>
<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/" s:encodingStyle="http://schemas.xmlsoap.org/soap/encoding/"><s:Body><u:${action} xmlns:u="${type}">${Object.entries(
    args,
  )
    .map(([name, value]) => `<${name}>${value}</${name}>`)
    .join('')}</u:${action}></s:Body></s:Envelope>
`;
  const headers = { 'Content-Type': 'text/xml; charset="utf-8"', SOAPAction: `"${type}#${action}"` };
  const answer = await askGateway(place, control, { headers, body }, signal);
  if (answer === undefined) return { kind: 'silent' };
  if (answer.status === 200) return { kind: 'done', text: answer.text };
  const code = textOf(answer.text, 'errorCode');
  return { kind: 'refused', code: code !== undefined && /^\d{1,5}$/.test(code) ? Number(code) : answer.status };
}
