# The nix-darwin module: the daemon and the update as launchd daemons of a user of their own. It is evaluated by the tests,
# but has not run on macOS.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.narswarm;
  settings = (import ./settings.nix { inherit lib; }).given cfg.settings;
  user = "_narswarm";
  home = "/var/lib/narswarm";

  job = command: more: {
    command = "${lib.getExe cfg.package} --config ${cfg.configFile} ${command}";
    # git for flakes in a git tree, ssh for ssh-ng:// stores. nix-darwin may leave Nix to another installer.
    path =
      lib.optional config.nix.enable config.nix.package
      ++ [
        pkgs.gitMinimal
        pkgs.openssh
        "/nix/var/nix/profiles/default/bin"
        "/usr/bin"
        "/bin"
        "/usr/sbin"
        "/sbin"
      ];
    environment = {
      HOME = home;
      NIX_REMOTE = "daemon";
    };
    serviceConfig = {
      UserName = user;
      GroupName = user;
      WorkingDirectory = home;
      StandardOutPath = "${home}/${command}.log";
      StandardErrorPath = "${home}/${command}.log";
      SoftResourceLimits.NumberOfFiles = 65536;
    }
    // more;
  };
in
{
  imports = [
    ./common.nix
    ./substituter.nix
  ];

  options.services.narswarm = {
    uid = lib.mkOption {
      type = lib.types.int;
      default = 16275;
      description = "Number of the user and of the group `${user}`.";
    };
    update.startAt = lib.mkOption {
      type = lib.types.listOf (lib.types.attrsOf lib.types.int);
      default = [
        {
          Hour = 2;
          Minute = 0;
        }
      ];
      description = "Times at which the update starts (StartCalendarInterval of launchd.plist(5)). With an empty list it starts only by hand.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.narswarm.settings.store = lib.mkDefault "${home}/store";

    environment.systemPackages = [ cfg.package ];
    environment.etc."narswarm/config.toml".source = cfg.configFile;

    users.knownUsers = [ user ];
    users.knownGroups = [ user ];
    users.users.${user} = {
      inherit (cfg) uid;
      gid = cfg.uid;
      inherit home;
      createHome = true;
      isHidden = true;
      description = "narswarm";
    };
    users.groups.${user}.gid = cfg.uid;

    launchd.daemons.narswarm = lib.mkIf ((settings.scope or "lan") != "off") (
      job "daemon" {
        RunAtLoad = true;
        KeepAlive.SuccessfulExit = false;
        ThrottleInterval = 10;
      }
    );
    launchd.daemons.narswarm-update = job "update" (
      {
        ProcessType = "Background";
        LowPriorityIO = true;
        Nice = 19;
      }
      // lib.optionalAttrs (cfg.update.startAt != [ ]) { StartCalendarInterval = cfg.update.startAt; }
    );
  };
}
