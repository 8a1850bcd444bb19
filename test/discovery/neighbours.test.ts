import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { test } from 'node:test';
import { neighboursInfoHash } from '../../src/discovery/neighbours.ts';
import { parsePublicKey } from '../../src/nix/signature.ts';

const NIXOS = 'cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY=';

test('the group of a key is the SHA-1 of its full text', () => {
  const bytes = `narswarm neighbours 1\n${NIXOS}`;
  assert.equal(neighboursInfoHash(parsePublicKey(NIXOS)), createHash('sha1').update(bytes).digest('hex'));
  assert.equal(neighboursInfoHash(parsePublicKey(NIXOS)), 'eee9a848a3215e003793aa6db9e632e18d1f1d16');
});

test('different keys of one name have different groups', () => {
  const other = parsePublicKey(NIXOS.replace('6NCH', '7NCH'));
  assert.notEqual(neighboursInfoHash(other), neighboursInfoHash(parsePublicKey(NIXOS)));
});
