/** What the manual says beyond the definitions of the commands. */

/** Variables of the environment that are heeded. */
export const ENVIRONMENT: readonly (readonly [names: readonly string[], meaning: string])[] = [
  [
    ['NARSWARM_*'],
    'every key of the config file, such as NARSWARM_MAX_SIZE=50G for max-size: stronger than the file, weaker than an option; items of a list have spaces between them',
  ],
  [['NARSWARM_CONFIG'], 'the config file, where --config names none; it has to be there'],
  [['NARSWARM_DEBUG'], 'if set, a failure is followed by what caused it'],
  [
    ['STATE_DIRECTORY'],
    'set by systemd: folder of the file store (store) and of the publisher key, instead of those of the user',
  ],
  [['XDG_CACHE_HOME'], 'folder of the file store, unless --store names another (default: ~/.cache)'],
  [['XDG_CONFIG_HOME'], 'folder of the config file and of the publisher key (default: ~/.config)'],
  [
    ['http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'],
    'proxies for HTTP, as curl reads them; peers and the DHT are not asked through them',
  ],
  [
    ['NIX_REMOTE', 'NIX_CONFIG'],
    'heeded by Nix, which is run to read its configuration, to evaluate, import and export',
  ],
];

/** What ends a command before it is done. */
export const SIGNALS: readonly (readonly [names: readonly string[], meaning: string])[] = [
  [
    ['SIGINT', 'SIGTERM'],
    'the command ends in good order, with its state written; what it has fetched is kept. A second one ends it at once',
  ],
  [
    ['SIGHUP'],
    'the same, however often it comes: the terminal was closed. Without a terminal (nohup, setsid, a service) it is ignored',
  ],
];

/** Files that are read or written. */
export const FILES: readonly (readonly [name: string, meaning: string])[] = [
  ['/etc/narswarm/config.toml', 'the config file of the system, for root and services; narswarm config lists its keys'],
  ['~/.config/narswarm/config.toml', 'the config file of a user: settings and subscriptions'],
  ['/var/lib/narswarm', 'of the system: the file store (store) and the publisher key (publisher.key)'],
  ['~/.cache/narswarm', 'the file store of a user: an ordinary binary cache of Nix (nix-cache-info, *.narinfo, nar/)'],
  ['STORE/narswarm', 'state beside it: what was asked for (catalogue.jsonl), files on their way (partial)'],
  ['STORE/narswarm/subscriptions', 'the generations of each subscription and how its last update went'],
  ['STORE/narswarm/lists', 'lists of store paths, as they were fetched last'],
  ['STORE/narswarm/pins', 'what narswarm pin keeps'],
  ['STORE/narswarm/index', 'hash maps that are followed'],
  ['STORE/narswarm/published', 'this machine’s own hash maps, as any HTTP server can serve them'],
  ['STORE/narswarm/quarantine', 'damaged files that narswarm verify has moved out of the way'],
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
  ['systemd.timer', 5],
];
