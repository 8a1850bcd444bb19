/** What the manual says beyond the definitions of the commands. */

/** Variables of the environment that are heeded. */
export const ENVIRONMENT: readonly (readonly [names: readonly string[], meaning: string])[] = [
  [['XDG_CACHE_HOME'], 'folder of the file store, unless --store names another (default: ~/.cache)'],
  [['XDG_CONFIG_HOME'], 'folder of the publisher key and of settings (default: ~/.config)'],
  [['http_proxy', 'https_proxy', 'no_proxy'], 'proxies for HTTP; peers and the DHT are not asked through them'],
  [['NIX_REMOTE', 'NIX_CONFIG'], 'heeded by Nix, which is run to read its configuration, to import and to export'],
  [['NARSWARM_DEBUG'], 'if set, a failure is followed by what caused it'],
];

/** Files that are read or written. */
export const FILES: readonly (readonly [name: string, meaning: string])[] = [
  ['~/.cache/narswarm', 'the file store: an ordinary binary cache of Nix (nix-cache-info, *.narinfo, nar/)'],
  ['~/.cache/narswarm/narswarm', 'state beside it: what was asked for, files on their way, hash maps'],
  [
    '~/.config/narswarm/publisher.key',
    'the key that signs hash maps: followers know the publisher by it, so keep a copy',
  ],
  ['/etc/nix/nix.conf', 'substituters and trusted-public-keys, where no option names others'],
];

export const SEE_ALSO: readonly (readonly [page: string, section: number])[] = [
  ['nix', 1],
  ['nix-store', 1],
  ['nix.conf', 5],
];
