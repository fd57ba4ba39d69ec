// Every folder with a tsconfig.json is a project; nx.json's targetDefaults say what its targets do.
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';

export const createNodesV2 = [
  '{packages,apps,tools}/*/tsconfig.json',
  (files, _options, { workspaceRoot }) =>
    files.map((file) => {
      const root = dirname(file);
      const tested = existsSync(join(workspaceRoot, root, 'tsconfig.test.json'));
      return [
        file,
        {
          projects: { [root]: { root, targets: { build: {}, ...(tested && { typecheck: {}, test: {} }) } } },
        },
      ];
    }),
];
