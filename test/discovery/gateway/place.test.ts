import assert from 'node:assert/strict';
import { test } from 'node:test';
import { defaultGateway, findPlace, isPrivate } from '../../../src/discovery/gateway/place.ts';

const HEADER = 'Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n';
const route = (destination: string, gateway: string, flags: string, metric: number, mask: string): string =>
  `eth0\t${destination}\t${gateway}\t${flags}\t0\t0\t${metric}\t${mask}\t0\t0\t0\n`;

test('the gateway is that of the default route with the lowest metric', () => {
  const routes = [
    route('00000000', '0101A8C0', '0003', 600, '00000000'),
    route('00000000', 'FE01000A', '0003', 100, '00000000'),
    route('0000000A', '0901000A', '0003', 0, '000000FF'),
    route('00000000', '00000000', '0001', 50, '00000000'), // a tunnel, which has no gateway
  ];
  assert.equal(defaultGateway(HEADER + routes.join('')), '10.0.1.254');
  assert.equal(defaultGateway(HEADER + routes[0]), '192.168.1.1');
  assert.equal(defaultGateway(HEADER + routes[3]), undefined);
  assert.equal(defaultGateway(''), undefined);
  assert.equal(defaultGateway('garbage\n00000000\n\n\t\t'), undefined);
});

test('addresses that the internet cannot reach', () => {
  for (const address of ['10.1.2.3', '192.168.0.1', '172.31.0.1', '100.64.0.1', '127.0.0.1', '169.254.1.1', '0.0.0.0'])
    assert.ok(isPrivate(address), address);
  for (const address of ['203.0.113.7', '100.128.0.1', '172.32.0.1', '8.8.8.8'])
    assert.ok(!isPrivate(address), address);
});

test('a process on loopback or on IPv6 alone has no way to a router', async () => {
  for (const listen of ['127.0.0.1', '::1', 'fe80::1%eth0']) {
    const found = await findPlace(listen);
    assert.ok(found === 'listen' || found === 'no-gateway', listen); // some machines have no route
  }
});
