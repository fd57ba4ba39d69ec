import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { parseSync } from 'vite';

export interface SourceFile {
  /** Relative to the workspace. */
  readonly path: string;
  readonly isTest: boolean;
  /** Module specifiers of static and dynamic imports and of re-exports. */
  readonly imports: readonly string[];
}

export interface WorkspacePackage {
  readonly name: string;
  /** Relative to the workspace. */
  readonly root: string;
  readonly layer: string | undefined;
  readonly dependencies: readonly string[];
  readonly references: readonly string[];
  readonly sources: readonly SourceFile[];
}

/** Everything the check looks at, read once. */
export function readWorkspace(root: string): readonly WorkspacePackage[] {
  return globSync('{packages,apps,tools}/*/package.json', { cwd: root })
    .toSorted()
    .map((manifest) => readPackage(root, dirname(manifest)));
}

function readPackage(workspace: string, root: string): WorkspacePackage {
  const manifest = readJson(join(workspace, root, 'package.json'));
  const config = readJson(join(workspace, root, 'tsconfig.json'));
  const tags = (manifest['nx'] as { tags?: string[] } | undefined)?.tags ?? [];
  const references = (config['references'] as { path: string }[] | undefined) ?? [];
  return {
    name: String(manifest['name']),
    root,
    layer: tags.find((tag) => tag.startsWith('layer:'))?.slice('layer:'.length),
    dependencies: ['dependencies', 'peerDependencies', 'optionalDependencies'].flatMap((field) =>
      Object.keys((manifest[field] as Record<string, string> | undefined) ?? {}),
    ),
    references: references.map(({ path }) => normalize(join(root, path))),
    sources: globSync(`${root}/src/**/*.ts`, { cwd: workspace })
      .toSorted()
      .map((path) => readSource(workspace, path)),
  };
}

function readSource(workspace: string, path: string): SourceFile {
  const text = readFileSync(join(workspace, path), 'utf8');
  const { staticImports, staticExports, dynamicImports } = parseSync(path, text).module;
  const exported = staticExports.flatMap(({ entries }) =>
    entries.flatMap((entry) => entry.moduleRequest?.value ?? []),
  );
  const dynamic = dynamicImports.flatMap(({ moduleRequest }) => {
    const literal = /^(['"`])([^'"`$]+)\1$/.exec(text.slice(moduleRequest.start, moduleRequest.end));
    return literal?.[2] ?? [];
  });
  return {
    path,
    isTest: /\.(test|bench|explore)\.ts$/.test(path) || /\/(conformance|testing)(\/|\.ts$)/.test(path),
    imports: [
      ...new Set([...staticImports.map((each) => each.moduleRequest.value), ...exported, ...dynamic]),
    ],
  };
}

function readJson(path: string): Record<string, unknown> {
  return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
}

/** Where a relative import of `from` leads, relative to the workspace. */
export function resolveRelative(from: string, specifier: string): string {
  return relative('.', join(dirname(from), specifier));
}
