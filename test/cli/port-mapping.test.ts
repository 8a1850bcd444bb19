import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mappingSentence } from '../../src/cli/port-mapping.ts';
import { MAPPING_FAILURES, unmapped, type PortMapping } from '../../src/discovery/gateway/mapping.ts';

const MAPPED: PortMapping = {
  gateway: '192.168.1.1',
  protocol: 'upnp',
  externalAddress: '203.0.113.7',
  ports: [
    { protocol: 'tcp', internalPort: 16_277, externalPort: 50_000, until: null },
    { protocol: 'udp', internalPort: 16_277, externalPort: 16_277, until: null },
  ],
  failure: null,
  refusal: null,
};

test('a mapping is one sentence, with the ports here where they differ', () => {
  assert.equal(
    mappingSentence(MAPPED),
    'the router 192.168.1.1 maps TCP 50000, here 16277 and UDP 16277 of 203.0.113.7 to this machine, by UPnP',
  );
  assert.equal(mappingSentence(unmapped(null)), 'the router is being asked to map the ports of this machine');
});

test('every failure has a reason and a way out, beside what is still mapped', () => {
  for (const failure of MAPPING_FAILURES)
    assert.match(mappingSentence(unmapped(failure, '192.168.1.1')), /^[^:]+(: )?.+: .+/);
  const nested = mappingSentence({ ...MAPPED, externalAddress: '100.64.3.4', failure: 'nested-nat' });
  assert.match(
    nested,
    /maps TCP 50000.*; but the address of the router is 100\.64\.3\.4, which the internet cannot reach: /,
  );
  const refused = mappingSentence({ ...unmapped('refused', '192.168.1.1'), refusal: 606 });
  assert.match(refused, /the router 192\.168\.1\.1 refuses to map the ports \(error 606\): let this machine/);
});
