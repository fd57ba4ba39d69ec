/**
 * Programs of Perl, whose bare core every Debian has and which needs no module here: a TCP connection that moves bytes, for
 * `perl -e`. Busybox' own `nc` moves a kilobyte at a time.
 */

/** Bytes of one write. */
export const WRITE_SIZE: number = 64 << 10;

/** Linux, x86-64: AF_INET, SOCK_STREAM, SOL_SOCKET, SO_REUSEADDR; struct sockaddr_in. */
const PLACE = String.raw`
  sub place { pack("S n C4 x8", 2, $_[0], split(/\./, $_[1])) }`;

/** `<port>`: takes one connection after the other, and answers the end of each with the number of bytes that came. */
const RECEIVE = `${PLACE}
  socket(my $l, 2, 1, 6); setsockopt($l, 1, 2, pack("i", 1));
  bind($l, place($ARGV[0], "0.0.0.0")) or die $!; listen($l, 1) or die $!;
  while (accept(my $s, $l)) {
    my ($sum, $data) = (0, "");
    while (my $size = sysread($s, $data, 1 << 18)) { $sum += $size }
    syswrite($s, $sum); close($s);
  }`;

/** `<port> <address> <count>`: prints the nanoseconds until the other side has all, by the kernel's monotonic clock. */
const SEND = `${PLACE}
  sub now { open(my $f, "<", "/proc/timer_list"); <$f>; <$f>; (<$f> =~ /now at (\\d+)/)[0] }
  my ($port, $address, $count) = @ARGV;
  my ($data, $begin) = ("x" x ${WRITE_SIZE}, now());
  socket(my $s, 2, 1, 6); connect($s, place($port, $address)) or die $!;
  for (1 .. $count) {
    for (my $at = 0; $at < length $data;) { $at += syswrite($s, $data, length($data) - $at, $at) // die $! }
  }
  shutdown($s, 1); sysread($s, my $sum, 64);
  die "$sum bytes came" if $sum != $count * ${WRITE_SIZE};
  print now() - $begin;`;

/** Programs of this machine that a guest needs for it. */
export const TRANSFER_PROGRAMS: readonly string[] = ['perl'];

/** A command of the guest that goes on in the background. */
export function receiveCommand(port: number): string {
  return `setsid perl -e '${RECEIVE}' ${port} </dev/null >/dev/null 2>&1 &`;
}

/** A command of the guest that prints nanoseconds. */
export function sendCommand(port: number, address: string, count: number): string {
  return `perl -e '${SEND}' ${port} ${address} ${count}`;
}
