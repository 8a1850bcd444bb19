# A machine with a fixed address. It holds the newest release of a channel, publishes its hash map and seeds it to all
# followers. It also seeds two more programs.
#
#   narswarm key --file /var/lib/secrets/narswarm-publisher.key
{ pkgs, ... }:
{
  services.narswarm = {
    enable = true;
    scope = "cohort";
    publish = true;
    keyFile = "/var/lib/secrets/narswarm-publisher.key";
    openFirewall = true;
    subscriptions.minimal = {
      source = "https://channels.nixos.org/nixos-unstable-small/store-paths.xz";
      publish = true;
    };
    donations = [
      pkgs.hello
      pkgs.jq
    ];
    cacheSize = "500G";
  };
}
