/** Arguments as they would stand on a command line; none has a space in it. */
export function words(text: string): string[] {
  return text.trim().split(/\s+/);
}
