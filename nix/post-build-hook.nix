# Exports what this machine builds. The hook writes a note into a spool, and a path unit starts one `narswarm add` for all
# notes. A systemd-run for each build would start a hundred programs for a hundred builds, and lose them if it fails.
{
  config,
  lib,
  pkgs,
  ...
}:
let
  cfg = config.services.narswarm;
  keys = import ./settings.nix { inherit lib; };
  units = lib.importJSON ./units.json;
  service = import ./service.nix { inherit config lib pkgs; };
  spool = "/var/spool/narswarm";

  hook = pkgs.writeShellScript "narswarm-post-build-hook" ''
    export PATH=${pkgs.coreutils}/bin
    ${builtins.readFile ./examples/post-build-hook.sh}
  '';
  addBuilt = pkgs.writeShellScript "narswarm-add-built" (builtins.readFile ./examples/add-built.sh);
  signs = cfg.postBuildHook.signKeyFile != null;
in
{
  options.services.narswarm.postBuildHook = {
    enable = keys.switch ''
      Whether to export what this machine builds into the file store, with its whole closure, and to share it. Builds do not
      wait for it. Everybody in the `scope` can then get these paths, so build nothing secret.
    '';
    signKeyFile = keys.optional lib.types.str {
      example = "/var/lib/secrets/lab-1.secret";
      description = ''
        Secret key of Nix (`nix-store --generate-binary-cache-key`) that signs these paths. Other machines take a path only
        with a signature that they trust. systemd passes it to the unit (LoadCredential).
      '';
    };
  };

  config = lib.mkIf (cfg.enable && cfg.postBuildHook.enable) {
    nix.settings.post-build-hook = "${hook}";

    systemd.tmpfiles.settings.narswarm = lib.genAttrs [ spool "${spool}/new" ] (_: {
      d = {
        user = "narswarm";
        group = "narswarm";
        mode = "0750";
      };
    });

    systemd.paths.narswarm-built = {
      description = "narswarm: builds of this machine";
      wantedBy = [ "multi-user.target" ];
      pathConfig.DirectoryNotEmpty = "${spool}/new";
    };

    systemd.services.narswarm-built = service.unit // {
      description = "narswarm: exports builds of this machine";
      path = service.unit.path ++ [ cfg.package ];
      environment = service.unit.environment // {
        NARSWARM_CONFIG = "${cfg.configFile}";
        NARSWARM_SPOOL = spool;
      };
      restartIfChanged = false;
      serviceConfig =
        service.serviceConfig
        // units.update
        // {
          ExecStart = "${addBuilt}${lib.optionalString signs " --sign-key %d/sign-key"}";
          ReadWritePaths = service.serviceConfig.ReadWritePaths or [ ] ++ [ spool ];
        }
        // lib.optionalAttrs signs {
          LoadCredential = service.credentials ++ [ "sign-key:${cfg.postBuildHook.signKeyFile}" ];
        };
    };
  };
}
