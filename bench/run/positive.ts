/** @throws Error unless it is a number above 0, and not a huge one */
export function positive(name: string, text: string): number {
  if (!/^[1-9]\d{0,6}$/.test(text)) throw new Error(`${name} wants a number above 0, not ${text}`);
  return Number(text);
}
