import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { LocalNetworks } from '../../src/discovery/local-networks.ts';
import { parseSubnet } from '../../src/discovery/subnet.ts';
import { failsWith } from '../nix/fixtures.ts';
import { asListed } from '../support/made-networks.ts';

const NAMES_OF_CONTAINERS = [
  'docker0',
  'docker_gwbridge',
  'br-0123456789ab',
  'podman1',
  'cni0',
  'flannel.1',
  'cali0123456789a',
];

suite('the local network', () => {
  const networks = new LocalNetworks(() => ({
    lo: [asListed('127.0.0.1/8'), asListed('::1/128')],
    made0: [asListed('192.168.7.20/24'), asListed('2001:db8:7::20/64'), asListed('fe80::20/64', 2)],
    made1: [asListed('203.0.113.9/28'), asListed('10.9.9.9/32'), asListed('100.64.0.9/0'), asListed('2600::9/8')],
    ...Object.fromEntries(NAMES_OF_CONTAINERS.map((name, index) => [name, [asListed(`172.${17 + index}.0.1/16`)]])),
  }));

  const near = [
    '127.0.0.1 127.255.255.254 ::1 ::ffff:127.0.0.1 ::ffff:7f00:1',
    '192.168.7.1 192.168.7.255 ::ffff:192.168.7.9 203.0.113.1 203.0.113.14 10.9.9.9',
    '2001:db8:7::1 2001:db8:7:0:ffff::1 169.254.1.1 fe80::1 fe80::1%made0 febf::1',
  ];
  for (const ip of near.join(' ').split(' ')) test(`${ip} is on it`, () => assert.equal(networks.includes(ip), true));

  const far = [
    '192.168.8.1 10.0.0.1 10.9.9.8 172.16.0.1 203.0.113.17 8.8.8.8 100.64.0.10 0.0.0.0 255.255.255.255',
    '172.17.0.2 172.18.0.2 172.19.0.2 172.20.0.2 172.21.0.2 172.22.0.2 172.23.0.2 fe80::1%docker0',
    '2001:db8:8::1 2601::1 fd00::1 :: ::2 ::ffff:8.8.8.8 ::ffff:192.168.8.1 239.192.152.143 ff15::efc0:988f',
    'localhost 192.168.7 x%made0 %made0',
  ];
  for (const ip of ['', ...far.join(' ').split(' ')])
    test(`${JSON.stringify(ip)} is not on it`, () => assert.equal(networks.includes(ip), false));

  test('own addresses are recognised with and without a zone', () => {
    assert.ok(['192.168.7.20', '::1', 'fe80::20', 'fe80::20%made0', '172.17.0.1'].every((ip) => networks.isOwn(ip)));
    assert.ok(['192.168.7.21', '', 'fe80::21%made0'].every((ip) => !networks.isOwn(ip)));
  });

  test('interfaces are listed without loopback and those of containers', () => {
    assert.deepEqual(networks.interfaces.map(({ name }) => name).toSorted(), ['made0', 'made1']);
    assert.deepEqual(
      networks.interfaces.find(({ name }) => name === 'made0'),
      {
        name: 'made0',
        index: 2,
        ipv4: [{ address: '192.168.7.20', prefixLength: 24 }],
        ipv6: [
          { address: '2001:db8:7::20', prefixLength: 64 },
          { address: 'fe80::20', prefixLength: 64 },
        ],
      },
    );
  });

  test('a new address counts from the moment it appears', (t) => {
    let now = 0;
    t.mock.method(performance, 'now', () => now);
    let listed = {};
    const changing = new LocalNetworks(() => listed);
    assert.equal(changing.includes('192.168.7.1'), false);
    listed = { made0: [asListed('192.168.7.20/24')] };
    now += 1000;
    assert.equal(changing.includes('192.168.7.1'), true);
    listed = {};
    now += 1000;
    assert.equal(changing.includes('192.168.7.1'), false);
  });

  test('configured networks count as local', () => {
    const further = ['10.20.0.0/16', 'fd20::/32', '172.17.0.0/16'].map(parseSubnet);
    const listed = { made0: [asListed('192.168.7.20/24')], docker0: [asListed('172.17.0.1/16')] };
    const wider = new LocalNetworks(() => listed, further);
    for (const ip of ['10.20.3.4', 'fd20::1', '192.168.7.1', '172.17.0.2']) assert.equal(wider.includes(ip), true, ip);
    for (const ip of ['10.21.3.4', 'fd21::1', '8.8.8.8']) assert.equal(wider.includes(ip), false, ip);
    assert.deepEqual(
      wider.interfaces.map(({ name }) => name),
      ['made0'],
    );
  });

  test('a configured network is CIDR, and no large part of the internet', () => {
    assert.deepEqual(parseSubnet('fd20::/32'), { address: 'fd20::', prefixLength: 32, family: 'ipv6' });
    for (const text of ['', '10.20.0.0', '10.20.0.0/33', '10.20/16', 'x/16', 'fe80::1%eth0/64', '10.0.0.0/16/2'])
      assert.throws(() => parseSubnet(text), failsWith('USAGE', /is not a network/), text);
    for (const text of ['0.0.0.0/0', '16.0.0.0/4', '2000::/3'])
      assert.throws(() => parseSubnet(text), failsWith('USAGE', /too much of the internet/), text);
  });
});
