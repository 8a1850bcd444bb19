import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sentenceOf } from '../../../src/cli/words/doctor-sentences.ts';
import { found, type Findings } from '../../../src/daemon/doctor/finding.ts';

const CLOSED: Findings['firewall'] = {
  protocol: 'udp',
  port: 6771,
  purpose: 'discovery',
  interface: 'eth0',
  passage: 'closed',
  source: 'iptables',
  barriers: ['INPUT'],
  manager: undefined,
};

for (const [manager, command] of [
  [undefined, /^open it: iptables -I INPUT -p udp --dport 6771 -j ACCEPT, and save the rules/],
  ['nixos', /openFirewall = true, or networking\.firewall\.allowedUDPPorts = \[ 6771 \]$/],
  ['ufw', /^open it: ufw allow 6771\/udp$/],
  ['firewalld', /^open it: firewall-cmd --permanent --add-port=6771\/udp && firewall-cmd --reload$/],
] as const)
  test(`a firewall that ${manager ?? 'nobody'} manages is opened by its own command`, () => {
    const { text, wayOut } = sentenceOf(found('firewall', 'bad', { ...CLOSED, manager }));
    assert.equal(text, 'UDP 6771 for finding neighbours on eth0 is dropped by the firewall (iptables)');
    assert.match(String(wayOut), command);
  });
