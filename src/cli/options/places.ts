/** Says where the value of an option comes from, in messages that name the option. */

/** Matches a command line of this program in a sentence: its options are not those of the running command. */
const OWN_COMMAND = /\bnarswarm [a-z]+[^:;,()]*/g;
const OPTION = /(?<![\w-])--[a-z][a-z-]*\b/g;

/** The origin of the value of an option. */
export interface Place {
  /** `FILE:LINE`, or the name of a variable. */
  readonly where: string;
  /** The setting of a module that has written the file. */
  readonly setting?: string;
}

/** Returns the origin of the value of an option (`--require`, `--no-dht`). Undefined for a flag or a default. */
export type PlaceOf = (option: string) => Place | undefined;

/**
 * Adds to a sentence from which file or variable the options that it names have their values, unless it says so already.
 * Without that, nobody looks for `--require` in a config file.
 */
export function withPlaces(text: string, placeOf: PlaceOf): string {
  const options = new Set(text.replaceAll(OWN_COMMAND, '').match(OPTION) ?? []);
  const places = Array.from(options).flatMap((option) => {
    const place = placeOf(option);
    if (place === undefined || text.includes(place.where)) return [];
    const { where, setting } = place;
    return `${option} comes from ${setting === undefined ? where : `${setting} (${where})`}`;
  });
  return places.length === 0 ? text : `${text} (${places.join(', ')})`;
}
