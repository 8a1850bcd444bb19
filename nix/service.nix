# The parts that the units of the NixOS module share.
{
  config,
  lib,
  pkgs,
}:
let
  cfg = config.services.narswarm;
  units = lib.importJSON ./units.json;

  # systemd reads these files as root, and shows the units copies in $CREDENTIALS_DIRECTORY (%d). The program looks
  # there for netrc by itself.
  secrets = lib.filterAttrs (_: file: file != null) {
    publisher-key = cfg.keyFile;
    netrc = cfg.netrcFile;
  };
in
rec {
  run = command: "${lib.getExe cfg.package} --config ${cfg.configFile} ${command}";

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
    unitConfig =
      units.start // lib.optionalAttrs (cfg.storeDir != null) { RequiresMountsFor = [ cfg.storeDir ]; };
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

  credentials = lib.mapAttrsToList (name: file: "${name}:${file}") secrets;
  serviceConfig =
    units.system
    // units.filters
    // lib.optionalAttrs (credentials != [ ]) { LoadCredential = credentials; }
    // lib.optionalAttrs (cfg.storeDir != null) { ReadWritePaths = [ cfg.storeDir ]; };
}
