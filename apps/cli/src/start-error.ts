/** The daemon cannot start: with these arguments, or on this machine as it is. The message is for the user. */
export class StartError extends Error {
  override readonly name = 'StartError';
  readonly kind: 'usage' | 'environment';

  constructor(kind: 'usage' | 'environment', message: string) {
    super(message);
    this.kind = kind;
  }
}
