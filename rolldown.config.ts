/** Bundles the program into dist/: `npm run build:program`. */
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'rolldown';
import { thirdPartyLicences } from './packaging/licences.ts';

const stub = (name: string): string => fileURLToPath(new URL(`src/swarm/${name}`, import.meta.url));
const extras = stub('no-extras.cjs');
const http = stub('node-http.cjs');

/** Enables Node's cache of compiled code. Node caches only files that are loaded later, so no other file may contain it. */
const COMPILE_CACHE = /src\/cli\/compile-cache\.ts$/;

/**
 * Modules that every fetch loads, with all that they import. They are one file: Node takes half a millisecond of processor
 * for each file that it loads, and a fetch would load 105 of them.
 */
const CORE =
  /src\/(cli\/(program|fetch)|fetch\/run-fetch|swarm\/network|subscription\/fetch-(roots|resolution)|http\/create-sender|wire\/.*)\.ts$/;

export default defineConfig({
  input: {
    main: 'src/cli/main.ts',
    'reading-worker': 'src/store/reading-worker.ts',
    'hash-thread-worker': 'src/bytes/hash-thread-worker.ts',
  },
  platform: 'node',
  external: ['bufferutil', 'utf-8-validate'],
  resolve: {
    alias: {
      'utp-native': stub('no-utp.cjs'),
      'bittorrent-tracker': extras,
      '@silentbot1/nat-api': extras,
      'load-ip-set': extras,
      'cross-fetch-ponyfill': stub('no-fetch.cjs'),
      http,
      'node:http': http,
    },
  },
  plugins: [thirdPartyLicences()],
  output: {
    dir: 'dist',
    cleanDir: true,
    entryFileNames: '[name].js',
    chunkFileNames: '[name]-[hash].js',
    comments: false,
    codeSplitting: {
      groups: [
        { name: 'compile-cache', test: COMPILE_CACHE, priority: 1 },
        { name: 'core', test: CORE },
      ],
    },
  },
  // A module of the core is there already when it is imported again.
  checks: { ineffectiveDynamicImport: false },
});
