/** Bundles the program into dist/: `npm run build:program`. */
import { fileURLToPath } from 'node:url';
import { defineConfig, type Plugin } from 'rolldown';
import { thirdPartyLicences } from './packaging/licences.ts';

const stub = (name: string): string => fileURLToPath(new URL(`src/swarm/${name}`, import.meta.url));
const extras = stub('no-extras.cjs');
const http = stub('node-http.cjs');

/** Keeps compiled code, and loads the core with it. */
const COMPILE_CACHE = /src\/cli\/start\/compile-cache\.ts$/;

/**
 * Modules that every fetch loads, with all that they import. They are one file: Node takes half a millisecond of processor
 * for each file that it loads, and a fetch would load 105 of them. `cli/start/core-script.ts` keeps its compiled functions.
 */
const CORE =
  /src\/(cli\/(program|commands\/fetch)|fetch\/run-fetch|swarm\/network|subscription\/fetch-(roots|resolution)|wire\/.*|http\/connection\/pool-sender)\.ts$/;

/** Tells Node that the files of `dist/` are not modules, as those of the checkout are. */
const commonJs = (): Plugin => ({
  name: 'common-js',
  generateBundle() {
    this.emitFile({ type: 'asset', fileName: 'package.json', source: '{ "type": "commonjs" }\n' });
  },
});

/**
 * Escapes the few characters beyond ASCII in strings. With a single one, V8 keeps the source of a file in two bytes a
 * character: a twentieth of the processor time of a fetch of one NAR.
 */
const ascii = (): Plugin => ({
  name: 'ascii',
  generateBundle(_, bundle) {
    const escape = (unit: string): string => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`;
    for (const file of Object.values(bundle))
      if (file.type === 'chunk') file.code = file.code.replaceAll(/[^\0-\x7f]/g, escape);
  },
});

export default defineConfig({
  input: {
    main: 'src/cli/main.ts',
    'reading-worker': 'src/store/decoding/reading-worker.ts',
    'hash-thread-worker': 'src/bytes/hash-thread-worker.ts',
    'request-worker': 'src/mount/request-worker.ts',
  },
  platform: 'node',
  external: ['bufferutil', 'utf-8-validate'],
  resolve: {
    alias: {
      'utp-native': stub('no-utp.cjs'),
      'bittorrent-tracker': extras,
      '@silentbot1/nat-api': extras,
      'load-ip-set': extras,
      'fast-readable-async-iterator': extras,
      'cross-fetch-ponyfill': stub('no-fetch.cjs'),
      http,
      'node:http': http,
    },
  },
  plugins: [thirdPartyLicences(), commonJs(), ascii()],
  output: {
    dir: 'dist',
    // V8 keeps the functions that a run has compiled only for scripts, not for modules.
    format: 'cjs',
    intro: "'use strict';", // as modules are
    cleanDir: true,
    entryFileNames: '[name].js',
    chunkFileNames: ({ name }) => (name === 'core' ? 'core.js' : '[name]-[hash].js'),
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
