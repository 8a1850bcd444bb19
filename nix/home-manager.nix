# The Home Manager module: the daemon and the update as services of a user (systemd --user).
#
# It leaves nix.conf alone: Nix takes substituters only from root, and from trusted users. `substituter.url` is the address
# for the system's nix.conf.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.narswarm;
  settings = (import ./settings.nix { inherit lib; }).given cfg.settings;
  units = lib.importJSON ./units.json;
  socket = import ./socket.nix {
    inherit lib settings;
    inherit (cfg) substituter;
  };

  # git for flakes in a git tree, ssh for ssh-ng:// stores. The machine's own Nix fits its daemon.
  path = lib.concatStringsSep ":" [
    (lib.makeBinPath [
      pkgs.gitMinimal
      pkgs.openssh
    ])
    "%h/.nix-profile/bin"
    "/nix/var/nix/profiles/default/bin"
    "/run/current-system/sw/bin"
    "/usr/bin"
    "/bin"
  ];
  service =
    command:
    units.filters
    // {
      Environment = [ "PATH=${path}" ];
      ExecStart = "${lib.getExe cfg.package} --config ${cfg.configFile} ${command}";
    };
in
{
  imports = [
    ./common.nix
    ./timer.nix
  ];

  config = lib.mkIf cfg.enable {
    assertions = [
      {
        assertion = pkgs.stdenv.hostPlatform.isLinux;
        message = "services.narswarm of Home Manager needs systemd: on macOS, use the module for nix-darwin.";
      }
    ];

    home.packages = [ cfg.package ];
    xdg.configFile."narswarm/config.toml".source = cfg.configFile;

    systemd.user.services.narswarm = lib.mkIf ((settings.scope or "lan") != "off") {
      Unit = {
        Description = "narswarm: seeds Nix closures";
      }
      // units.start;
      Service = service "daemon" // units.daemon;
      Install.WantedBy = [ "default.target" ];
    };
    systemd.user.sockets.narswarm = lib.mkIf (socket != null) {
      Unit.Description = "narswarm: the binary cache of this machine";
      Socket = socket;
      Install.WantedBy = [ "sockets.target" ];
    };
    systemd.user.services.narswarm-update = {
      Unit = {
        Description = "narswarm: fetches the subscriptions";
        # Another configuration does not restart a running update.
        X-RestartIfChanged = false;
      }
      // units.start;
      Service = service "update" // units.update;
    };
    systemd.user.timers.narswarm-update = lib.mkIf (cfg.update.startAt != [ ]) {
      Unit.Description = "narswarm: the nightly update";
      Timer = {
        OnCalendar = cfg.update.startAt;
        RandomizedDelaySec = cfg.update.randomizedDelaySec;
        Persistent = cfg.update.persistent;
      };
      Install.WantedBy = [ "timers.target" ];
    };
  };
}
