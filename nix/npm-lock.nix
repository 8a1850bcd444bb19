# Reduces package.json and package-lock.json to the packages of the build, in the form of nixpkgs' importNpmLock.
#
# The lock file has more packages than the build needs: linters, compilers and their binaries for every platform. npm
# records some of these without a hash, and does not repeat the registry's address for each package. So this file
# follows `dependencies` and rolldown from the root, takes rolldown's binary for the building platform, leaves out every
# other optional package (none is in the bundle), and writes the addresses out. The build runs no install script of the
# remaining packages. Each of them has a hash; a lock file without one is refused, naming the package.
{
  package,
  packageLock,
  # The building machine, as Node names it: stdenv.buildPlatform.node.
  platform ? "linux",
  arch ? "x64",
  # Its C library, as npm names it: glibc or musl.
  libc ? "glibc",
}:
let
  inherit (builtins)
    attrNames
    baseNameOf
    elem
    elemAt
    filter
    genericClosure
    hasAttr
    listToAttrs
    match
    ;

  packages = packageLock.packages;
  bundler = "rolldown";

  # "node_modules/a/node_modules/@b/c" -> "node_modules/a" and "@b/c"
  outerOf =
    path:
    let
      found = match "(.*)/node_modules/(@[^/]+/)?[^/]+" path;
    in
    if found == null then "" else elemAt found 0;
  nameOf = path: elemAt (match "(.*/)?node_modules/((@[^/]+/)?[^/]+)" path) 1;
  below = path: name: (if path == "" then "" else "${path}/") + "node_modules/${name}";

  # As Node does, looks for a package beside the requiring one, then further out.
  resolve =
    from: name:
    if hasAttr (below from name) packages then
      below from name
    else if from == "" then
      throw "package-lock.json has no package ${name}: run npm install"
    else
      resolve (outerOf from) name;

  fits =
    path:
    elem platform (packages.${path}.os or [ platform ])
    && elem arch (packages.${path}.cpu or [ arch ])
    && elem libc (packages.${path}.libc or [ libc ]);

  optionalOf =
    path:
    if path == "node_modules/${bundler}" then
      filter (name: fits (resolve path name)) (attrNames (packages.${path}.optionalDependencies or { }))
    else
      [ ];

  wantedBy =
    path:
    map (resolve path) (
      if path == "" then
        attrNames package.dependencies ++ [ bundler ]
      else
        attrNames (packages.${path}.dependencies or { }) ++ optionalOf path
    )
    # For a package of this repository: the link, and its target folder.
    ++ (if packages.${path}.link or false then [ packages.${path}.resolved ] else [ ]);

  paths = filter (path: path != "") (
    map (item: item.key) (genericClosure {
      startSet = [ { key = ""; } ];
      operator = item: map (key: { inherit key; }) (wantedBy item.key);
    })
  );

  isOurs = path: packages.${path}.link or false || match "(.*/)?node_modules/.*" path == null;

  entry =
    path:
    let
      locked = removeAttrs packages.${path} [ "optionalDependencies" ];
      name = nameOf path;
    in
    {
      name = path;
      value =
        if isOurs path then
          locked
        else if !(locked ? integrity) then
          throw "package-lock.json has no integrity for ${path}: run npm install on a machine of its platform"
        else
          locked
          // {
            resolved =
              locked.resolved or "https://registry.npmjs.org/${name}/-/${baseNameOf name}-${locked.version}.tgz";
          }
          // (
            if optionalOf path == [ ] then
              { }
            else
              {
                optionalDependencies = listToAttrs (
                  map (optional: {
                    name = optional;
                    value = packages.${path}.optionalDependencies.${optional};
                  }) (optionalOf path)
                );
              }
          );
    };

  root = {
    devDependencies.${bundler} = package.devDependencies.${bundler};
  };
in
{
  package = package // root;
  packageLock = packageLock // {
    packages = listToAttrs (map entry paths) // {
      "" = packages."" // root;
    };
  };
}
