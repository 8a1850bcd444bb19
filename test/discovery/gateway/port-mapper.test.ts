import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { test } from 'node:test';
import type { AddressInfo } from 'node:net';
import type { PortMapping, WantedPort } from '../../../src/discovery/gateway/mapping.ts';
import { PortMapper, type PortMapperOptions } from '../../../src/discovery/gateway/port-mapper.ts';
import { FakeGateway, type FakeGatewayOptions } from '../../support/fake-gateway.ts';

const OWN = '127.0.0.1';
const WANTED: readonly WantedPort[] = [
  { protocol: 'tcp', port: 16_277 },
  { protocol: 'udp', port: 16_277 },
];
const QUICK = { lookMs: 20, renewMs: 60_000, leastMs: 50, retryMs: 50 };

/** An address of loopback for each router, as the ports are fixed. */
let last = 0;
const nextAddress = (): string => `127.9.${process.pid % 256}.${++last}`;

/** A mapper on loopback, and its states. */
function mapperAt(gateway: string, options: Partial<PortMapperOptions> = {}) {
  const states: PortMapping[] = [];
  let onState: (() => void) | undefined;
  const mapper = new PortMapper({
    wanted: () => WANTED,
    place: () => Promise.resolve({ gateway, own: OWN }),
    ...options,
    times: { ...QUICK, ...options.times },
    onChange: (mapping) => {
      states.push(mapping);
      onState?.();
    },
  });
  /** Waits for a state. */
  const until = async (is: (mapping: PortMapping) => boolean): Promise<PortMapping> => {
    for (;;) {
      const found = states.at(-1);
      if (found !== undefined && is(found)) return found;
      await new Promise<void>((resolve) => void (onState = resolve));
    }
  };
  return { mapper, states, until };
}

async function waitFor(is: () => boolean): Promise<void> {
  while (!is()) await sleep(10);
}

const ports = ({ ports: list }: PortMapping): string[] =>
  list.map(({ protocol, internalPort, externalPort }) => `${protocol} ${internalPort} ${externalPort}`);

const settled = ({ failure, ports: list }: PortMapping): boolean => failure !== null || list.length > 0;

/** Starts a router, waits for the first result of asking it, and stops. */
async function firstState(options: FakeGatewayOptions): Promise<{ state: PortMapping; gateway: FakeGateway }> {
  await using gateway = await FakeGateway.start(nextAddress(), options);
  const { mapper, until } = mapperAt(gateway.address);
  await using _mapper = mapper;
  return { state: await until(settled), gateway };
}

test('NAT-PMP: both ports are mapped with a lease, and removed at the end', async () => {
  await using gateway = await FakeGateway.start(nextAddress(), { upnp: false });
  {
    const { mapper, until } = mapperAt(gateway.address);
    await using _mapper = mapper;
    assert.deepEqual(mapper.mapping.ports, []);
    const state = await until(settled);
    assert.deepEqual(ports(state), ['tcp 16277 16277', 'udp 16277 16277']);
    assert.deepEqual(
      [state.protocol, state.gateway, state.externalAddress, state.failure],
      ['nat-pmp', gateway.address, '203.0.113.7', null],
    );
    assert.ok(state.ports.every(({ until: end }) => end !== null && Date.parse(end) > Date.now()));
    assert.deepEqual(mapper.mapping, state);
    assert.deepEqual([...gateway.mappings.keys()], ['tcp 16277', 'udp 16277']);
    assert.equal(gateway.mappings.get('tcp 16277')?.leaseSeconds, 3_600);
  }
  assert.equal(gateway.mappings.size, 0);
});

for (const version of [1, 2] as const)
  test(`UPnP ${version}: both ports are mapped with a lease, and removed at the end`, async () => {
    const { state, gateway } = await firstState({ natPmp: false, version });
    assert.deepEqual(ports(state), ['tcp 16277 16277', 'udp 16277 16277']);
    assert.deepEqual([state.protocol, state.externalAddress, state.failure], ['upnp', '203.0.113.7', null]);
    assert.equal(gateway.mappings.size, 0);
    assert.equal(gateway.count('upnp DeletePortMapping'), 2);
    assert.equal(gateway.count('http /other'), 0);
    assert.equal(gateway.count('http /ctl?id=1&to=WANIPConn1'), 1 + 2 * 4);
  });

test('UPnP without leases: the mapping has no end, and is removed all the same', async () => {
  const { state, gateway } = await firstState({ natPmp: false, onlyPermanent: true });
  assert.deepEqual(
    state.ports.map(({ until }) => until),
    [null, null],
  );
  assert.equal(gateway.mappings.size, 0);
});

test('a router with both is asked by NAT-PMP alone; one whose NAT-PMP refuses, by UPnP, too', async () => {
  const both = await firstState({});
  assert.equal(both.state.protocol, 'nat-pmp');
  assert.equal(both.gateway.count('ssdp'), 0);
  const refusing = await firstState({ onNatPmp: (answer) => (answer.writeUInt16BE(2, 2), answer) });
  assert.equal(refusing.state.protocol, 'upnp');
});

test('a port of another machine is not taken away: another one is mapped', async () => {
  for (const options of [{ natPmp: false }, { upnp: false }]) {
    await using gateway = await FakeGateway.start(nextAddress(), options);
    const theirs = { protocol: 'tcp', client: '10.0.0.9', internalPort: 16_277, leaseSeconds: 0 } as const;
    gateway.mappings.set('tcp 16277', theirs);
    {
      const { mapper, until } = mapperAt(gateway.address);
      await using _mapper = mapper;
      const state = await until(settled);
      const [tcp] = state.ports;
      assert.ok(tcp !== undefined && tcp.externalPort !== 16_277 && tcp.internalPort === 16_277);
      assert.equal(gateway.mappings.get(`tcp ${tcp.externalPort}`)?.client, OWN);
    }
    assert.deepEqual([...gateway.mappings.values()], [theirs]);
  }
});

test('a port that has become that of another machine stays theirs at the end', async () => {
  await using gateway = await FakeGateway.start(nextAddress(), { natPmp: false });
  const theirs = { protocol: 'tcp', client: '10.0.0.9', internalPort: 16_277, leaseSeconds: 0 } as const;
  {
    const { mapper, until } = mapperAt(gateway.address);
    await using _mapper = mapper;
    await until(settled);
    gateway.mappings.set('tcp 16277', theirs); // as after a lease that has ended while this machine slept
  }
  assert.deepEqual([...gateway.mappings.values()], [theirs]);
});

test('a mapping is renewed in half of its lease, at the same external port', async () => {
  await using gateway = await FakeGateway.start(nextAddress(), { upnp: false, leaseSeconds: 1 });
  const { mapper, states, until } = mapperAt(gateway.address, { times: { leastMs: 50 } });
  await using _mapper = mapper;
  await until(settled);
  await waitFor(() => gateway.count('nat-pmp map') >= 6);
  assert.deepEqual([...gateway.mappings.keys()], ['tcp 16277', 'udp 16277']);
  assert.equal(states.length, 1); // nothing has changed
});

test('a router that gives a lease of no time does not keep this machine busy', async () => {
  await using gateway = await FakeGateway.start(nextAddress(), { upnp: false, leaseSeconds: 1 });
  const { mapper, until } = mapperAt(gateway.address, { times: { leastMs: 600_000, lookMs: 1 } });
  await using _mapper = mapper;
  await until(settled);
  await sleep(1_500); // three half leases
  assert.equal(gateway.count('nat-pmp map'), 2);
});

test('a router that dies and comes back has its mappings again', async () => {
  const address = nextAddress();
  const dying = await FakeGateway.start(address, { upnp: false, leaseSeconds: 1 });
  const { mapper, until } = mapperAt(address);
  await using _mapper = mapper;
  await until(settled);
  await dying[Symbol.asyncDispose]();
  await until(({ failure, ports: list }) => failure === 'no-answer' && list.length === 0);
  await using again = await FakeGateway.start(address, { upnp: false });
  await until(({ failure }) => failure === null);
  assert.equal(again.mappings.size, 2);
});

test('another router, and a port that is opened later, are asked at once', async () => {
  await using first = await FakeGateway.start(nextAddress(), { upnp: false });
  await using second = await FakeGateway.start(nextAddress(), { natPmp: false });
  let gateway = first.address;
  let wanted: readonly WantedPort[] = WANTED.slice(0, 1);
  const { mapper, until } = mapperAt('', {
    place: () => Promise.resolve({ gateway, own: OWN }),
    wanted: () => wanted,
  });
  await using _mapper = mapper;
  await until(({ ports: list }) => list.length === 1);
  wanted = WANTED;
  await until(({ ports: list }) => list.length === 2);
  gateway = second.address;
  const state = await until((one) => one.gateway === gateway && one.ports.length === 2);
  assert.equal(state.protocol, 'upnp');
  assert.equal(second.mappings.size, 2);
});

test('failures are states: no route, an own public address, silence, refusals, no line, another NAT', async () => {
  const reason = async (place: 'no-gateway' | 'public-address'): Promise<string | null> => {
    const { mapper, until } = mapperAt('', { place: () => Promise.resolve(place) });
    await using _mapper = mapper;
    return (await until(settled)).failure;
  };
  assert.equal(await reason('no-gateway'), 'no-gateway');
  assert.equal(await reason('public-address'), 'public-address');
  const silent = await firstState({ natPmp: false, upnp: false });
  assert.deepEqual([silent.state.failure, silent.state.ports], ['no-answer', []]);
  const refusing = await firstState({ refuses: { natPmp: 2, upnp: 606 } });
  assert.equal(refusing.state.failure, 'refused');
  const refusingUpnp = await firstState({ natPmp: false, refuses: { natPmp: 2, upnp: 606 } });
  assert.deepEqual([refusingUpnp.state.failure, refusingUpnp.state.refusal], ['refused', 606]);
  assert.equal(refusingUpnp.gateway.count('upnp DeletePortMapping'), 0); // it may be another machine's
  const offline = await firstState({ upnp: false, externalAddress: '0.0.0.0' });
  assert.equal(offline.state.failure, 'offline');
  const nested = await firstState({ upnp: false, externalAddress: '100.64.3.4' });
  assert.deepEqual([nested.state.failure, nested.state.ports.length], ['nested-nat', 2]);
});

test('a router that is gone does not keep the end waiting for long', async () => {
  const gateway = await FakeGateway.start(nextAddress(), { upnp: false });
  const { mapper, until } = mapperAt(gateway.address, { times: { removeMs: 1 } });
  await until(settled);
  await gateway[Symbol.asyncDispose]();
  await mapper[Symbol.asyncDispose]();
});

/** A server beside the router, which nobody should ask. */
async function bystander(): Promise<{ url: string; asked: string[] } & AsyncDisposable> {
  const asked: string[] = [];
  const server = createServer((request, response) => {
    asked.push(request.url ?? '');
    response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    asked,
    [Symbol.asyncDispose]: async () => {
      server.close();
      await once(server, 'close');
    },
  };
}

test('a hostile router leads nowhere else: by its location, its service or a redirect', async () => {
  await using other = await bystander();
  const { state: byLocation } = await firstState({ natPmp: false, location: other.url });
  assert.equal(byLocation.failure, 'no-answer');
  const { state: byControl } = await firstState({ natPmp: false, control: other.url });
  assert.equal(byControl.failure, 'no-answer');
  const { state: byRedirect } = await firstState({
    natPmp: false,
    onHttp: (_request, response) => void response.writeHead(302, { Location: other.url }).end(),
  });
  assert.equal(byRedirect.failure, 'no-answer');
  assert.deepEqual(other.asked, []);
});

test('only the router itself is asked, whatever other hosts answer', async () => {
  const { state, gateway } = await firstState({ natPmp: false, ssdpFrom: nextAddress() });
  assert.equal(state.failure, 'no-answer');
  assert.ok(gateway.count('ssdp') > 0);
  assert.equal(gateway.count('http /desc.xml'), 0);
});

test('answers that are too long are given up while they arrive', async () => {
  let sentBytes = 0;
  const { state } = await firstState({
    natPmp: false,
    onHttp: (_request, response) => {
      const chunk = Buffer.alloc(64 * 1024, 0x20);
      const more = (): void => {
        while (!response.destroyed && sentBytes < 100e6) {
          sentBytes += chunk.length;
          if (!response.write(chunk)) return void response.once('drain', more);
        }
        response.end();
      };
      more();
    },
  });
  assert.equal(state.failure, 'no-answer');
  assert.ok(sentBytes < 50e6, `${sentBytes}`); // what sockets hold, and no more
});

test('answers of NAT-PMP that are garbage, for another port or of no port are no mapping', async () => {
  const change = (offset: number, value: number) => (answer: Buffer) => {
    if (answer.length === 16) answer.writeUInt16BE(value, offset);
    return answer;
  };
  const [garbled, forAnother, noPort] = await Promise.all([
    firstState({ upnp: false, onNatPmp: () => Buffer.from([0, 128, 0]) }),
    firstState({ upnp: false, onNatPmp: change(8, 22) }),
    firstState({ upnp: false, onNatPmp: change(10, 0) }),
  ]);
  assert.deepEqual([garbled.state.failure, garbled.state.ports], ['no-answer', []]);
  assert.deepEqual([forAnother.state.failure, forAnother.state.ports], ['no-answer', []]);
  assert.deepEqual([noPort.state.failure, noPort.state.ports], ['refused', []]);
});
