/** Plays situations that people live through, plain Nix beside them: `npm run situations -- [NAME]…`; needs root. */
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

const known = Object.keys(SITUATIONS);
const wanted = process.argv.length > 2 ? process.argv.slice(2) : known;
const unknown = wanted.find((name) => !known.includes(name));
if (unknown !== undefined) {
  process.stderr.write(`"${unknown}" is not one of ${known.join(', ')}: npm run situations -- [NAME]…\n`);
  process.exit(2);
}
for (const name of wanted) {
  const play = SITUATIONS[name];
  if (play === undefined) continue;
  process.stdout.write(`\n${name}\n`);
  await play((line) => process.stdout.write(`${line}\n`));
}
