# The keys of the config file as options, so that a misspelt key or a malformed value fails while the configuration is
# evaluated. options.json comes from the program's own table (test/nix-packaging/config-options.ts). It gives the shape of
# a value: the program itself checks sizes, rates and addresses (`checkConfig`).
{ lib }:
let
  inherit (lib) types;

  texts = types.either types.str (types.listOf types.str);
  shapes = {
    text = types.str;
    path = types.str;
    number = types.either types.int types.str;
    list = texts;
    schedule = texts;
    flag = types.bool;
  };

  # An optional value. The config file has no line for null.
  optional =
    type: more:
    lib.mkOption (
      {
        type = types.nullOr type;
        default = null;
      }
      // more
    );
  switch =
    description:
    lib.mkOption {
      type = types.bool;
      default = false;
      inherit description;
    };

  subscription = types.submodule {
    options = {
      source = lib.mkOption {
        type = types.str;
        example = "magnet:?xs=urn:btpk:8c34…#desktop";
        description = ''
          Source of the store paths: a publisher's address, with `#ROOT` for one root of its hash map; a store path or
          profile; a file or URL that lists store paths; or an installable. README.md explains them.
        '';
      };
      file = optional types.str {
        description = "Nix file in which `source` is an attribute path.";
      };
      import = switch ''
        Whether an update imports the paths into the Nix store. The service imports through nix-daemon as an ordinary
        user, so the paths need a signature by one of the system's trusted keys.
      '';
      to = optional types.str {
        example = "ssh-ng://server";
        description = "Nix store to import into, instead of this machine's. Needs `import`.";
      };
      profile = optional types.str {
        example = "/nix/var/nix/profiles/night";
        description = ''
          Nix profile that gets each imported generation. Nothing is switched. The user of the update must be able to write its
          folder. Needs `import`.
        '';
      };
      switch-to = optional types.str {
        example = "/run/current-system";
        description = "Link to what runs now: an update tells what a switch would change, and switches nothing.";
      };
      sources = switch "Whether to fetch the sources of its build closure, too.";
      ready = switch "Whether to fetch what a rebuild without a network would lack, too. Needs `import`.";
      publish = switch "Whether to make it a root of this machine's own hash map. Needs `publish` of the machine.";
    };
  };
  subscriptions =
    description:
    lib.mkOption {
      type = types.attrsOf subscription;
      default = { };
      example = {
        desktop = {
          source = "magnet:?xs=urn:btpk:8c34…#desktop";
          import = true;
        };
      };
      inherit description;
    };

  keys = lib.mapAttrs (
    _: key:
    optional shapes.${key.shape} {
      description = key.description + (if key ? default then ". Default: ${key.default}." else ".");
    }
  ) (lib.importJSON ./options.json);

  present = lib.filterAttrs (_: value: value != null);
in
{
  inherit optional switch subscriptions;

  type = types.submodule {
    options = keys // {
      subscriptions = subscriptions "The tables `[subscriptions.NAME]`; `services.narswarm.subscriptions` sets them.";
    };
  };

  # Returns the settings that are given.
  given =
    settings:
    let
      own = present (removeAttrs settings [ "subscriptions" ]);
    in
    own
    // lib.optionalAttrs (settings.subscriptions != { }) {
      subscriptions = lib.mapAttrs (_: present) settings.subscriptions;
    };
}
