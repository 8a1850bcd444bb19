# The part of nixpkgs' lib that module.nix needs, for machines without nixpkgs: options with types, defaults and merging,
# mkIf, mkMerge, mkDefault and mkBefore at any depth, errors for undeclared options. It has no other priorities, no imports
# of functors and no documentation. With nixpkgs, the same tests run with the real lib.
let
  inherit (builtins)
    all
    any
    attrNames
    concatMap
    concatStringsSep
    elemAt
    filter
    foldl'
    hasAttr
    head
    isAttrs
    isBool
    isFloat
    isFunction
    isInt
    isList
    isString
    length
    listToAttrs
    mapAttrs
    match
    substring
    stringLength
    ;

  isType = name: value: isAttrs value && (value._type or null) == name;
  isDerivation = isType' "derivation";
  isType' = name: value: isAttrs value && (value.type or null) == name;
  unique = foldl' (seen: item: if builtins.elem item seen then seen else seen ++ [ item ]) [ ];
  at = path: concatStringsSep "." path;

  # Returns the values of a definition, once its conditions are known.
  discharge =
    value:
    if isType "if" value then
      (if value.condition then discharge value.content else [ ])
    else if isType "merge" value then
      concatMap discharge value.contents
    else
      [ value ];

  # Does the same for a module's attributes. Their names must be known before the conditions, which depend on config.
  pushDown =
    value:
    if isType "if" value then
      map (mapAttrs (_: content: value // { inherit content; })) (pushDown value.content)
    else if isType "merge" value then
      concatMap pushDown value.contents
    else
      [ value ];

  # Drops defaults beside other definitions, and sorts the others as mkBefore and mkAfter ask.
  settle =
    values:
    let
      priority = value: if isType "override" value then value.priority else 100;
      order = value: if isType "order" value then value.priority else 1000;
      bare = value: if isType "override" value || isType "order" value then value.content else value;
      highest = foldl' (least: value: if priority value < least then priority value else least) 10000 values;
      kept = filter (value: priority value == highest) values;
    in
    map bare (builtins.sort (a: b: order a < order b) kept);

  keysOf = definitions: unique (concatMap attrNames definitions);
  below =
    key: definitions:
    settle (concatMap (definition: if hasAttr key definition then discharge definition.${key} else [ ]) definitions);

  equal =
    path: values:
    if all (value: value == head values) values then
      head values
    else
      throw "The option `${at path}' has conflicting definition values";

  # A type: `check` tests one definition, `merge` makes one value of all definitions.
  type = name: check: merge: { inherit name check merge; };
  scalar = name: check: type name check equal;
  mergeAs =
    path: wanted: values:
    if all wanted.check values then
      wanted.merge path values
    else
      throw "A definition for option `${at path}' is not of type `${wanted.name}'";

  attrsOf =
    inner:
    type "attribute set of ${inner.name}" isAttrs (
      path: values:
      listToAttrs (
        concatMap (
          key:
          let
            own = below key values;
          in
          if own == [ ] then
            [ ]
          else
            [
              {
                name = key;
                value = mergeAs (path ++ [ key ]) inner own;
              }
            ]
        ) (keysOf values)
      )
    );
  either =
    a: b:
    type "${a.name} or ${b.name}" (value: a.check value || b.check value) (
      path: values: mergeAs path (if all a.check values then a else b) values
    );
  types = rec {
    inherit attrsOf either;
    bool = scalar "boolean" isBool;
    int = scalar "signed integer" isInt;
    port = scalar "port" (value: isInt value && value >= 0 && value <= 65535);
    float = scalar "floating point number" isFloat;
    str = scalar "string" isString;
    package = scalar "package" (value: isDerivation value || (isString value && match "/.*" value != null));
    enum = values: scalar "one of ${builtins.toJSON values}" (value: builtins.elem value values);
    oneOf = list: foldl' either (head list) (builtins.tail list);
    nullOr =
      inner:
      type "null or ${inner.name}" (value: value == null || inner.check value) (
        path: values: if all (value: value == null) values then null else mergeAs path inner values
      );
    listOf =
      inner:
      type "list of ${inner.name}" isList (path: values: map (value: mergeAs path inner [ value ]) (concatMap (value: value) values));
    anything = type "anything" (_: true) (
      path: values: if all isAttrs values && !(any isDerivation values) then (attrsOf anything).merge path values else equal path values
    );
    submodule =
      { options ? { }, freeformType ? null }:
      type "submodule" isAttrs (path: values: evalOptions path options freeformType values);
  };

  # Returns the value of every option in a tree of options; `freeformType` applies to undeclared ones.
  evalOptions =
    path: options: freeformType: raw:
    let
      definitions = concatMap pushDown raw;
      free = filter (key: !(hasAttr key options)) (keysOf definitions);
      freeOnly = map (definition: removeAttrs definition (attrNames options)) definitions;
    in
    mapAttrs (
      key: option:
      let
        rawOwn = concatMap (definition: if hasAttr key definition then [ definition.${key} ] else [ ]) definitions;
        own = settle (concatMap discharge rawOwn);
        here = path ++ [ key ];
      in
      if !(isType "option" option) then
        evalOptions here option null rawOwn
      else if own != [ ] then
        mergeAs here option.type own
      else if option ? default then
        option.default
      else
        throw "The option `${at here}' is used but not defined"
    ) options
    // (
      if free == [ ] then
        { }
      else if freeformType == null then
        throw "The option `${at (path ++ [ (head free) ])}' does not exist"
      else
        mergeAs path freeformType freeOnly
    );

  mergeTrees =
    a: b:
    a
    // mapAttrs (
      key: value: if hasAttr key a && !(isType "option" value) then mergeTrees a.${key} value else value
    ) b;

  evalModules =
    { modules }:
    let
      load =
        module:
        let
          function = if isFunction module || isAttrs module then module else import module;
          loaded = if isFunction function then function { inherit config lib; inherit (config._module.args) pkgs; } else function;
        in
        concatMap load (loaded.imports or [ ])
        ++ [
          {
            options = loaded.options or { };
            config =
              if loaded ? config || loaded ? options then
                loaded.config or { }
              else
                removeAttrs loaded [
                  "_module"
                  "imports"
                ];
          }
        ];
      # The first module defines the arguments of the others, so it must not be a function.
      all = concatMap load modules;
      options = foldl' mergeTrees { } (map (module: module.options) all);
      config = evalOptions [ ] options null (map (module: module.config) all) // {
        _module = (head modules)._module;
      };
    in
    {
      inherit config options;
    };

  order = priority: content: {
    _type = "order";
    inherit priority content;
  };

  lib = {
    inherit types evalModules;
    inherit (builtins)
      all
      any
      attrNames
      attrValues
      concatStringsSep
      elem
      filter
      listToAttrs
      mapAttrs
      replaceStrings
      substring
      ;
    mkOption = option: option // { _type = "option"; };
    mkEnableOption = what: {
      _type = "option";
      type = types.bool;
      default = false;
      description = "Whether to enable ${what}.";
    };
    mkIf = condition: content: {
      _type = "if";
      inherit condition content;
    };
    mkMerge = contents: {
      _type = "merge";
      inherit contents;
    };
    mkDefault = content: {
      _type = "override";
      priority = 1000;
      inherit content;
    };
    mkBefore = order 500;
    mkAfter = order 1500;
    literalExpression = text: { inherit text; };
    importJSON = file: builtins.fromJSON (builtins.readFile file);
    optional = condition: item: if condition then [ item ] else [ ];
    optionals = condition: items: if condition then items else [ ];
    optionalAttrs = condition: attrs: if condition then attrs else { };
    filterAttrs =
      keep: attrs:
      removeAttrs attrs (filter (name: !(keep name attrs.${name})) (attrNames attrs));
    mapAttrsToList = make: attrs: map (name: make name attrs.${name}) (attrNames attrs);
    genAttrs =
      names: make:
      listToAttrs (
        map (name: {
          inherit name;
          value = make name;
        }) names
      );
    makeBinPath = packages: concatStringsSep ":" (map (package: "${package}/bin") packages);
    optionalString = condition: text: if condition then text else "";
    nameValuePair = name: value: { inherit name value; };
    hasInfix = part: text: builtins.length (builtins.split part text) > 1;
    hasPrefix = prefix: text: substring 0 (stringLength prefix) text == prefix;
    getExe = package: "${package}/bin/${package.meta.mainProgram}";
    getVersion = package: package.version or (builtins.parseDrvName (package.name or package)).version;
    versionAtLeast = version: wanted: builtins.compareVersions version wanted >= 0;
    getName = package: package.pname or (builtins.parseDrvName (package.name or package)).name;
  };
in
lib
