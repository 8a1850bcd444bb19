#!/usr/bin/env node
const [major] = process.versions.node.split('.').map(Number);
if (major === undefined || major < 24) {
  process.stderr.write(
    `error: narswarm needs Node 24 or newer, this is ${process.versions.node}: run it as npx narswarm from its checkout\n`,
  );
  process.exit(2);
}
const { enableCompileCache } = await import('node:module');
enableCompileCache();
const { program } = await import('./program.ts');
await program().parseAsync();
