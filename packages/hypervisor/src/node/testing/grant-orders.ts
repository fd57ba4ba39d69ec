export interface MapperArgs {
  /** FIFOs. */
  readonly orders: string;
  readonly answers: string;
  readonly mapCountMax: number;
}

/** What a mapper's process can be told; each is answered by one line of JSON. */
export type MapperOrder =
  | { readonly order: 'connect'; readonly domain: number }
  | { readonly order: 'map'; readonly domain: number; readonly ref: number; readonly writable: boolean }
  | { readonly order: 'unmap'; readonly handle: number | null }
  | { readonly order: 'has'; readonly domain: number }
  | { readonly order: 'live' }
  /** Answered when the domain is known to be gone. */
  | { readonly order: 'gone'; readonly domain: number }
  /** Arguments of `GrantCopyList.push`. */
  | { readonly order: 'copy'; readonly copies: readonly (readonly number[])[] };
