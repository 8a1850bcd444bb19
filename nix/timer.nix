# The timer of the nightly update, for systemd.
{ lib, ... }:
let
  units = lib.importJSON ./units.json;
in
{
  options.services.narswarm.update = {
    startAt = lib.mkOption {
      type = lib.types.either lib.types.str (lib.types.listOf lib.types.str);
      default = units.timer.OnCalendar;
      example = "Mon..Fri 12:30";
      description = "Time at which the update starts (systemd.time(7)). With an empty list it starts only by hand.";
    };
    randomizedDelaySec = lib.mkOption {
      type = lib.types.str;
      default = units.timer.RandomizedDelaySec;
      description = ''
        Time over which the starts of several machines are spread. Later machines can then take NARs from earlier ones.
      '';
    };
    persistent = lib.mkOption {
      type = lib.types.bool;
      default = units.timer.Persistent;
      description = "Whether to run a missed update when the machine is next started.";
    };
  };
}
