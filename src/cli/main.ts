#!/usr/bin/env node
// Without a listener for this signal, Node opens a debugger to every local user.
process.on('SIGUSR1', () => undefined);
const [major] = process.versions.node.split('.').map(Number);
if (major === undefined || major < 24) {
  process.stderr.write(
    `error: narswarm needs Node 24 or newer, this is ${process.versions.node}: install a newer one from nodejs.org; a checkout has its own, in its node_modules/.bin: put that first in PATH\n`,
  );
  process.exit(2);
}
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // The reader of stdout has seen enough, or the terminal was closed: the running command ends in good order.
  if (error.code === 'EPIPE' || error.code === 'EIO') return;
  // On a full disk the command continues: the end of an update may free space.
  if (process.exitCode === undefined) process.stderr.write(`error: cannot write to stdout: ${error.message}\n`);
  process.exitCode ??= 1;
});
process.stderr.on('error', () => undefined); // an error message could not be read
void main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<void> {
  process.once('beforeExit', endUnsettled);
  const { availableParallelism } = await import('node:os');
  // These compress in the threads of Node's pool: four by default, and all started at the first use.
  if (['add', 'publish'].some((command) => args.includes(command)) && availableParallelism() > 4)
    process.env['UV_THREADPOOL_SIZE'] ??= String(availableParallelism());
  const { keepCompiled } = await import('./start/compile-cache.ts');
  keepCompiled(args);
  const { onlyCommand, program, wordsToParse } = await import('./program.ts');
  const words = wordsToParse(args);
  const commands = await program(onlyCommand(words));
  await commands.parseAsync(words, { from: 'user' });
  process.off('beforeExit', endUnsettled);
}

/** Ends a command that waits for something that can no longer happen. */
function endUnsettled(): void {
  process.stderr.write('error: the command waits for something that never happens: this is a bug\n');
  process.exit(1);
}
