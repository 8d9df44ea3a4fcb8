/** Keeps the loop's methods from the last of JavaScriptCore's compilers. */
import { noFTL } from "bun:jsc";

type Method = Parameters<typeof noFTL>[0];

/** The classes that are kept from it already. */
const kept = new WeakSet<object>();

/**
 * Keeps a class's public methods and getters, and the given private methods, from FTL, the last and slowest of the
 * compilers. It begins after some 4000 calls, so in almost every stream, and takes as much time of a processor as
 * the loop itself needs for 1 GiB. All that it gains over DFG, the compiler before, is half a microsecond for each
 * request, as the loop is in system calls nearly all of the time. (bench/README.md, "The compilers")
 *
 * To be called in the constructor: all objects of a class have the same private methods, but they cannot be had
 * from elsewhere. What is compiled already stays as it is, which is nothing when the first object is made.
 */
export function keepFromFtl(
  { prototype }: { readonly prototype: object },
  ...privates: readonly Method[]
): void {
  if (kept.has(prototype)) return;
  kept.add(prototype);
  const publics = Object.values(Object.getOwnPropertyDescriptors(prototype));
  for (const { value, get } of publics) {
    const method: unknown = value ?? get;
    if (typeof method === "function") noFTL(method as Method);
  }
  for (const method of privates) noFTL(method);
}
