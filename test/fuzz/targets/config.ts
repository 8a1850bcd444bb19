import { readFileSync } from 'node:fs';
import { parseConfig } from '../../../src/config/schema.ts';
import { expecting, type FuzzTarget } from '../target.ts';

const SMALL = `max-size = "50G"
from = ["https://cache.example.org", "https://other.example.org"]
port = 6881
[subscriptions.desktop]
source = "/nix/store/2s4q97y13dynyhi482033jrx8vka36yx-top"
import = true
`;

/** Config files: each mistake is reported in a sentence, with its line. */
export function config(): FuzzTarget {
  return {
    corpus: [SMALL, SMALL, SMALL, readExample()].map((text) => Buffer.from(text)),
    words: [
      '[',
      ']]',
      '"""',
      "'",
      '=',
      '[subscriptions.x]\n',
      'true',
      '1979-05-27',
      '\\u0000',
      '#',
      '.',
      'inf',
      '__proto__',
    ],
    read(input) {
      expecting(['USAGE'], () => void parseConfig(input.toString(), 'config.toml'));
    },
  };
}

function readExample(): string {
  return readFileSync(new URL('../../../fixtures/config/example.toml', import.meta.url), 'utf8');
}
