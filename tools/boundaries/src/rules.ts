import { isBuiltin } from 'node:module';
import { FFI_IMPORTERS, LAYERS, NODE_PACKAGES, TEST_IMPORTS } from './layers.ts';
import { type SourceFile, type WorkspacePackage, resolveRelative } from './workspace.ts';

/** All breaches of the layer rules, a sentence each; empty when the workspace is sound. */
export function checkWorkspace(packages: readonly WorkspacePackage[]): readonly string[] {
  const byName = new Map(packages.map((each) => [each.name, each]));
  return packages.flatMap((each) => [
    ...checkLayer(each, byName),
    ...checkReferences(each, byName),
    ...checkUse(each),
    ...each.sources.flatMap((source) =>
      source.imports.flatMap((specifier) => checkImport(each, source, specifier)),
    ),
  ]);
}

function checkLayer(each: WorkspacePackage, byName: ReadonlyMap<string, WorkspacePackage>): string[] {
  const layer = LAYERS.find(({ name }) => name === each.layer);
  if (layer === undefined) return [`${each.root}/package.json: tag "layer:${each.layer}" names no layer`];
  return each.dependencies.flatMap((name) => {
    const dependency = byName.get(name);
    if (dependency === undefined || layer.mayUse.includes(dependency.layer ?? '')) return [];
    return [
      `${each.root}/package.json: layer ${layer.name} must not depend on ${name} (layer ${dependency.layer})`,
    ];
  });
}

function checkReferences(each: WorkspacePackage, byName: ReadonlyMap<string, WorkspacePackage>): string[] {
  const wanted = each.dependencies.flatMap((name) => byName.get(name)?.root ?? []);
  const missing = wanted.filter((root) => !each.references.includes(root));
  const extra = each.references.filter((root) => !wanted.includes(root));
  return [
    ...missing.map(
      (root) => `${each.root}/tsconfig.json: no reference to ${root}, which package.json depends on`,
    ),
    ...extra.map(
      (root) => `${each.root}/tsconfig.json: refers to ${root}, which package.json does not depend on`,
    ),
  ];
}

/** A dependency that nothing imports is a lie about the structure. Type packages are used without an import. */
function checkUse(each: WorkspacePackage): string[] {
  const imported = new Set(each.sources.flatMap(({ imports }) => imports.map(packageOf)));
  return each.dependencies
    .filter((name) => !imported.has(name) && !name.startsWith('@types/') && !TEST_IMPORTS.has(name))
    .map((name) => `${each.root}/package.json: nothing imports ${name}`);
}

function packageOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

function checkImport(each: WorkspacePackage, source: SourceFile, specifier: string): string[] {
  const breach = (what: string): string[] => [`${source.path}: imports '${specifier}': ${what}`];
  if (specifier.startsWith('.')) {
    const target = resolveRelative(source.path, specifier);
    return target.startsWith(`${each.root}/`) ? [] : breach('leaves the package; import it by its name');
  }
  if (specifier.startsWith('node:') || isBuiltin(specifier)) {
    if (!specifier.startsWith('node:')) return breach('write the node: prefix');
    return mayUseNode(each, source)
      ? []
      : breach(`layer ${each.layer} runs in a browser; move it to a node/ folder`);
  }
  const name = packageOf(specifier);
  const importer = FFI_IMPORTERS[name];
  if (importer !== undefined && importer !== each.name) return breach(`only ${importer} may`);
  if (name === each.name || each.dependencies.includes(name)) return [];
  if (source.isTest && TEST_IMPORTS.has(name)) return [];
  return each.layer === 'tool' && !name.startsWith('@virtlab/')
    ? []
    : breach('not among the dependencies of package.json');
}

function mayUseNode(each: WorkspacePackage, source: SourceFile): boolean {
  const layer = LAYERS.find(({ name }) => name === each.layer);
  return (
    layer?.browserSafe !== true ||
    NODE_PACKAGES.has(each.name) ||
    source.isTest ||
    source.path.includes('/node/')
  );
}
