#!/usr/bin/env node
// Node opens a debugger to every local user at this signal, unless somebody listens to it.
process.on('SIGUSR1', () => undefined);
const [major] = process.versions.node.split('.').map(Number);
if (major === undefined || major < 24) {
  process.stderr.write(
    `error: narswarm needs Node 24 or newer, this is ${process.versions.node}: run it as npx narswarm from its checkout\n`,
  );
  process.exit(2);
}
// Blocks that come from the network live for milliseconds. A young generation that stays small has them collected sooner:
// 235 MB in place of 285 MB for a closure of 687 MB, at the same speed.
const { setFlagsFromString } = await import('node:v8');
setFlagsFromString('--semi-space-growth-factor=1');
const { keepCompiled } = await import('./compile-cache.ts');
keepCompiled();
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  // Whoever read what we print has seen enough, or has closed the terminal: a command that is at work ends in good order.
  if (error.code === 'EPIPE' || error.code === 'EIO') return;
  // On a full disk it goes on: what an update does at its end may free it.
  if (process.exitCode === undefined) process.stderr.write(`error: cannot write to stdout: ${error.message}\n`);
  process.exitCode ??= 1;
});
process.stderr.on('error', () => undefined); // nobody is there to be told
const { program } = await import('./program.ts');
await program().parseAsync();
