# A step before something else downloads: the nightly upgrade of NixOS waits for the update, so that nixos-rebuild finds
# in the Nix store what it needs. The dash: where narswarm fails, the upgrade goes on with the caches alone.
{ pkgs, ... }:
{
  imports = [ ./desktop.nix ];

  systemd.services.nixos-upgrade.serviceConfig.ExecStartPre =
    "-${pkgs.systemd}/bin/systemctl start narswarm-update.service";
}
