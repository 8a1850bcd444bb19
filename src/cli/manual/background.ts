/** Sections of the manual that do not follow from the commands. */

/** Environment variables that have an effect. */
export const ENVIRONMENT: readonly (readonly [names: readonly string[], meaning: string])[] = [
  [
    ['NARSWARM_*'],
    'a variable for every key of the config file, such as NARSWARM_MAX_SIZE=50G for max-size. It overrides the file, and an option overrides it. Spaces separate the items of a list',
  ],
  [['NARSWARM_CONFIG'], 'the config file, unless --config names one; it must exist'],
  [['NARSWARM_DEBUG'], 'if set, failures are shown with their causes'],
  [
    ['NO_COLOR', 'TERM', 'CI'],
    'progress has colours on a terminal that can show them, unless NO_COLOR is set. With TERM=dumb or CI set, nothing is redrawn',
  ],
  [['CONFIGURATION_DIRECTORY'], 'set by a service: folder of the config file (config.toml), which may be missing'],
  [
    ['STATE_DIRECTORY'],
    'set by systemd: folder of the file store (store) and the publisher key, instead of the user’s folders',
  ],
  [['XDG_CACHE_HOME'], 'folder of the file store, unless --store names another (default: ~/.cache)'],
  [['XDG_CONFIG_HOME'], 'folder of the config file and of the publisher key (default: ~/.config)'],
  [
    ['http_proxy', 'https_proxy', 'all_proxy', 'no_proxy'],
    'proxies for HTTP, as in curl; not used for peers and the DHT',
  ],
  [
    ['NIX_REMOTE', 'NIX_CONFIG'],
    'settings of Nix, which narswarm runs to read its configuration, to evaluate, import and export',
  ],
];

/** Signals that end a command early. */
export const SIGNALS: readonly (readonly [names: readonly string[], meaning: string])[] = [
  [
    ['SIGINT', 'SIGTERM'],
    'the command writes its state and ends; everything fetched is kept. A second signal ends it at once',
  ],
  [
    ['SIGHUP'],
    'the same, even if repeated: the terminal was closed. Ignored without a terminal (nohup, setsid, a service)',
  ],
];

/** Files that commands read or write. */
export const FILES: readonly (readonly [name: string, meaning: string])[] = [
  ['/etc/narswarm/config.toml', 'the config file of the system, for root and services; narswarm config lists its keys'],
  ['~/.config/narswarm/config.toml', 'the config file of a user: settings and subscriptions'],
  ['/var/lib/narswarm', 'the system’s file store (store) and publisher key (publisher.key)'],
  ['~/.cache/narswarm', 'the file store of a user: an ordinary binary cache of Nix (nix-cache-info, *.narinfo, nar/)'],
  ['STORE/narswarm', 'the state of the file store: requested paths (catalogue.jsonl), partial downloads (partial)'],
  ['STORE/narswarm/subscriptions', 'the generations and the last update of each subscription'],
  ['STORE/narswarm/lists', 'lists of store paths, as last fetched'],
  ['STORE/narswarm/pins', 'pinned paths'],
  ['STORE/narswarm/index', 'followed hash maps'],
  ['STORE/narswarm/published', 'this machine’s own hash maps, ready for any HTTP server'],
  ['STORE/narswarm/quarantine', 'damaged files that narswarm verify found'],
  [
    '~/.config/narswarm/publisher.key',
    'the key that signs hash maps. Followers know the publisher by it, so keep a copy',
  ],
  ['/etc/nix/nix.conf', 'substituters and trusted-public-keys, unless options name others'],
];

export const SEE_ALSO: readonly (readonly [page: string, section: number])[] = [
  ['nix', 1],
  ['nix-store', 1],
  ['nix.conf', 5],
  ['systemd.timer', 5],
];
