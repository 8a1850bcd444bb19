import assert from 'node:assert/strict';
import { createDiffieHellman } from 'node:crypto';
import { test } from 'node:test';
import { KeyExchange } from '../../src/wire/encryption.ts';
import { Rc4 } from '../../src/wire/rc4.ts';

const PRIME =
  'ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404ddef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563';

test('both sides compute one secret, a different one for each client', () => {
  const keys = new KeyExchange();
  const client = createDiffieHellman(PRIME, 'hex', 2);
  const theirs = client.generateKeys();
  const secrets = Array.from({ length: 3 }, () => {
    const { ours, secret } = keys.agree(theirs);
    assert.ok(
      ours.length === 96 && client.computeSecret(ours).equals(secret.subarray(-client.computeSecret(ours).length)),
    );
    return secret.toString('hex');
  });
  assert.equal(new Set(secrets).size, 3);
});

test('a malformed public key throws, and does not affect the next client', () => {
  const keys = new KeyExchange();
  assert.throws(() => keys.agree(Buffer.alloc(96)));
  assert.throws(() => keys.agree(Buffer.alloc(96, 0xff)));
  keys.agree(createDiffieHellman(PRIME, 'hex', 2).generateKeys());
});

test('RC4 skips the first 1,024 bytes of its key stream (RFC 6229)', () => {
  const key = Buffer.from('0102030405060708090a0b0c0d0e0f10', 'hex');
  assert.equal(new Rc4(key).apply(Buffer.alloc(16)).toString('hex'), 'bdf0324e6083dcc6d3cedd3ca8c53c16');
});
