# The options that NixOS, Home Manager and nix-darwin share, and the config file that they make.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.narswarm;
  keys = import ./settings.nix { inherit lib; };
  settings = keys.given cfg.settings;
  toml = pkgs.formats.toml { };

  # Explained in src/wire/ports.ts.
  defaultPorts = lib.importJSON ./ports.json;
  namePattern = "[A-Za-z0-9][A-Za-z0-9._-]{0,63}";

  scope = settings.scope or "lan";
  announces = lib.elem scope [
    "cohort"
    "public"
  ];
  subscriptions = settings.subscriptions or { };
  published = lib.attrNames (lib.filterAttrs (_: subscription: subscription.publish) subscriptions);
  aimless = lib.attrNames (
    lib.filterAttrs (_: subscription: subscription ? to && !subscription.import) subscriptions
  );
  misnamed = lib.filter (name: builtins.match namePattern name == null) (lib.attrNames subscriptions);

  # The path as text without its dependency, so that a rebuild neither downloads nor builds it. The machine fetches it at
  # night, through narswarm.
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

  # The address that Nix on this machine uses. There is no daemon with scope off.
  inherit (cfg.substituter) listen port;
  substituterIsOn = cfg.substituter.enable && (settings.substituter or true) && scope != "off";
  loopback = [
    "127.0.0.1"
    "::1"
  ];
  local = [
    "127.0.0.1"
    "0.0.0.0"
    "::"
  ];
  address =
    if listen == [ ] || lib.any (one: lib.elem one local) listen then "127.0.0.1" else builtins.head listen;
  host = if lib.hasInfix ":" address then "[${address}]" else address;

  names = lib.filter (address: builtins.match "[0-9.]+|.*:.*" address == null) listen;
  # TCP ports of peers and of hash maps. Those of updates are a range.
  isTaken =
    port == settings.port or defaultPorts.peers
    || port == settings.http-port or defaultPorts.http
    || defaultPorts.beside.from <= port && port <= defaultPorts.beside.to;

  generated = toml.generate "narswarm.toml" settings;
  checked =
    pkgs.runCommand "narswarm-config.toml" { } ''
      HOME=$TMPDIR ${lib.getExe cfg.package} --config ${generated} config > /dev/null
      cp ${generated} $out
    '';
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
      inherit (keys) type;
      default = { };
      example = {
        publisher = [ "magnet:?xs=urn:btpk:8c34…" ];
        max-download-rate = "10MB/s";
        until = "06:00";
      };
      description = ''
        Contents of the config file. The keys are the long names of the program's options; `narswarm config` lists them.
        Put no secrets here: everybody can read the file in the Nix store.
      '';
    };

    checkConfig = lib.mkOption {
      type = lib.types.bool;
      default = pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform;
      defaultText = lib.literalExpression "pkgs.stdenv.buildPlatform.canExecute pkgs.stdenv.hostPlatform";
      description = ''
        Whether to check the config file with the program while the system is built. A malformed value then fails the
        build. A misspelt key always fails the evaluation.
      '';
    };

    configFile = lib.mkOption {
      type = lib.types.anything;
      readOnly = true;
      internal = true;
      default = if cfg.checkConfig then checked else generated;
      description = "The config file.";
    };

    subscriptions = keys.subscriptions "Subscriptions: paths that the nightly update keeps up to date.";

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

    scope = keys.optional (lib.types.enum [
      "off"
      "lan"
      "cohort"
      "public"
    ]) {
      example = "cohort";
      description = ''
        Who learns which NARs this machine has: nobody (`off`), the local network (`lan`, the program's default), followers of
        the same publisher (`cohort`), or everybody (`public`). With `off` there is no daemon.
      '';
    };

    cacheSize = keys.optional lib.types.str {
      example = "50G";
      description = ''
        Limit for the size of the file store. An update removes paths beyond it. Default: no limit, except for NARs that
        only Nix asked the daemon for: 10 GB, or a tenth of the free space if that is less.
      '';
    };

    publish = keys.switch "Whether this machine publishes a hash map of its own, of the subscriptions with `publish`.";

    substituter = {
      enable = lib.mkOption {
        type = lib.types.bool;
        default = true;
        example = false;
        description = ''
          Whether the daemon is a binary cache on this machine's own address, through which Nix gets from peers what they
          have. On NixOS and nix-darwin, `nix.settings` names it as the first substituter.
        '';
      };
      port = lib.mkOption {
        type = lib.types.port;
        default = defaultPorts.substituter;
        description = "TCP port of the binary cache.";
      };
      listen = lib.mkOption {
        type = lib.types.listOf lib.types.str;
        default = loopback;
        example = [
          "127.0.0.1"
          "192.0.2.7"
        ];
        description = "Addresses on which the binary cache listens. Other machines get only what is shared.";
      };
      url = lib.mkOption {
        type = lib.types.nullOr lib.types.str;
        readOnly = true;
        default = if substituterIsOn then "http://${host}:${toString port}" else null;
        defaultText = lib.literalExpression "\"http://127.0.0.1:${toString defaultPorts.substituter}\"";
        description = "Address of the binary cache, for nix.conf. Null if it is switched off, or with scope `off`.";
      };
    };
  };

  config = lib.mkIf cfg.enable {
    services.narswarm.settings = lib.mkMerge [
      (lib.mkIf (cfg.scope != null) { inherit (cfg) scope; })
      (lib.mkIf (cfg.cacheSize != null) { max-size = cfg.cacheSize; })
      (lib.mkIf cfg.publish { publish = true; })
      (lib.mkIf (!cfg.substituter.enable) { substituter = false; })
      (lib.mkIf (port != defaultPorts.substituter) { substituter-port = port; })
      (lib.mkIf (listen != loopback) { substituter-listen = listen; })
      { inherit (cfg) subscriptions; }
      {
        subscriptions = lib.listToAttrs (
          map (package: lib.nameValuePair (donationName package) { source = donatedPath package; }) cfg.donations
        );
      }
    ];

    assertions = [
      {
        assertion = scope == "off" -> !(settings.publish or false);
        message = "services.narswarm: scope \"off\" talks to no peers, but publish needs them: remove one of the two.";
      }
      {
        assertion = scope == "off" -> (settings.peer or [ ]) == [ ];
        message = "services.narswarm: scope \"off\" talks to no peers, but settings.peer names some: remove one of the two.";
      }
      {
        assertion =
          announces -> settings.dht or true;
        message = "services.narswarm: scope \"${scope}\" announces in the DHT, but settings.dht = false forbids it: remove one of the two.";
      }
      {
        assertion = published == [ ] || settings.publish or false;
        message = "services.narswarm: subscription ${toString published} says publish, but the machine publishes nothing: set services.narswarm.publish = true.";
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
      {
        assertion = listen != [ ];
        message = "services.narswarm.substituter.listen is empty: name an address, or set services.narswarm.substituter.enable = false.";
      }
      {
        assertion = (settings.substituter-port or port) == port && (settings.substituter-listen or listen) == listen;
        message = "services.narswarm.settings.substituter-port and substituter-listen: nix.conf, the socket and the firewall would not follow: set services.narswarm.substituter.port and .listen instead.";
      }
      {
        assertion = substituterIsOn -> !isTaken;
        message = "services.narswarm.substituter.port = ${toString port} is a port for peers or hash maps: choose another one.";
      }
      {
        assertion = names == [ ];
        message = "services.narswarm.substituter.listen: ${toString names} is no IP address: give one of this machine, such as 127.0.0.1, and names in settings.substituter-name.";
      }
      {
        assertion = port != 0;
        message = "services.narswarm.substituter.port = 0 picks any free port, but nix.conf names a fixed one: leave it out, or give a number.";
      }
    ];
  };
}
