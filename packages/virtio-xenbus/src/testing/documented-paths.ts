/** Reads docs/xenstore-paths.md and holds nodes against it. The form of its headings is explained there. */

/** A node as it stands in a xenstore. */
export interface FoundNode {
  readonly path: string;
  readonly value: string;
  /** `<n|r|w|b><domid>`, in order. */
  readonly permissions: readonly string[];
}

export interface DocumentedPath {
  /** With variables, as in the heading. */
  readonly pattern: string;
  readonly type: string;
  readonly writer: string;
  readonly permissions: readonly string[];
  /** The text below the heading; may be empty. */
  readonly meaning: string;
}

export interface DocumentedPaths {
  readonly entries: readonly DocumentedPath[];
  /** What the page has to say against a node: undefined if there is an entry that it agrees with in all. */
  complain(node: FoundNode): string | undefined;
  /** The entry that agrees with a node. */
  find(node: FoundNode): DocumentedPath | undefined;
}

const HEADING = /^#### (\S+) = (.+) \[(.+), ([^,]+)\]$/;
const TOOLSTACK = '0';

/** Values that each type takes. */
const TYPES: Readonly<Record<string, RegExp>> = {
  EMPTY: /^$/,
  DECIMAL: /^\d+$/,
  HEX64: /^0x[0-9a-f]{1,16}$/,
  STATE: /^[0-8]$/,
  STATUS: /^\d+ \d+$/,
  DEVICETYPE: /^virtio,device[0-9a-f]+$/,
  PATH: /^(\/[A-Za-z0-9_@-]+)+$/,
  TEXT: /^[^]*$/,
};

/** What a variable of a pattern may stand for; digits unless it is named here. */
const VARIABLES: Readonly<Record<string, string>> = { UUID: '[0-9a-f-]+', FAILED: '.+?' };

/** Throws `Error` for a heading that is not of the form, or names an unknown type. */
export function readDocumentedPaths(markdown: string): DocumentedPaths {
  const sections = markdown.split(/^(?=#{1,4} )/m).filter((section) => section.startsWith('#### '));
  const entries = sections.map(readEntry);
  const agrees = (entry: DocumentedPath, node: FoundNode): boolean => disagreement(entry, node) === undefined;
  const find = (node: FoundNode): DocumentedPath | undefined => entries.find((entry) => agrees(entry, node));
  return {
    entries,
    find,
    complain: (node) => {
      if (find(node) !== undefined) return undefined;
      const reasons = entries
        .filter((entry) => variablesOf(entry, node.path) !== undefined)
        .map((entry) => `${entry.pattern}: ${disagreement(entry, node)}`);
      return `${node.path}: ${reasons.length === 0 ? 'not documented' : reasons.join('; ')}`;
    },
  };
}

function readEntry(section: string): DocumentedPath {
  const [heading = '', ...rest] = section.split('\n');
  const match = HEADING.exec(heading);
  if (match === null)
    throw new Error(`Not of the form "#### PATTERN = TYPE [WRITER, PERMISSIONS]": ${heading}`);
  const [, pattern = '', type = '', writer = '', permissions = ''] = match;
  if (!type.startsWith('"') && TYPES[type] === undefined) throw new Error(`Unknown type: ${heading}`);
  return { pattern, type, writer, permissions: permissions.split(' '), meaning: rest.join('\n').trim() };
}

function disagreement(entry: DocumentedPath, node: FoundNode): string | undefined {
  const variables = variablesOf(entry, node.path);
  if (variables === undefined) return 'another path';
  if (!hasType(entry.type, node.value)) return `${JSON.stringify(node.value)} is not ${entry.type}`;
  return comparePermissions(entry, node, variables);
}

function hasType(type: string, value: string): boolean {
  const pattern = TYPES[type];
  return pattern === undefined ? type.split(' | ').includes(JSON.stringify(value)) : pattern.test(value);
}

/** The values of the pattern's variables, or undefined if the path is another. */
function variablesOf({ pattern }: DocumentedPath, path: string): Map<string, string> | undefined {
  const source = pattern.replaceAll(
    /\$([A-Z]+)/g,
    (_, name: string) => `(?<${name}>${VARIABLES[name] ?? '\\d+'})`,
  );
  const match = new RegExp(`^${source}$`).exec(path);
  return match === null ? undefined : new Map(Object.entries(match.groups ?? {}));
}

/** A variable that is not in the path, such as `$BE` in a frontend's directory, takes the value that it finds. */
function comparePermissions(
  { permissions }: DocumentedPath,
  node: FoundNode,
  variables: Map<string, string>,
): string | undefined {
  const values = new Map([...variables, ['TOOLSTACK', TOOLSTACK]]);
  const isEqual =
    permissions.length === node.permissions.length &&
    permissions.every((wanted, index) => {
      const found = node.permissions[index]!;
      const name = wanted.slice(2);
      if (!values.has(name)) values.set(name, found.slice(1));
      return found === `${wanted.charAt(0)}${values.get(name)}`;
    });
  return isEqual
    ? undefined
    : `permissions ${node.permissions.join(' ')} instead of ${permissions.join(' ')}`;
}
