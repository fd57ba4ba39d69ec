/**
 * Numbers of the Linux kernel's user interface for 64-bit little-endian machines that use asm-generic values
 * (x64, arm64, riscv64, loong64). Named as in the headers; sources are paths under include/uapi.
 */

// asm-generic/errno-base.h, asm-generic/errno.h
export const ENOENT = 2;
export const EINTR = 4;
export const EIO = 5;
export const EAGAIN = 11;
export const EINVAL = 22;
export const ENFILE = 23;
export const EMFILE = 24;
export const EBADFD = 77;
export const EOPNOTSUPP = 95;
export const ENOBUFS = 105;
export const ECONNREFUSED = 111;

// linux/memfd.h, linux/fcntl.h, asm-generic/fcntl.h
export const MFD_CLOEXEC = 0x1;
export const MFD_ALLOW_SEALING = 0x2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const F_DUPFD_CLOEXEC = 1030;
export const F_ADD_SEALS = 1033;
export const F_GET_SEALS = 1034;
export const F_SEAL_SEAL = 0x1;
export const F_SEAL_SHRINK = 0x2;
export const F_SEAL_GROW = 0x4;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK: number = O_NONBLOCK;
export const EFD_CLOEXEC: number = O_CLOEXEC;

// linux/fs.h
export const RWF_NOWAIT = 0x8;

// linux/falloc.h; asm-generic/fcntl.h
export const FALLOC_FL_KEEP_SIZE = 0x1;
export const FALLOC_FL_PUNCH_HOLE = 0x2;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const LOCK_SH = 1;
export const LOCK_EX = 2;
export const LOCK_NB = 4;

// asm-generic/mman-common.h, linux/mman.h
export const PROT_READ = 0x1;
export const PROT_WRITE = 0x2;
export const MAP_SHARED = 0x1;
export const MAP_PRIVATE = 0x2;
export const MAP_FIXED = 0x10;
export const MAP_ANONYMOUS = 0x20;
export const MAP_NORESERVE = 0x4000;
export const MAP_FAILED = 0xffff_ffff_ffff_ffffn;

// linux/magic.h; asm-generic/statfs.h: struct statfs, whose first words are its type and the size of a block
export const HUGETLBFS_MAGIC = 0x9584_58f6n;
export const STATFS_SIZE = 120;

// asm-generic/poll.h; struct pollfd { int fd; short events; short revents; }
export const POLLIN = 0x1;
export const POLLHUP = 0x10;
export const POLLNVAL = 0x20;
export const POLLFD_SIZE = 8;

// linux/socket.h, asm-generic/socket.h, linux/un.h
export const AF_UNIX = 1;
export const SOCK_STREAM = 1;
export const SOCK_NONBLOCK: number = O_NONBLOCK;
export const SOCK_CLOEXEC: number = O_CLOEXEC;
export const SOL_SOCKET = 1;
export const SO_PEERCRED = 17;
export const SCM_RIGHTS = 1;
/** net/scm.h SCM_MAX_FD: the kernel refuses more descriptors in one message. */
export const SCM_MAX_FD = 253;
export const MSG_CTRUNC = 0x8;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_CMSG_CLOEXEC = 0x40000000;
/** sizeof(sun_path), terminator included. */
export const UNIX_PATH_MAX = 108;

/** struct msghdr, LP64: name, namelen, iov, iovlen, control, controllen, flags. */
export const MSGHDR_IOV = 16;
export const MSGHDR_IOVLEN = 24;
export const MSGHDR_CONTROL = 32;
export const MSGHDR_CONTROLLEN = 40;
export const MSGHDR_FLAGS = 48;
export const MSGHDR_SIZE = 56;
/** struct iovec: base, len. */
export const IOVEC_SIZE = 16;
/** struct cmsghdr: len, level, type; data follows. */
export const CMSG_LEVEL = 8;
export const CMSG_TYPE = 12;
export const CMSG_DATA = 16;
/** struct ucred: pid, uid, gid. */
export const UCRED_SIZE = 12;

// linux/if.h, linux/if_tun.h, linux/sched.h; requests by asm-generic/ioctl.h
/** sizeof(struct ifreq), and where its flags or index stand behind the name. */
export const IFREQ_SIZE = 40;
export const IFREQ_FLAGS = 16;
/** Bytes of an interface's name, terminator included. */
export const IFNAMSIZ = 16;
export const IFF_TAP = 0x0002;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;
export const TUNSETIFF = 0x4004_54ca;
export const TUNSETOFFLOAD = 0x4004_54d0;
export const TUNSETVNETHDRSZ = 0x4004_54d8;
export const TUNSETVNETLE = 0x4004_54dc;
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
/** Linux 6.2; EINVAL before. */
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;
export const O_RDONLY = 0;
export const O_RDWR = 2;
export const CLONE_NEWNET = 0x4000_0000;
