# The NixOS module: a daemon that seeds and is a substituter, and an update that fetches the subscriptions at night.
#
# units.json has the settings that these units share with those of `narswarm service`; src/daemon/systemd-units.ts explains
# them.
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
  units = lib.importJSON ./units.json;

  # Explained in src/wire/ports.ts.
  defaultPorts = lib.importJSON ./ports.json;

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
  # The cache for this machine is for others only if the firewall is opened explicitly.
  isLoopback = address: address == "::1" || lib.hasPrefix "127." address;
  offersCache = cfg.substituter.url != null && !(lib.all isLoopback cfg.substituter.listen);
  cachePorts = lib.optional (offersCache && cfg.openFirewall == true) cfg.substituter.port;
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
  socket = import ./socket.nix {
    inherit lib settings;
    inherit (cfg) substituter;
  };
  service = import ./service.nix { inherit config lib pkgs; };
  secrets = lib.filter (file: file != null) [
    cfg.keyFile
    cfg.netrcFile
    cfg.postBuildHook.signKeyFile
  ];
  exposed = lib.filter (file: !(lib.hasPrefix "/" file) || isIn file builtins.storeDir) secrets;

  # systemd takes this user instead of a dynamic one, whose number may change, where files outside of the units' own
  # folders belong to it.
  needsUser = cfg.storeDir != null || cfg.postBuildHook.enable;
  hiddenFolders = [
    "/home"
    "/root"
    "/run/user"
    "/tmp"
    "/var/tmp"
    builtins.storeDir
  ];
  isIn = dir: folder: dir == folder || lib.hasPrefix "${folder}/" dir;
in
{
  imports = [
    ./common.nix
    ./timer.nix
    ./substituter.nix
    ./post-build-hook.nix
  ];

  options.services.narswarm = {
    keyFile = keys.optional lib.types.str {
      example = "/var/lib/secrets/narswarm-publisher.key";
      description = ''
        Key that signs this machine's hash map; `narswarm key --file FILE` creates it. systemd passes it to the units
        (LoadCredential), so only root needs to be able to read it. Keep a copy: followers know the publisher by it.
      '';
    };

    netrcFile = keys.optional lib.types.str {
      example = "/etc/nix/netrc";
      description = ''
        Passwords of binary caches, as for `netrc-file` of Nix. systemd passes the file to the units (LoadCredential), so
        only root needs to be able to read it.
      '';
    };

    storeDir = keys.optional lib.types.str {
      example = "/srv/narswarm";
      description = ''
        Folder of the file store, such as one on a large disk. Default: `store` in the state folder of the units,
        `/var/lib/narswarm`. The folder belongs to the user `narswarm`, which the system then has all the time.
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
        - UDP `settings.dht-port` (${toString defaultPorts.dht}), with `publish`, or with scope `cohort` or `public`;
        - TCP `substituter.port` (${toString defaultPorts.substituter}), if `substituter.listen` has an address that others
          reach, and only with an explicit true.

        The default is true with scope `lan`: the program refuses hosts outside the networks of this machine's interfaces
        before it reads a byte. With scope `cohort` or `public` there is no default: set true or false.
      '';
    };
  };

  config = lib.mkIf cfg.enable {
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
        assertion = scope == "off" -> cfg.openFirewall != true;
        message = "services.narswarm: scope \"off\" listens on no port, but openFirewall opens some: remove one of the two.";
      }
      {
        assertion = settings.publish or false -> cfg.keyFile != null || settings ? key;
        message = "services.narswarm.publish needs a key: make one with `narswarm key --file FILE` and set services.narswarm.keyFile = \"FILE\".";
      }
      {
        assertion = cfg.keyFile != null -> !(settings ? key);
        message = "services.narswarm.keyFile and services.narswarm.settings.key both name the publisher's key: set only keyFile.";
      }
      {
        assertion = exposed == [ ];
        message = "services.narswarm: ${toString exposed} is for a secret: give an absolute path outside the Nix store, which everybody can read.";
      }
      {
        assertion = !(settings ? store) || settings.store == cfg.storeDir;
        message = "services.narswarm.settings.store: the units may only write to their own folder: set services.narswarm.storeDir instead.";
      }
      {
        assertion =
          cfg.storeDir != null
          -> lib.hasPrefix "/" cfg.storeDir && !(lib.any (isIn cfg.storeDir) hiddenFolders);
        message = "services.narswarm.storeDir is ${toString cfg.storeDir}, which the units cannot see or write: give an absolute path outside ${toString hiddenFolders}.";
      }
    ];

    warnings =
      lib.optional (scope == "lan" && firewall.enable && cfg.openFirewall == false && !letsPeersIn)
        "services.narswarm: neighbours get no NARs from this machine, since networking.firewall lets none of them in. Add ${openIt}, or open the ports for one interface with networking.firewall.interfaces."
      ++ lib.optional (offersCache && firewall.enable && cfg.openFirewall == null)
        "services.narswarm.substituter.listen has an address for other machines, but their connections are not let in. Set services.narswarm.openFirewall = true; (TCP ${toString cfg.substituter.port}), or open the port by hand and set it to false.";

    services.narswarm.settings.store = lib.mkIf (cfg.storeDir != null) cfg.storeDir;

    users = lib.mkIf needsUser {
      users.narswarm = {
        isSystemUser = true;
        group = "narswarm";
      };
      groups.narswarm = { };
    };
    systemd.tmpfiles.settings.narswarm = lib.mkIf (cfg.storeDir != null) {
      ${cfg.storeDir}.d = {
        user = "narswarm";
        group = "narswarm";
        mode = "0750";
      };
    };

    environment.systemPackages = [ cfg.package ];
    environment.etc."narswarm/config.toml".source = cfg.configFile;

    # The units may use the Nix daemon even if allowed-users is restricted. They need not be trusted.
    nix.settings.extra-allowed-users = [ "narswarm" ];

    networking.firewall = lib.mkIf opensFirewall {
      allowedTCPPorts = tcpPorts ++ cachePorts;
      allowedTCPPortRanges = tcpRanges;
      allowedUDPPorts = udpPorts;
    };

    systemd.services.narswarm = lib.mkIf (scope != "off") (
      service.unit
      // {
        description = "narswarm: seeds Nix closures";
        wantedBy = [ "multi-user.target" ];
        # A rebuild restarts it, and leaves its socket open. Otherwise it would start the socket alone, and neighbours would
        # get nothing until Nix asks.
        stopIfChanged = false;
        serviceConfig = service.serviceConfig // units.daemon // { ExecStart = service.run "daemon"; };
      }
    );

    systemd.sockets.narswarm = lib.mkIf (socket != null) {
      description = "narswarm: the binary cache of this machine";
      wantedBy = [ "sockets.target" ];
      socketConfig = socket;
    };

    systemd.services.narswarm-update = service.unit // {
      description = "narswarm: fetches the subscriptions";
      # A rebuild does not restart a running update.
      restartIfChanged = false;
      serviceConfig = service.serviceConfig // units.update // { ExecStart = service.run "update"; };
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
