import { mkdtempSync } from 'node:fs';
const [file, name] = process.argv.slice(2);
const m = await import(file!);
const r = await m[name!]({ roundCount: Number(process.argv[4] ?? 5), runMs: Number(process.argv[5]??30), folder: mkdtempSync('/tmp/vlb-'), onProgress: () => {} });
for (const c of r) { console.log(c.title); for (const x of c.contenders) console.log('  ', x.name.padEnd(30), x.nsPerOperation.median.toFixed(1), x.nsPerOperation.min.toFixed(1), x.nsPerOperation.max.toFixed(1), JSON.stringify(x.doorbells), x.against.map((a: any)=>a.ratio.toFixed(2)).join(' ')); }
