# The settings of the socket unit, for NixOS and Home Manager: systemd keeps the HTTP port open while the daemon is
# restarted, and starts it at the first question. The daemon itself opens ::1, which is left out here: the unit would fail on
# a machine without IPv6. So it does if the socket has failed or has an old port.
#
# Null if nothing is left, or if the daemon publishes: it builds its hash map before it answers, which may take long. Nix
# waits for an answer on an open port, and asks its next cache if the port is closed.
{
  lib,
  settings,
  substituter,
}:
let
  units = lib.importJSON ./units.json;
  inherit (substituter) listen port;
  streams = map (
    address: "${if lib.hasInfix ":" address then "[${address}]" else address}:${toString port}"
  ) (lib.filter (address: address != "::1") listen);
  isOn = (settings.scope or "lan") != "off" && !(settings.publish or false) && streams != [ ];
in
if isOn then units.socket // { ListenStream = streams; } else null
