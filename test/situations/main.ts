/** Plays situations that people live through, plain Nix beside them: `npm run situations [NAME]…`; needs root. */
import { playClassroom } from './classroom.ts';
import { playMishaps } from './mishaps.ts';
import { playLongNar } from './long-nar.ts';
import { playNeighbours } from './neighbours.ts';
import { playNights } from './nights.ts';
import { playSlowLine } from './slow-line.ts';

const SITUATIONS: Readonly<Record<string, (say: (line: string) => void) => Promise<void>>> = {
  classroom: playClassroom,
  mishaps: playMishaps,
  'long-nar': playLongNar,
  neighbours: playNeighbours,
  nights: playNights,
  'slow-line': playSlowLine,
};

const wanted = process.argv.length > 2 ? process.argv.slice(2) : Object.keys(SITUATIONS);
for (const name of wanted) {
  const play = SITUATIONS[name];
  if (play === undefined) throw new Error(`${name} is not one of ${Object.keys(SITUATIONS).join(', ')}`);
  process.stdout.write(`\n${name}\n`);
  await play((line) => process.stdout.write(`${line}\n`));
}
