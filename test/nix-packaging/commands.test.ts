/** The package, the NixOS module and the units start only commands of the program. */
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { suite, test } from 'node:test';
import { program } from '../../src/cli/program.ts';
import { EXIT_STATUSES } from '../../src/errors.ts';
import { systemdUnits } from '../../src/daemon/systemd-units.ts';
import { evaluate, service } from './module-cases.ts';
import { nixEval } from './nix-eval.ts';

const COMMANDS = new Set((await program()).commands.map((command) => command.name()));

/** Fails unless the pattern matches, and its first group is always a command. */
function assertCommands(text: string, pattern: RegExp): void {
  const names = [...text.matchAll(pattern)].map(([, name]) => String(name));
  assert.ok(names.length > 0, `nothing is started in: ${text}`);
  for (const name of names) assert.ok(COMMANDS.has(name), `there is no command ${name}`);
}

suite('commands started', () => {
  test('by the package', () => {
    const { postInstall, installCheckPhase } = nixEval('import ./nix/tests/package-eval.nix { }') as Record<
      string,
      string
    >;
    for (const text of [postInstall, installCheckPhase]) assertCommands(String(text), /bin\/narswarm ([a-z]+)/g);
  });

  test('by the NixOS module', () => {
    const { desktop } = evaluate({ desktop: './nix/examples/desktop.nix' });
    for (const name of ['narswarm', 'narswarm-update'])
      assertCommands(String(service(desktop, name).serviceConfig['ExecStart']), /narswarm --config \S+ ([a-z]+)$/g);
  });

  test('by the units', () => {
    const units = systemdUnits({ program: ['/opt/narswarm'], user: false });
    for (const { name, text } of units.filter((unit) => unit.name.endsWith('.service'))) {
      assertCommands(text, /^ExecStart=\/opt\/narswarm ([a-z]+)$/gm);
      assert.ok(text.includes('ExecStart='), name);
      // the end of a time window is no failure
      assert.match(text, /^SuccessExitStatus=130$/m, name);
    }
    assert.equal(EXIT_STATUSES.INTERRUPTED[0], 130);
  });

  test('by the VM test', async () => {
    const text = await readFile(new URL('../../nix/tests/vm.nix', import.meta.url), 'utf8');
    assertCommands(text, /"narswarm --config \S+ ([a-z]+)"/g);
  });
});
