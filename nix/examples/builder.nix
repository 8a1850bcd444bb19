# A build machine. It exports what it builds, signed, onto a large disk, and gives it to its neighbours. They need lab-1's
# public key in nix.settings.trusted-public-keys.
#
#   nix-store --generate-binary-cache-key lab-1 /var/lib/secrets/lab-1.secret /var/lib/secrets/lab-1.public
{
  services.narswarm = {
    enable = true;
    postBuildHook = {
      enable = true;
      signKeyFile = "/var/lib/secrets/lab-1.secret";
    };
    storeDir = "/srv/narswarm";
    cacheSize = "500G";
  };
}
