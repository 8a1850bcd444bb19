# A step before another download: the nightly upgrade of NixOS waits for the update, so that nixos-rebuild finds its
# paths in the Nix store. Because of the dash, the upgrade continues with the caches alone if narswarm fails.
{ pkgs, ... }:
{
  imports = [ ./desktop.nix ];

  systemd.services.nixos-upgrade.serviceConfig.ExecStartPre =
    "-${pkgs.systemd}/bin/systemctl start narswarm-update.service";
}
