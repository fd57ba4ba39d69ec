#!/usr/bin/env node
// `virtlab vhost-user-net` under a name of its own: management layers start a binary, and give it options only.
process.argv.splice(2, 0, 'vhost-user-net');
await import('./virtlab.js');
