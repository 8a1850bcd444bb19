/** Who is blamed for wrong bytes of a file that can only be checked as a whole. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import { Proofs, type Sender } from '../../../src/exchange/download/proofs.ts';
import type { FileHash } from '../../../src/nix/brands.ts';

const FILE = 'a'.repeat(52) as FileHash;

interface MadeSender extends Sender {
  isSilent: boolean;
  isLate: boolean;
  held: 'whole' | undefined;
}

function sender(peer: object = {}): MadeSender {
  return {
    member: { peer },
    isSilent: false,
    isLate: false,
    held: 'whole',
    has(file) {
      return file === FILE ? this.held : undefined;
    },
  };
}

/** Proofs in a time that only the test moves. Chance takes what is at `at` of `[0, 1)`. */
function startProofs() {
  const world = { nowMs: 0, at: 0 };
  const proofs = new Proofs<MadeSender>(FILE, { random: () => world.at, now: () => world.nowMs });
  return { world, proofs };
}

function note(proofs: Proofs<MadeSender>, from: readonly (readonly [MadeSender, string])[], lengthBytes = 10): void {
  for (const [index, [origin, sha1]] of from.entries()) proofs.note(index, { origin, lengthBytes, sha1 });
}

suite('Proofs', () => {
  test('a member that sent all of a wrong file has lied', () => {
    const { proofs } = startProofs();
    const liar = sender();
    note(proofs, [
      [liar, 'x'],
      [liar, 'y'],
    ]);
    assert.equal(proofs.misfits, false);
    assert.equal(proofs.doubt(false, [liar]), liar);
    assert.equal(proofs.misfits, true);
    assert.equal(proofs.only, undefined);
  });

  test('a peer that has connected twice is one member', () => {
    const { proofs } = startProofs();
    const first = sender();
    const again = sender(first.member.peer);
    note(proofs, [
      [first, 'x'],
      [again, 'y'],
    ]);
    assert.equal(proofs.doubt(false, [again]), again);
  });

  test('a member is not blamed for a file of which others sent a part', () => {
    for (const isMixed of [true, false]) {
      const { proofs } = startProofs();
      const one = sender();
      note(proofs, [[one, 'x']]);
      if (!isMixed) proofs.noteBegun(sender());
      assert.equal(proofs.doubt(isMixed, [one]), undefined);
      assert.equal(proofs.only, one);
    }
  });

  test('a member is not blamed for a file of which no member sent a part', () => {
    const { proofs } = startProofs();
    assert.equal(proofs.doubt(true, [sender()]), undefined);
    assert.equal(proofs.only, undefined);
  });

  test('after a wrong mixture, the attempt of a single member is kept apart from that of all', () => {
    const { proofs } = startProofs();
    const [honest, liar, third] = [sender(), sender(), sender()];
    note(proofs, [
      [honest, 'right'],
      [liar, 'wrong'],
    ]);
    assert.equal(proofs.doubt(false, [third]), undefined);
    note(proofs, [
      [third, 'right'],
      [third, 'other'],
    ]);
    assert.deepEqual(
      proofs.right.map(({ origin }) => origin),
      [third, third],
    );
    assert.deepEqual(
      [...proofs.doubts.values()].map(({ origin, sha1 }) => [origin, sha1]),
      [
        [honest, 'right'],
        [liar, 'wrong'],
      ],
    );
  });

  test('the single sender is taken by chance among answering members with the whole file', () => {
    const [one, other, silent, empty] = [sender(), sender(), sender(), sender()];
    silent.isSilent = true;
    empty.held = undefined;
    for (const [at, chosen] of [
      [0, one],
      [0.49, one],
      [0.5, other],
      [0.99, other],
    ] as const) {
      const { proofs, world } = startProofs();
      world.at = at;
      note(proofs, [[one, 'x']]);
      proofs.doubt(true, [silent, one, empty, other]);
      assert.equal(proofs.only, chosen);
    }
  });

  for (const [what, stall] of [
    ['was silent before', (only: MadeSender) => (only.isSilent = true)],
    ['falls silent', (only: MadeSender) => (only.isLate = true)],
    ['no longer has the file', (only: MadeSender) => (only.held = undefined)],
    ['completes no range', (_only: MadeSender, world: { nowMs: number }) => (world.nowMs += 60_000)],
  ] as const) {
    test(`a single sender that ${what} is replaced, and is not chosen again`, () => {
      const { proofs, world } = startProofs();
      const [first, second] = [sender(), sender()];
      const all = [first, second];
      note(proofs, [[first, 'x']]);
      proofs.doubt(true, all);
      assert.equal(proofs.replaceStalled(all), undefined);
      stall(first, world);
      assert.equal(proofs.replaceStalled(all), first);
      assert.equal(proofs.only, second);
      assert.equal(proofs.replaceStalled(all), undefined);
      Object.assign(first, { isSilent: false, isLate: false, held: 'whole' });
      second.isSilent = true;
      assert.equal(proofs.replaceStalled(all), second);
      assert.equal(proofs.only, undefined, 'all may send');
    });
  }

  test('a single sender that completes ranges stays, however long the file takes', () => {
    const { proofs, world } = startProofs();
    const only = sender();
    note(proofs, [[only, 'x']]);
    proofs.doubt(true, [only]);
    for (let step = 0; step < 10; step++) {
      world.nowMs += 9_000;
      assert.equal(proofs.replaceStalled([only, sender()]), undefined);
      proofs.noteProgress();
    }
  });

  test('if the single sender disconnects, another one sends; if there is none, all may', () => {
    const { proofs } = startProofs();
    const [only, other] = [sender(), sender()];
    note(proofs, [[only, 'x']]);
    proofs.doubt(true, [only]);
    proofs.onGone(sender(), [only, other]);
    assert.equal(proofs.only, only);
    proofs.onGone(only, [other]);
    assert.equal(proofs.only, other);
    proofs.onGone(other, []);
    assert.equal(proofs.only, undefined);
  });

  test('for other bytes, the senders of these are forgotten, and earlier attempts are not', () => {
    const { proofs } = startProofs();
    const [one, other, third] = [sender(), sender(), sender()];
    note(proofs, [
      [one, 'a'],
      [other, 'b'],
    ]);
    proofs.doubt(false, [third]);
    note(proofs, [[one, 'a']]);
    proofs.noteBegun(one);
    const next = proofs.forOtherBytes();
    assert.equal(next.misfits, true);
    assert.equal(next.only, third);
    note(next, [
      [third, 'a'],
      [third, 'c'],
    ]);
    assert.deepEqual(
      [...next.doubts.values()].map(({ origin }) => origin),
      [one, other],
    );
    assert.equal(next.doubt(false, []), third);
  });
});
