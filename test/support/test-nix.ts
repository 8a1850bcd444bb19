/**
 * Makes tests run with another Nix than the one in PATH: NARSWARM_TEST_NIX names its `nix`, or the folder of its
 * programs. Everything in support/ that runs Nix imports it for its effect.
 */
import { statSync } from 'node:fs';
import { delimiter, dirname, join, resolve } from 'node:path';

const named = process.env['NARSWARM_TEST_NIX'] ?? '';
if (named !== '') {
  const bin = statSync(named).isDirectory() ? resolve(named) : dirname(resolve(named));
  for (const program of ['nix', 'nix-store', 'nix-build']) statSync(join(bin, program)); // or the tests would mix two
  const { PATH = '' } = process.env;
  if (PATH.split(delimiter)[0] !== bin) process.env['PATH'] = `${bin}${delimiter}${PATH}`;
}
