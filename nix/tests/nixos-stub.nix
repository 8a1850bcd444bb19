# Declares the options of NixOS that module.nix sets or reads, without their effects.
{ lib }:
let
  free = default: lib.mkOption {
    type = lib.types.attrsOf lib.types.anything;
    inherit default;
  };
  list = inner: lib.mkOption {
    type = lib.types.listOf inner;
    default = [ ];
  };
in
{
  options = {
    assertions = list lib.types.anything;
    environment.etc = free { };
    environment.systemPackages = list lib.types.package;
    networking.firewall.enable = lib.mkOption {
      type = lib.types.bool;
      default = true;
    };
    networking.firewall.allowedTCPPorts = list lib.types.int;
    networking.firewall.allowedTCPPortRanges = list lib.types.anything;
    networking.firewall.allowedUDPPorts = list lib.types.int;
    networking.firewall.interfaces = free { };
    networking.proxy.envVars = free { };
    nix.enable = lib.mkOption {
      type = lib.types.bool;
      default = true;
    };
    nix.envVars = free { NIX_SSL_CERT_FILE = "/etc/ssl/certs/ca-certificates.crt"; };
    nix.nixPath = list lib.types.str;
    nix.package = lib.mkOption { type = lib.types.package; };
    nix.settings = lib.mkOption {
      type = lib.types.submodule {
        freeformType = lib.types.attrsOf lib.types.anything;
        options.substituters = list lib.types.str;
      };
      default = { };
    };
    users = free { };
    warnings = list lib.types.str;
    systemd.paths = free { };
    systemd.tmpfiles.settings = free { };
    systemd.services = free { };
    systemd.sockets = free { };
    systemd.timers = free { };
  };
  # As in NixOS.
  config.nix.settings.substituters = lib.mkAfter [ "https://cache.nixos.org/" ];
}
