# The NixOS module: a daemon that seeds, and an update at night that fetches what the subscriptions stand for.
#
# What both units have in common with those of `narswarm service` is in units.json, and explained in
# src/daemon/systemd-units.ts. The config file has the names of the program's options, so `settings` needs no list of
# them here: the program checks the file while the system is built.
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
  # The daemon serves its own map and those that it follows over HTTP.
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

  # What a firewall has to let in. The program itself turns strangers away, by scope, before it reads a byte of theirs.
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
  # Opened by hand, for all interfaces or for some.
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

  # The path as text, without the dependency that Nix would note: the machine fetches what is donated through narswarm,
  # at night, from whoever has it. A dependency would have nixos-rebuild download or build it first.
  donatedPath = package: builtins.unsafeDiscardStringContext (toString package);
  # Named by program, so that the next version is the next generation of the same subscription. Where several have one
  # name, by the whole name of their paths.
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

  # Text that may be left out, and a switch that is off.
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
          Where its store paths come from: a publisher's address, with `#ROOT` for one root of its map; a store path or
          profile; a file or URL that lists store paths; an installable. `narswarm subscribe --help` has them all.
        '';
      };
      file = textOption {
        description = "Nix file in which `source` is an attribute path.";
      };
      import = switchOption ''
        Whether an update imports it into the Nix store. The unit does so through nix-daemon as an ordinary user: the
        paths need a signature by one of `nix.settings.trusted-public-keys`, and nothing else.
      '';
      to = textOption {
        example = "ssh-ng://server";
        description = "Store to import into, in place of this machine's.";
      };
      sources = switchOption "Whether the sources that building it needs are wanted, too.";
      publish = switchOption "Whether it becomes a root of this machine's own hash map. Needs `services.narswarm.publish`.";
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
      description = "The narswarm to run.";
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
        The config file, `/etc/narswarm/config.toml`, with the names that it has there: the long names of the options.
        `narswarm config` lists them. Secrets do not belong here: the file is in the Nix store, for all to read.
      '';
    };

    checkConfig = lib.mkOption {
      type = lib.types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalExpression "pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform";
      description = "Whether the program reads the config file while the system is built, so that a wrong one fails there.";
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
      description = "What to hold the newest of.";
    };

    donations = lib.mkOption {
      type = lib.types.listOf lib.types.package;
      default = [ ];
      example = lib.literalExpression "[ pkgs.firefox pkgs.libreoffice ]";
      description = ''
        Packages whose closures this machine holds and seeds, without having them installed: each becomes a
        subscription `donation-NAME` to its store path. Nothing of them is built or put into the Nix store, so they have
        to be in a binary cache or at a publisher: a package that was changed by an overlay usually is not.
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
        Who learns what this machine has: nobody, the local network (what holds where nothing is said), those who follow
        the same publisher, everybody. With `off` there is no daemon.
      '';
    };

    cacheSize = textOption {
      example = "50G";
      description = "What the file store may take of the disk. An update removes what goes beyond it.";
    };

    publish = switchOption "Whether this machine publishes a hash map of its own, of the subscriptions that say `publish`.";

    keyFile = textOption {
      example = "/var/lib/secrets/narswarm-publisher.key";
      description = ''
        Key that signs this machine's hash map, as `narswarm key --file FILE` makes it. systemd hands it to the units
        (LoadCredential), so root alone needs to be able to read it. Followers know the publisher by it: keep a copy.
      '';
    };

    openFirewall = lib.mkOption {
      type = lib.types.nullOr lib.types.bool;
      default = null;
      defaultText = lib.literalExpression ''services.narswarm.scope is "lan"'';
      example = true;
      description = ''
        Whether to let others in, on all interfaces: TCP `settings.port` (${toString defaultPorts.peers}) and
        ${toString defaultPorts.beside.from} to ${toString defaultPorts.beside.to}, by which peers of the daemon and of an
        update connect; UDP ${toString defaultPorts.discovery}, by which neighbours find each other, and
        ${toString defaultPorts.mdns}, by which caches announce themselves (mDNS); where a map is
        published or followed TCP `settings.http-port` (${toString defaultPorts.http}); with `publish` or a scope beyond the local network UDP
        `settings.dht-port` (${toString defaultPorts.dht}). With scope `lan` it does unless it is told not to: whoever is
        not on a network of this machine's interfaces is turned away before a byte is read. With a wider scope this has
        to be said.
      '';
    };

    update = {
      startAt = lib.mkOption {
        type = lib.types.either lib.types.str (lib.types.listOf lib.types.str);
        default = units.timer.OnCalendar;
        example = "Mon..Fri 12:30";
        description = "When the update starts (systemd.time(7)). An empty list: only by hand.";
      };
      randomizedDelaySec = lib.mkOption {
        type = lib.types.str;
        default = units.timer.RandomizedDelaySec;
        description = ''
          Spread over which machines start. Some spread serves everybody: what the first ones have fetched, the later
          ones take from them.
        '';
      };
      persistent = lib.mkOption {
        type = lib.types.bool;
        default = units.timer.Persistent;
        description = "Whether an update that was missed, since the machine was off, is made up for at the next start.";
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
        message = "services.narswarm.settings.${toString ofChance} = 0 is a port of chance, and the firewall opens fixed ones: leave it out, or give a number.";
      }
      {
        assertion = announces && firewall.enable && cfg.openFirewall == null -> letsPeersIn;
        message = "services.narswarm: scope \"${scope}\" is for peers on the internet, and networking.firewall lets none of them in. Add ${openIt}; or openFirewall = false; if something else lets them in.";
      }
      {
        assertion = scope == "off" -> !(settings.publish or false);
        message = "services.narswarm: scope \"off\" talks to no peers and publish needs them: give one of them.";
      }
      {
        assertion = scope == "off" -> (settings.peer or [ ]) == [ ];
        message = "services.narswarm: scope \"off\" talks to no peers and settings.peer names some: give one of them.";
      }
      {
        assertion = scope == "off" -> cfg.openFirewall != true;
        message = "services.narswarm: scope \"off\" listens on no port and openFirewall opens some: give one of them.";
      }
      {
        assertion =
          announces -> usesDht;
        message = "services.narswarm: scope \"${scope}\" announces in the DHT and settings.dht = false forbids it: give one of them.";
      }
      {
        assertion = settings.publish or false -> cfg.keyFile != null || settings ? key;
        message = "services.narswarm.publish needs a key: make one with `narswarm key --file FILE` and set services.narswarm.keyFile = \"FILE\".";
      }
      {
        assertion = published == [ ] || settings.publish or false;
        message = "services.narswarm: subscription ${toString published} says publish, and the machine publishes nothing: set services.narswarm.publish = true.";
      }
      {
        assertion = cfg.keyFile != null -> !(settings ? key);
        message = "services.narswarm.keyFile and services.narswarm.settings.key both name the publisher's key: give keyFile alone.";
      }
      {
        assertion = cfg.keyFile != null -> lib.hasPrefix "/" cfg.keyFile && !(lib.hasPrefix builtins.storeDir cfg.keyFile);
        message = "services.narswarm.keyFile is ${toString cfg.keyFile}: give an absolute path outside of the Nix store, which everybody can read.";
      }
      {
        assertion = !(settings ? store);
        message = "services.narswarm.settings.store: the units keep their files in /var/lib/narswarm, a folder of systemd's (StateDirectory). For another disk mount it at /var/lib/private/narswarm.";
      }
      {
        assertion = misnamed == [ ];
        message = "services.narswarm.subscriptions: ${toString misnamed} is no name: letters, digits, dots, dashes and underscores, 64 at most, a letter or digit first.";
      }
      {
        assertion = aimless == [ ];
        message = "services.narswarm: subscription ${toString aimless} says to, which names a store to import into, and imports nothing: set import = true, too.";
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
        "services.narswarm: neighbours cannot take anything from this machine, since networking.firewall lets none of them in. Add ${openIt}, or open the ports for one interface by networking.firewall.interfaces.";

    environment.systemPackages = [ cfg.package ];
    environment.etc."narswarm/config.toml".source = configFile;

    # Where allowed-users was narrowed, the units still get to the Nix daemon. They need not be trusted.
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
      description = "narswarm: fetches what its subscriptions stand for";
      # A rebuild neither ends an update nor waits for one.
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
