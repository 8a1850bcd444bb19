# The NixOS module: a daemon that seeds, and an update that fetches the subscriptions at night.
#
# units.json has the settings that these units share with those of `narswarm service`; src/daemon/systemd-units.ts explains
# them. The config file has the names of the program's options, so `settings` needs no list of them here. The program
# checks the file while the system is built.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.narswarm;
  inherit (cfg) settings;
  units = lib.importJSON ./units.json;
  toml = pkgs.formats.toml { };

  # Explained in src/wire/ports.ts.
  defaultPorts = lib.importJSON ./ports.json;
  namePattern = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}";

  scope = settings.scope or "lan";
  usesDht = settings.dht or true;
  usesLan = settings.lan or true;
  publishes = settings.publish or false;
  # The daemon serves its own hash map and followed ones over HTTP.
  isPublisher = source: builtins.match "magnet:.*|https?:.*[?&]xs=.*" source != null;
  servesMaps =
    publishes
    || (settings.publisher or [ ]) != [ ]
    || lib.any (subscription: isPublisher (subscription.source or "")) (lib.attrValues subscriptions);
  announces = lib.elem scope [
    "cohort"
    "public"
  ];
  port = settings.port or defaultPorts.peers;
  dhtPort = settings.dht-port or defaultPorts.dht;
  httpPort = settings.http-port or defaultPorts.http;

  # Ports that a firewall has to let in. The program refuses peers outside the scope before it reads a byte.
  tcpPorts = [ port ] ++ lib.optional servesMaps httpPort;
  tcpRanges = [ defaultPorts.beside ];
  udpPorts = lib.optional (usesDht && (announces || publishes)) dhtPort ++ lib.optionals usesLan [
      defaultPorts.discovery
      defaultPorts.mdns
    ];
  named = {
    inherit port;
  }
  // lib.optionalAttrs (usesDht && (announces || publishes)) { dht-port = dhtPort; }
  // lib.optionalAttrs servesMaps { http-port = httpPort; };
  ofChance = lib.filter (name: named.${name} == 0) (lib.attrNames named);

  firewall = config.networking.firewall;
  opensFirewall = if cfg.openFirewall == null then scope == "lan" else cfg.openFirewall;
  # True if the port was opened by hand, for all interfaces or for one.
  letsPeersIn = lib.any (
    { allowedTCPPorts ? [ ], allowedTCPPortRanges ? [ ], ... }:
    lib.elem port allowedTCPPorts || lib.any (range: range.from <= port && port <= range.to) allowedTCPPortRanges
  ) ([ firewall ] ++ lib.attrValues firewall.interfaces);
  openIt = "services.narswarm.openFirewall = true; (TCP ${
    toString (tcpPorts ++ map (range: "${toString range.from}-${toString range.to}") tcpRanges)
  }, UDP ${toString udpPorts})";
  subscriptions = settings.subscriptions or { };
  published = lib.attrNames (lib.filterAttrs (_: subscription: subscription.publish or false) subscriptions);
  aimless = lib.attrNames (
    lib.filterAttrs (_: subscription: subscription ? to && !(subscription.import or false)) subscriptions
  );
  misnamed = lib.filter (name: builtins.match namePattern name == null) (lib.attrNames subscriptions);

  # The path as text without its dependency, so that nixos-rebuild neither downloads nor builds it. The machine fetches it
  # at night, through narswarm.
  donatedPath = package: builtins.unsafeDiscardStringContext (toString package);
  # The name of the program, so that its next version is the next generation of the same subscription. Programs with the
  # same name get the whole name of their paths.
  donationName =
    package:
    let
      name = lib.getName package;
      twins = lib.filter (other: lib.getName other == name && toString other != toString package) cfg.donations;
      full = "donation-${if twins == [ ] then name else baseNameOf (donatedPath package)}";
    in
    lib.substring 0 64 (lib.replaceStrings [ "+" "?" "=" ] [ "_" "_" "_" ] full);
  unknownDonations = lib.filter (package: !(lib.hasPrefix "${builtins.storeDir}/" (donatedPath package))) cfg.donations;

  generated = toml.generate "narswarm.toml" settings;
  checked =
    pkgs.runCommand "narswarm-config.toml" { } ''
      HOME=$TMPDIR ${lib.getExe cfg.package} --config ${generated} config > /dev/null
      cp ${generated} $out
    '';
  configFile = if cfg.checkConfig then checked else generated;

  run = command: "${lib.getExe cfg.package} --config ${configFile} ${command}";

  unit = {
    wants = [ "network-online.target" ];
    after = [
      "network-online.target"
      "nix-daemon.socket"
    ];
    # git for flakes in a git tree, ssh for ssh-ng:// stores.
    path = [
      config.nix.package
      pkgs.gitMinimal
      pkgs.openssh
    ];
    unitConfig = units.start;
    environment =
      config.nix.envVars
      // config.networking.proxy.envVars
      // {
        NIX_REMOTE = "daemon";
      }
      # For subscriptions to files that say <nixpkgs>.
      // lib.optionalAttrs (config.nix.nixPath != [ ]) { NIX_PATH = lib.concatStringsSep ":" config.nix.nixPath; }
      // lib.optionalAttrs (cfg.keyFile != null) { NARSWARM_KEY = "%d/publisher-key"; };
  };
  service =
    units.system
    // units.filters
    // lib.optionalAttrs (cfg.keyFile != null) { LoadCredential = [ "publisher-key:${cfg.keyFile}" ]; };

  # An optional text, and a switch that is off by default.
  textOption =
    more:
    lib.mkOption (
      {
        type = lib.types.nullOr lib.types.str;
        default = null;
      }
      // more
    );
  switchOption =
    description:
    lib.mkOption {
      type = lib.types.bool;
      default = false;
      inherit description;
    };

  subscription = lib.types.submodule {
    options = {
      source = lib.mkOption {
        type = lib.types.str;
        example = "magnet:?xs=urn:btpk:8c34…#desktop";
        description = ''
          Source of the store paths: a publisher's address, with `#ROOT` for one root of its hash map; a store path or
          profile; a file or URL that lists store paths; or an installable. README.md explains them.
        '';
      };
      file = textOption {
        description = "Nix file in which `source` is an attribute path.";
      };
      import = switchOption ''
        Whether an update imports the paths into the Nix store. The unit imports through nix-daemon as an ordinary user, so
        the paths need a signature by one of `nix.settings.trusted-public-keys`.
      '';
      to = textOption {
        example = "ssh-ng://server";
        description = "Nix store to import into, instead of this machine's. Needs `import`.";
      };
      sources = switchOption "Whether to fetch the sources of its build closure, too.";
      publish = switchOption "Whether to make it a root of this machine's own hash map. Needs `services.narswarm.publish`.";
    };
  };
in
{
  options.services.narswarm = {
    enable = lib.mkEnableOption "narswarm, which prefetches Nix closures over BitTorrent and seeds them";

    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.narswarm or (pkgs.callPackage ./package.nix { });
      defaultText = lib.literalExpression "pkgs.narswarm";
      description = "The narswarm package to use.";
    };

    settings = lib.mkOption {
      type = lib.types.submodule { freeformType = toml.type; };
      default = { };
      example = {
        publisher = [ "magnet:?xs=urn:btpk:8c34…" ];
        max-download-rate = "10MB/s";
        until = "06:00";
      };
      description = ''
        Contents of the config file, `/etc/narswarm/config.toml`. The keys are the long names of the program's options;
        `narswarm config` lists them. Put no secrets here: everybody can read the file in the Nix store.
      '';
    };

    checkConfig = lib.mkOption {
      type = lib.types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalExpression "pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform";
      description = "Whether to check the config file with the program while the system is built. A malformed file then fails the build.";
    };

    subscriptions = lib.mkOption {
      type = lib.types.attrsOf subscription;
      default = { };
      example = {
        desktop = {
          source = "magnet:?xs=urn:btpk:8c34…#desktop";
          import = true;
        };
      };
      description = "Subscriptions: paths that the nightly update keeps up to date.";
    };

    donations = lib.mkOption {
      type = lib.types.listOf lib.types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.firefox pkgs.libreoffice ]";
      description = ''
        Packages whose closures this machine holds and seeds without installing them. Each becomes a subscription
        `donation-NAME` to its store path. They are neither built nor put into the Nix store, so a binary cache or a
        publisher must have them. A package that an overlay changes is usually in none.
      '';
    };

    scope = lib.mkOption {
      type = lib.types.nullOr (
        lib.types.enum [
          "off"
          "lan"
          "cohort"
          "public"
        ]
      );
      default = null;
      example = "cohort";
      description = ''
        Who learns which NARs this machine has: nobody (`off`), the local network (`lan`, the program's default), followers of
        the same publisher (`cohort`), or everybody (`public`). With `off` there is no daemon.
      '';
    };

    cacheSize = textOption {
      example = "50G";
      description = "Limit for the size of the file store. Default: no limit. An update removes paths beyond it.";
    };

    publish = switchOption "Whether this machine publishes a hash map of its own, of the subscriptions with `publish`.";

    keyFile = textOption {
      example = "/var/lib/secrets/narswarm-publisher.key";
      description = ''
        Key that signs this machine's hash map; `narswarm key --file FILE` creates it. systemd passes it to the units
        (LoadCredential), so only root needs to be able to read it. Keep a copy: followers know the publisher by it.
      '';
    };

    openFirewall = lib.mkOption {
      type = lib.types.nullOr lib.types.bool;
      default = null;
      defaultText = lib.literalExpression ''services.narswarm.scope is "lan"'';
      example = true;
      description = ''
        Whether to open the firewall on all interfaces for these ports:

        - TCP `settings.port` (${toString defaultPorts.peers}): peers of the daemon;
        - TCP ${toString defaultPorts.beside.from} to ${toString defaultPorts.beside.to}: peers of an update or a fetch;
        - UDP ${toString defaultPorts.discovery}: neighbours that find each other;
        - UDP ${toString defaultPorts.mdns}: caches that announce themselves (mDNS);
        - TCP `settings.http-port` (${toString defaultPorts.http}), if a hash map is published or followed;
        - UDP `settings.dht-port` (${toString defaultPorts.dht}), with `publish`, or with scope `cohort` or `public`.

        The default is true with scope `lan`: the program refuses hosts outside the networks of this machine's interfaces
        before it reads a byte. With scope `cohort` or `public` there is no default: set true or false.
      '';
    };

    update = {
      startAt = lib.mkOption {
        type = lib.types.either lib.types.str (lib.types.listOf lib.types.str);
        default = units.timer.OnCalendar;
        example = "Mon..Fri 12:30";
        description = "Time at which the update starts (systemd.time(7)). With an empty list it starts only by hand.";
      };
      randomizedDelaySec = lib.mkOption {
        type = lib.types.str;
        default = units.timer.RandomizedDelaySec;
        description = ''
          Time over which the starts of several machines are spread. Later machines can then take NARs from earlier ones.
        '';
      };
      persistent = lib.mkOption {
        type = lib.types.bool;
        default = units.timer.Persistent;
        description = "Whether to run a missed update when the machine is next started.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    services.narswarm.settings = lib.mkMerge [
      (lib.mkIf (cfg.scope != null) { inherit (cfg) scope; })
      (lib.mkIf (cfg.cacheSize != null) { max-size = cfg.cacheSize; })
      (lib.mkIf cfg.publish { publish = true; })
      (lib.mkIf (cfg.subscriptions != { }) {
        subscriptions = lib.mapAttrs (_: lib.filterAttrs (_: value: value != null)) cfg.subscriptions;
      })
      (lib.mkIf (cfg.donations != [ ]) {
        subscriptions = lib.listToAttrs (
          map (package: lib.nameValuePair (donationName package) { source = donatedPath package; }) cfg.donations
        );
      })
    ];

    assertions = [
      {
        assertion = scope != "off" && firewall.enable && opensFirewall -> ofChance == [ ];
        message = "services.narswarm.settings.${toString ofChance} = 0 picks any free port, but the firewall opens fixed ones: leave it out, or give a number.";
      }
      {
        assertion = announces && firewall.enable && cfg.openFirewall == null -> letsPeersIn;
        message = "services.narswarm: scope \"${scope}\" is for peers on the internet, but networking.firewall lets none of them in. Add ${openIt}; or openFirewall = false; if something else lets them in.";
      }
      {
        assertion = scope == "off" -> !(settings.publish or false);
        message = "services.narswarm: scope \"off\" talks to no peers, but publish needs them: remove one of the two.";
      }
      {
        assertion = scope == "off" -> (settings.peer or [ ]) == [ ];
        message = "services.narswarm: scope \"off\" talks to no peers, but settings.peer names some: remove one of the two.";
      }
      {
        assertion = scope == "off" -> cfg.openFirewall != true;
        message = "services.narswarm: scope \"off\" listens on no port, but openFirewall opens some: remove one of the two.";
      }
      {
        assertion =
          announces -> usesDht;
        message = "services.narswarm: scope \"${scope}\" announces in the DHT, but settings.dht = false forbids it: remove one of the two.";
      }
      {
        assertion = settings.publish or false -> cfg.keyFile != null || settings ? key;
        message = "services.narswarm.publish needs a key: make one with `narswarm key --file FILE` and set services.narswarm.keyFile = \"FILE\".";
      }
      {
        assertion = published == [ ] || settings.publish or false;
        message = "services.narswarm: subscription ${toString published} says publish, but the machine publishes nothing: set services.narswarm.publish = true.";
      }
      {
        assertion = cfg.keyFile != null -> !(settings ? key);
        message = "services.narswarm.keyFile and services.narswarm.settings.key both name the publisher's key: set only keyFile.";
      }
      {
        assertion = cfg.keyFile != null -> lib.hasPrefix "/" cfg.keyFile && !(lib.hasPrefix builtins.storeDir cfg.keyFile);
        message = "services.narswarm.keyFile is ${toString cfg.keyFile}: give an absolute path outside the Nix store, which everybody can read.";
      }
      {
        assertion = !(settings ? store);
        message = "services.narswarm.settings.store: the units keep their files in /var/lib/narswarm, which systemd manages (StateDirectory). To use another disk, mount it at /var/lib/private/narswarm.";
      }
      {
        assertion = misnamed == [ ];
        message = "services.narswarm.subscriptions: ${toString misnamed} is not a valid name: use at most 64 letters, digits, dots, dashes and underscores, with a letter or digit first.";
      }
      {
        assertion = aimless == [ ];
        message = "services.narswarm: subscription ${toString aimless} has `to`, a store to import into, but imports nothing: set import = true, too.";
      }
      {
        assertion = unknownDonations == [ ];
        message = "services.narswarm.donations: the store path of ${
          toString (map lib.getName unknownDonations)
        } is not known before it is built, so it cannot be looked up.";
      }
    ];

    warnings =
      lib.optional (scope == "lan" && firewall.enable && cfg.openFirewall == false && !letsPeersIn)
        "services.narswarm: neighbours get no NARs from this machine, since networking.firewall lets none of them in. Add ${openIt}, or open the ports for one interface with networking.firewall.interfaces.";

    environment.systemPackages = [ cfg.package ];
    environment.etc."narswarm/config.toml".source = configFile;

    # The units may use the Nix daemon even if allowed-users is restricted. They need not be trusted.
    nix.settings.extra-allowed-users = [ "narswarm" ];

    networking.firewall = lib.mkIf opensFirewall {
      allowedTCPPorts = tcpPorts;
      allowedTCPPortRanges = tcpRanges;
      allowedUDPPorts = udpPorts;
    };

    systemd.services.narswarm = lib.mkIf (scope != "off") (
      unit
      // {
        description = "narswarm: seeds Nix closures";
        wantedBy = [ "multi-user.target" ];
        serviceConfig = service // units.daemon // { ExecStart = run "daemon"; };
      }
    );

    systemd.services.narswarm-update = unit // {
      description = "narswarm: fetches the subscriptions";
      # A rebuild does not restart a running update.
      restartIfChanged = false;
      serviceConfig = service // units.update // { ExecStart = run "update"; };
    };

    systemd.timers.narswarm-update = lib.mkIf (cfg.update.startAt != [ ]) {
      description = "narswarm: the nightly update";
      wantedBy = [ "timers.target" ];
      timerConfig = {
        OnCalendar = cfg.update.startAt;
        RandomizedDelaySec = cfg.update.randomizedDelaySec;
        Persistent = cfg.update.persistent;
      };
    };
  };
}
