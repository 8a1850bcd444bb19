# Tests two machines. One fetches a closure from a cache and publishes it. The other has no cache, follows the root by its
# name, and imports it through its Nix daemon. Run it with `nix-build nix/tests/vm.nix` or `nix flake check`.
{
  pkgs ? import <nixpkgs> { },
}:
let
  # Made and signed by fixtures/nix/make.sh; no machine has it in its store.
  cache = ../../fixtures/nix/cache;
  root = "/nix/store/ak1r35k6n7424jh8hk7axrj4l9x6zsrv-top+1.0_x=?";
  trusted = builtins.readFile ../../fixtures/nix/fixture-1.public;

  # A publisher key for this test alone, and its address.
  publisherKey = pkgs.writeText "publisher.key" ''
    -----BEGIN PRIVATE KEY-----
    MC4CAQAwBQYDK2VwBCIEIA9tFH2g3UJa9dOUbaDjt3Bqm14XxPStyYbS0BxP+U4V
    -----END PRIVATE KEY-----
  '';
  publicKey = "2f11b551bb7c97e0f4631aff815a69e59a516f3d7db1198f5327297bbff12e19";

  common = {
    imports = [ ../module.nix ];
    nix.settings = {
      experimental-features = [ "nix-command" ];
      substituters = pkgs.lib.mkForce [ ];
      trusted-public-keys = pkgs.lib.mkForce [ trusted ];
    };
    services.narswarm = {
      enable = true;
      update.startAt = [ ];
      settings.dht = false;
    };
  };
in
pkgs.testers.runNixOSTest {
  name = "narswarm";

  nodes.publisher = {
    imports = [ common ];
    environment.etc."publisher.key".source = publisherKey;
    systemd.services.cache = {
      wantedBy = [ "multi-user.target" ];
      serviceConfig.ExecStart = "${pkgs.python3}/bin/python3 -m http.server --directory ${cache} --bind 127.0.0.1 8000";
    };
    services.narswarm = {
      publish = true;
      keyFile = "/etc/publisher.key";
      settings = {
        from = [ "http://127.0.0.1:8000" ];
      };
      subscriptions.lab = {
        source = root;
        publish = true;
      };
    };
  };

  nodes.subscriber = {
    imports = [ common ];
    services.narswarm.subscriptions.lab = {
      source = "http://publisher:16276/?xs=urn:btpk:${publicKey}#lab";
      import = true;
    };
  };

  testScript = ''
    start_all()
    publisher.wait_for_unit("cache.service")
    publisher.wait_for_open_port(8000)
    publisher.wait_for_unit("narswarm.service")
    publisher.succeed("systemctl start narswarm-update.service")
    publisher.wait_for_open_port(16276)

    subscriber.wait_for_unit("narswarm.service")
    subscriber.fail("nix-store --check-validity '${root}'")
    subscriber.wait_until_succeeds("systemctl start narswarm-update.service", timeout=120)
    subscriber.succeed("nix-store --check-validity '${root}'")
    subscriber.succeed("nix-store --verify-path '${root}'")
    print(subscriber.succeed("narswarm --config /etc/narswarm/config.toml status"))

    # The user of the units, with only the rights of every user of the Nix daemon.
    for machine in [publisher, subscriber]:
        print(machine.succeed("systemd-analyze security narswarm.service narswarm-update.service | tail -1"))
        machine.succeed("test $(stat -c %U /var/lib/private/narswarm) = narswarm")
  '';
}
