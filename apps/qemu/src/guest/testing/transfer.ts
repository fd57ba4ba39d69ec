/**
 * Programs of Perl, whose bare core every Debian has and which needs no module here: standard input to standard output
 * over a socket, for `perl -e`. The kernels check the checksums of packets; files are compared by `sha256sum`.
 */

/** Linux, x86-64: AF_INET, SOCK_STREAM, SOCK_DGRAM, SOL_SOCKET, SO_REUSEADDR, SO_SNDTIMEO; struct sockaddr_in. */
const PRELUDE = `
  my ($address, $port) = @ARGV;
  my $place = pack("S n C4 x8", 2, $port, split(/\\./, $address));
  $| = 1; binmode STDIN; binmode STDOUT;
  sub wait_for { my $bits = ""; vec($bits, fileno($_[0]), 1) = 1; select($bits, undef, undef, $_[1]) }
`;

export const TCP_RECEIVE: string = `${PRELUDE}
  socket(my $l, 2, 1, 6); setsockopt($l, 1, 2, pack("i", 1));
  bind($l, $place) or die $!; listen($l, 1) or die $!; accept(my $s, $l) or die $!;
  while (sysread($s, my $data, 65536)) { print $data }
`;

export const TCP_SEND: string = `${PRELUDE}
  my $s;
  until (socket($s, 2, 1, 6) && connect($s, $place)) { select(undef, undef, undef, 0.05) }
  while (sysread(STDIN, my $data, 65536)) {
    for (my $at = 0; $at < length $data;) { $at += syswrite($s, $data, length($data) - $at, $at) // die $! }
  }
  shutdown($s, 1); sysread($s, my $end, 1);
`;

/** Each datagram carries its number and is answered by it; an empty one is the last. The rest of it is printed once. */
export const UDP_RECEIVE: string = `${PRELUDE}
  socket(my $s, 2, 2, 17); bind($s, $place) or die $!;
  for (my $wanted = 0;;) {
    my $from = recv($s, my $data, 65536, 0) // die $!;
    my $number = unpack("N", $data);
    send($s, pack("N", $number), 0, $from);
    next if $number != $wanted;
    last if length $data == 4;
    print substr($data, 4); $wanted++;
  }
  while (wait_for($s, 0.3)) { my $from = recv($s, my $data, 65536, 0); send($s, substr($data, 0, 4), 0, $from) }
`;

/** Third argument: bytes of each datagram's share. What is not answered within a second is sent again. */
export const UDP_SEND: string = `${PRELUDE}
  socket(my $s, 2, 2, 17); connect($s, $place) or die $!;
  my ($number, $again, $answer) = (0, 0, "");
  for (my $more = 1; $more;) {
    $more = sysread(STDIN, my $data, $ARGV[2]);
    for (my $answered = 0; !$answered;) {
      send($s, pack("N", $number) . $data, 0);
      last if $answered = wait_for($s, 1) && defined(recv($s, $answer, 64, 0)) && unpack("N", $answer) == $number;
      die "no answer" if ++$again > 200;
      select(undef, undef, undef, 0.05); # nobody is there yet, and it was said at once
    }
    $number++;
  }
`;

/** A word for a shell. */
export function quoted(text: string): string {
  return `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** A command for a shell of a guest that has the program of this machine. */
export function perl(program: string, ...args: readonly (string | number)[]): string {
  return `perl -e ${quoted(program)} ${args.join(' ')}`;
}
