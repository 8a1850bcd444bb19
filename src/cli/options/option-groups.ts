/** Groups of options in a help. Those of a command itself come first, and those of many commands below them. */
import { Help, type Command, type Option } from 'commander';

export const SOURCES_AND_TRUST = 'Sources and trust:';
export const NETWORK = 'Network:';
export const RATE_LIMITS = 'Rate limits:';

/** The group of options without another one, as commander names it. */
const OWN = 'Options:';

/** Puts the options of a command from the index `from` on into a group, but for those that are in one. */
export function groupFrom(command: Command, from: number, heading: string): void {
  for (const option of command.options.slice(from))
    if (option.helpGroupHeading === undefined) option.helpGroup(heading);
}

/** Sorts options into groups, as commander does, with those of the command itself first. */
export function ownFirst<T extends Command | Option>(
  unsorted: T[],
  visible: T[],
  groupOf: (item: T) => string,
): Map<string, T[]> {
  const groups = new Help().groupItems(unsorted, visible, groupOf);
  const own = groups.get(OWN);
  return own === undefined ? groups : new Map([[OWN, own], ...groups]);
}
