import type { ConformanceCase } from './conformance-script.ts';

const QUOTAS_4_17 =
  'Quota settings:\n' +
  'nodes            :     1000 Nodes per domain\n' +
  'watches          :      128 Watches per domain\n' +
  'transactions     :       10 Transactions per domain\n' +
  'outstanding      :       20 Outstanding requests per domain\n' +
  'transaction-nodes:     1024 Max. number of accessed nodes per transaction\n' +
  'memory           :  2621440 Total Xenstore memory per domain (error level)\n' +
  'node-size        :     2048 Max. size of a node\n' +
  'path-max         :     2048 Max. length of a node path\n' +
  'permissions      :        5 Max. number of permissions per node\n|';

const QUOTAS_HEAD =
  'Quota settings:\n' +
  'nodes            :     1000 Nodes per domain\n' +
  'watches          :      128 Watches per domain\n' +
  'outstanding      :       20 Outstanding requests per domain\n' +
  'memory           :  2621440 Total Xenstore memory per domain\n' +
  'transactions     :       10 Active transactions per domain\n' +
  'transaction-nodes:     1024 Max. number of accessed nodes per transaction\n' +
  'node-permissions :        5 Max. number of permissions per node\n' +
  'path-max         :     2048 Max. length of a node path\n' +
  'node-size        :     2048 Max. size of a node\n|';

const USE_4_17 =
  'Domain 5:\nnodes           :        1\nwatches         :        1\ntransactions    :        1\n' +
  'outstanding     :        0\nmemory          :       75\n|';

/** What CONTROL `quota` of 4.17 says of domain 5, which has no watch and nothing outstanding. */
function use(nodes: number, transactions: number, memory: number): string {
  const line = (name: string, count: number): string => `${name.padEnd(16)}: ${String(count).padStart(8)}\n`;
  return (
    `Domain 5:\n${line('nodes', nodes)}${line('watches', 0)}${line('transactions', transactions)}` +
    `${line('outstanding', 0)}${line('memory', memory)}|`
  );
}

/** XS_CONTROL as xenstored of 4.17 and HEAD answer it (`tools/xenstore/xenstored_control.c`, `control.c`). */
export const CONTROL_CASES: readonly ConformanceCase[] = [
  {
    name: 'do_control: quotas and their setting, by the names of the version',
    profiles: ['c-4.17', 'c-head'],
    rows: [
      ['0', 'CONTROL', 'quota|', { other: QUOTAS_4_17, 'c-head': QUOTAS_HEAD }],
      [
        '0',
        'CONTROL',
        'quota-soft|',
        {
          other:
            'Quota settings:\nmemory           :  2097152 Total Xenstore memory per domain (warning level)\n|',
          'c-head': 'Quota settings:\nmemory           :  2097152 Total Xenstore memory per domain\n|',
        },
      ],
      ['0', 'CONTROL', 'quota-soft|set|memory|7|', 'OK|'],
      ['0', 'CONTROL', 'quota-soft|set|nodes|7|', '!EINVAL'],
      ['0', 'CONTROL', 'quota-soft|5|', '!EINVAL'],
      ['0', 'CONTROL', 'quota|set|permissions|6|', { other: 'OK|', 'c-head': '!EINVAL' }],
      ['0', 'CONTROL', 'quota|set|node-permissions|6|', { other: '!EINVAL', 'c-head': 'OK|' }],
      ['0', 'CONTROL', 'quota|set|nodes|-1|', '!EINVAL'],
      ['0', 'CONTROL', 'quota|max|-x|', '!EINVAL'],
      ['0', 'CONTROL', 'quota|0|1|', '!EINVAL'],
    ],
  },
  {
    name: 'domain_get_quota: what a domain uses, to the byte: nodes with their paths, watches, what its transactions saw',
    profiles: ['c-4.17'],
    guests: true,
    rows: [
      ['0', 'MKDIR', '/g|', 'OK|'],
      ['0', 'SET_PERMS', '/g|n5|', 'OK|'],
      ['5', 'WATCH', '/g|tok|', 'OK|'],
      ['5', 'EVENT', '/g|tok|'],
      ['5', 'START', '|', '=t'],
      ['5/t', 'READ', '/g|', ''],
      ['0', 'CONTROL', 'quota|5|', USE_4_17],
      ['5/t', 'END', 'F|', 'OK|'],
      ['5', 'RESET_WATCHES', '|', 'OK|'],
      ['0', 'RM', '/g|', 'OK|'],
    ],
  },
  {
    name: 'domain_memory_add: what would reach the memory quota is refused, a large reply too, whoever writes',
    profiles: ['c-4.17'],
    guests: true,
    rows: [
      ['0', 'MKDIR', '/g|', 'OK|'],
      ['0', 'SET_PERMS', '/g|n5|', 'OK|'],
      ['0', 'CONTROL', 'quota|set|memory|400|', 'OK|'],
      ['5', 'WRITE', `/g/a|${'x'.repeat(100)}`, 'OK|'],
      ['5', 'WRITE', `/g/b|${'x'.repeat(300)}`, '!EIO'],
      ['0', 'WRITE', `/g/c|${'x'.repeat(300)}`, '!EIO'],
      ['0', 'CONTROL', 'quota|5|', use(2, 0, 172)],
      ['5', 'WATCH', `/g|${'t'.repeat(300)}|`, '!ENOMEM'],
      ['5', 'START', '|', '=t'],
      ['5/t', 'WRITE', `/g/y|${'x'.repeat(100)}`, 'OK|'],
      ['0', 'CONTROL', 'quota|5|', use(2, 1, 352)],
      ['5/t', 'END', 'T|', 'OK|'],
      ['0', 'CONTROL', 'quota|5|', use(3, 0, 310)],
      ['5', 'WRITE', `/g/d|${'x'.repeat(25)}`, 'OK|'],
      ['0', 'CONTROL', 'quota|5|', use(4, 0, 373)],
      ['5', 'READ', '/g/a|', '!ENOMEM'],
      ['5', 'WRITE', '/g/e|', '!EIO'],
      ['0', 'CONTROL', 'quota|5|', use(4, 0, 373)],
      ['0', 'CONTROL', 'quota|set|memory|2621440|', 'OK|'],
      ['0', 'RM', '/g|', 'OK|'],
    ],
  },
  {
    name: 'do_control_log: on, off and, in HEAD, switches',
    profiles: ['c-4.17', 'c-head'],
    rows: [
      ['0', 'CONTROL', 'log|off|', 'OK|'],
      ['0', 'CONTROL', 'log|on|off|', '!EINVAL'],
      ['0', 'CONTROL', 'log|+wrl|', { other: '!EINVAL', 'c-head': 'OK|' }],
      ['0', 'CONTROL', 'log|-io|', { other: '!EINVAL', 'c-head': 'OK|' }],
      ['0', 'CONTROL', 'log|+foo|', '!EINVAL'],
      ['0', 'CONTROL', 'log|wrl|', '!EINVAL'],
      [
        '0',
        'CONTROL',
        'log|',
        {
          other: '!EINVAL',
          'c-head':
            'Log switch settings:\nobj     : on\nio      : off\nwrl     : on\nacc     : off\ntdb     : off\n|',
        },
      ],
      ['0', 'CONTROL', 'logfile|', '!EINVAL'],
    ],
  },
  {
    name: 'do_control_lu: without a session every step is refused in words, and a file that is not there',
    profiles: ['c-4.17', 'c-head'],
    rows: [
      ['0', 'CONTROL', 'live-update|', '!EINVAL'],
      ['0', 'CONTROL', 'live-update|-a|', 'No live-update session active.|'],
      ['0', 'CONTROL', 'live-update|-a|x|', '!EINVAL'],
      ['0', 'CONTROL', 'live-update|-c|cmdline|', 'Not in live-update session.|'],
      ['0', 'CONTROL', 'live-update|-s|-F|-t|5|', 'Not in live-update session.|'],
      [
        '0',
        'CONTROL',
        'live-update|-s|-v|1|',
        { other: '!EINVAL', 'c-head': 'Not in live-update session.|' },
      ],
      ['0', 'CONTROL', 'live-update|-s|-t|', '!EINVAL'],
      ['0', 'CONTROL', 'live-update|-f|/nonexistent|', 'File not accessible.|'],
      ['0', 'CONTROL', 'live-update|-x|', '!EINVAL'],
    ],
  },
  {
    name: 'do_control_help: every command with its parameters',
    profiles: ['c-4.17', 'c-head'],
    rows: [
      ['0', 'CONTROL', 'help|x|', '!EINVAL'],
      [
        '0',
        'CONTROL',
        'help|',
        {
          other:
            'check\t\nlog\ton|off\nlive-update\t[-c <cmdline>] [-F] [-t <timeout>] <file>\n' +
            '    Default timeout is 60 seconds.\nlogfile\t<file>\nmemreport\t[<file>]\nprint\t<string>\n' +
            'quota\t[set <name> <val>|<domid>]\nquota-soft\t[set <name> <val>]\nhelp\t\n|',
          'c-head':
            'check           \nlog             [on|off|+<switch>|-<switch>]\n' +
            'live-update     [-c <cmdline>] [-F] [-t <timeout>] [-v <version>] <file>\n' +
            '    Default timeout is 60 seconds, default version is 2.\n' +
            'logfile         <file>\nmemreport       [<file>]\nprint           <string>\n' +
            'quota           [set <name> <val>|<domid>|max [-r]]\nquota-soft      [set <name> <val>]\n' +
            'help            \n|',
        },
      ],
    ],
  },
  {
    name: 'talloc_free: RELEASE of a target only lets go of it, once for every SET_TARGET',
    profiles: ['c-4.17', 'c-head'],
    guests: true,
    rows: [
      ['0', 'INTRODUCE', '8|1|1|', 'OK|'],
      ['0', 'INTRODUCE', '9|1|1|', 'OK|'],
      ['0', 'SET_TARGET', '8|9|', 'OK|'],
      ['0', 'RELEASE', '9|', 'OK|'],
      ['0', 'IS_DOMAIN_INTRODUCED', '9|', 'T|'],
      ['0', 'SET_TARGET', '8|9|', 'OK|'],
      ['0', 'RELEASE', '8|', 'OK|'],
      ['0', 'RELEASE', '9|', 'OK|'],
      ['0', 'IS_DOMAIN_INTRODUCED', '9|', 'F|'],
    ],
  },
  {
    name: 'access_node: every write takes a generation, and removing a tree one more for each parent on the way',
    profiles: ['c-4.17', 'c-head'],
    rows: [
      ['0', 'DIRECTORY_PART', '/tool|0|', '2|xenstored||'],
      ['0', 'DIRECTORY_PART', '/tool|99|', '2||'],
      ['0', 'WRITE', '/a/b/c|1', 'OK|'],
      ['0', 'DIRECTORY_PART', '/|99|', { other: '7||', 'c-head': '9||' }],
      ['0', 'DIRECTORY_PART', '/a/b/c|0|', { other: '4||', 'c-head': '6||' }],
      ['0', 'START', '|', '=t'],
      ['0/t', 'WRITE', '/a/x|1', 'OK|'],
      ['0/t', 'END', 'T|', 'OK|'],
      ['0', 'DIRECTORY_PART', '/a/x|0|', { other: '11||', 'c-head': '13||' }],
      ['0', 'RM', '/a|', 'OK|'],
      ['0', 'DIRECTORY_PART', '/|99|', { other: '20||', 'c-head': '22||' }],
    ],
  },
];
