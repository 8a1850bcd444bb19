/**
 * Runs tests with the Nix of a newer release of Debian: `npm run test:newer-nix [-- [--suite SUITE] FILE…]`. Without files
 * it runs those that use Nix most. If there is no newer Nix, it says why in one line; this is no failure.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { newerNix, NoNewerNix } from './newer-nix.ts';

const FILES = [
  'test/e2e/main-job.test.ts',
  'test/e2e/add.test.ts',
  'test/e2e/derivations.test.ts',
  'test/e2e/update.test.ts',
  'test/e2e/update-evaluated.test.ts',
  'test/e2e/out-link.test.ts',
  'test/e2e/update-profile.test.ts',
  'test/e2e/update-roots.test.ts',
  'test/e2e/update-sources.test.ts',
  'test/e2e/substituter.test.ts',
  'test/e2e/substituter-lost.test.ts',
  'test/e2e/ready.test.ts',
  'test/e2e/update-ready.test.ts',
  'test/e2e/early-import.test.ts',
  'test/fetch/import/early-import.test.ts',
  'test/nix/programs/worker.test.ts',
  'test/nix/programs/run-nix.test.ts',
  'test/nix/programs/nix-eval.test.ts',
  'test/nix-packaging/lost-substituter.test.ts',
  'test/nix-packaging/post-build-hook.test.ts',
];

const { values, positionals } = parseArgs({ options: { suite: { type: 'string' } }, allowPositionals: true });
const bin = find();
if (bin !== undefined) {
  const version = execFileSync(join(bin, 'nix'), ['--version'], { encoding: 'utf8' }).trim();
  process.stdout.write(`with ${version}, ${bin}\n`);
  const files = positionals.length > 0 ? positionals : FILES;
  const { status } = spawnSync(process.execPath, ['--test', '--test-concurrency=3', ...files], {
    stdio: 'inherit',
    env: { ...process.env, NARSWARM_TEST_NIX: bin },
  });
  process.exitCode = status ?? 1;
}

function find(): string | undefined {
  try {
    return newerNix(values.suite);
  } catch (error) {
    if (!(error instanceof NoNewerNix)) throw error;
    process.stdout.write(`not run with a newer Nix: ${error.message}\n`);
    return undefined;
  }
}
