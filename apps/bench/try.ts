import { runRing } from './src/ring/ring-group.ts';
const r = await runRing({ roundCount: 9, runMs: 30, folder: '', onProgress: () => {} });
for (const c of r) {
  console.log(c.title);
  for (const x of c.contenders)
    console.log(
      '  ',
      x.name.padEnd(24),
      x.nsPerOperation.median.toFixed(1),
      x.nsPerOperation.min.toFixed(1),
      x.nsPerOperation.max.toFixed(1),
      JSON.stringify(x.doorbells),
      x.against.map((a) => a.ratio.toFixed(2)).join(' '),
    );
}
