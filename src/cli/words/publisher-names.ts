/**
 * Short names of publishers, for people: an address has a key of 64 digits, which fills a line. Everything for programs
 * keeps the address.
 */
import { mapFolder, parsePublisherAddress, type PublisherAddress } from '../../index/address.ts';

/** Fewest digits of a key that are shown. */
const MIN_DIGITS = 8;
const NAME = /^[\p{L}\p{N}][\p{L}\p{N}._:-]{0,63}$/u;
/** Matches text that looks like the beginning of a key. */
const DIGITS = /^[0-9a-f]+$/i;
/**
 * Matches the address of a hash map in a text, without the name of a root after it. Leaves out an address in single
 * quotes, since it is part of a command line to paste. The bound is for texts of strangers: without it, the time would
 * grow with the square of their length.
 */
const ADDRESS =
  /(?<!')\b(?:magnet:|https?:\/\/)[^\s"'<>()#]{0,2048}?\bxs=urn:btpk:[0-9a-f]{64}(?:&[^\s"'<>()#,;:]*)?/gi;

/**
 * Returns a short name for each hash map, by its {@link mapFolder}. The names differ from each other. In this order: the
 * label in the address (`dn`), the salt, the host of the mirror; otherwise the first digits of the key, as many as it
 * takes to tell the keys apart, with `…` after them.
 */
export function namesOf(addresses: readonly PublisherAddress[]): ReadonlyMap<string, string> {
  const maps = Map.groupBy(addresses, mapFolder);
  const wished = new Map([...maps].map(([map, forms]) => [map, wishesOf(forms)] as const));
  const keys = [...new Set(addresses.map(({ publicKeyHex }) => publicKeyHex))];
  return new Map(
    [...maps].flatMap(([map, [address]]) => {
      if (address === undefined) return [];
      const others = new Set([...wished].filter(([other]) => other !== map).flatMap(([, wishes]) => wishes));
      const name = wished.get(map)?.find((wish) => !others.has(wish));
      return [[map, name ?? withoutName(address, { keys, addresses })] as const];
    }),
  );
}

/** Returns a function that puts short names into a text, instead of the addresses of these publishers. */
export function shortener(addresses: readonly PublisherAddress[]): (text: string) => string {
  const names = namesOf(addresses);
  return (text) =>
    text.replace(ADDRESS, (found) => {
      try {
        return names.get(mapFolder(parsePublisherAddress(found))) ?? found;
      } catch {
        return found; // not an address after all
      }
    });
}

/** Returns true if a text may have an address in it. */
export function mayNamePublisher(text: string): boolean {
  return /xs=urn:btpk:/i.test(text);
}

/** Returns the names that the forms of one address suggest, the best first. */
function wishesOf(forms: readonly PublisherAddress[]): string[] {
  const labels = forms.map(({ label }) => label);
  const salts = forms.map(({ salt }) => salt);
  const hosts = forms.map(({ baseUrl }) => (baseUrl === undefined ? undefined : new URL(baseUrl).host));
  const isName = (text: string | undefined): text is string =>
    text !== undefined && NAME.test(text) && !DIGITS.test(text);
  return [...labels, ...salts, ...hosts].filter(isName);
}

function withoutName(
  { publicKeyHex, salt }: PublisherAddress,
  { keys, addresses }: { readonly keys: readonly string[]; readonly addresses: readonly PublisherAddress[] },
): string {
  const others = keys.filter((key) => key !== publicKeyHex);
  let digits = MIN_DIGITS;
  while (others.some((key) => key.startsWith(publicKeyHex.slice(0, digits)))) digits++;
  const start = `${publicKeyHex.slice(0, digits)}…`;
  const hasOtherMap = addresses.some((other) => other.publicKeyHex === publicKeyHex && other.salt !== salt);
  return hasOtherMap && salt !== '' ? `${encodeURIComponent(salt)}@${start}` : start;
}
