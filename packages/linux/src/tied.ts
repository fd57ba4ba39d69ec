/**
 * What to spawn so that the program is killed when the thread that started it ends, however that ends (prctl(2),
 * PR_SET_PDEATHSIG): `spawn(...tied('qemu-storage-daemon', args), options)`. It keeps its process id. Needs `setpriv` of the
 * Debian package util-linux; without it the spawn fails with ENOENT.
 */
export function tied(program: string, args: readonly string[]): [command: string, args: string[]] {
  return ['setpriv', ['--pdeathsig', 'KILL', '--', program, ...args]];
}
