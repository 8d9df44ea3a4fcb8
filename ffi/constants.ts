/**
 * Numbers of the Linux ABI, by their C names, for x86-64 and arm64.
 *
 * Only O_DIRECTORY and the size of `struct epoll_event` differ between the two. Of the flags of open(2) that are not
 * here, O_NOFOLLOW, O_DIRECT and O_LARGEFILE would: arm64 keeps the values of 32-bit ARM.
 */
const ARM64 = process.arch === "arm64";

// unistd.h
export const STDIN_FILENO = 0;
export const STDOUT_FILENO = 1;
export const STDERR_FILENO = 2;

// open(2)
export const O_RDONLY = 0;
export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_ACCMODE = 0o3;
export const O_EXCL = 0o200;
export const O_NOCTTY = 0o400;
export const O_APPEND = 0o2000;
export const O_NONBLOCK = 0o4000;
export const O_CLOEXEC = 0o2000000;
const O_DIRECTORY = ARM64 ? 0o40000 : 0o200000;
export const O_TMPFILE = 0o20000000 | O_DIRECTORY;
export const O_CREAT = 0o100;

// fallocate(2)
export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_ZERO_RANGE = 0x10;

// sync_file_range(2)
export const SYNC_FILE_RANGE_WAIT_BEFORE = 1;

// fcntl(2)
export const F_GETFD = 1;
export const F_SETFD = 2;
export const F_GETFL = 3;
export const F_SETFL = 4;
export const FD_CLOEXEC = 1;
export const F_SETSIG = 10;
export const F_OFD_GETLK = 36;
export const F_SETLEASE = 1024;
export const F_DUPFD_CLOEXEC = 1030;
export const F_SETPIPE_SZ = 1031;
export const F_GETPIPE_SZ = 1032;

// fcntl(2), struct flock
export const F_RDLCK = 0;
export const F_WRLCK = 1;
export const F_UNLCK = 2;

// flock(2)
export const LOCK_EX = 2;
export const LOCK_NB = 4;

// lseek(2)
export const SEEK_SET = 0;
export const SEEK_CUR = 1;
export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

// ioctl(2)
export const FIONREAD = 0x541b;
export const SIOCOUTQ = 0x5411;
export const BLKGETSIZE64 = 0x8008_1272;
export const TCGETS = 0x5401;
export const TCSETSW = 0x5403;
export const TIOCGPGRP = 0x540f;
export const TIOCSPGRP = 0x5410;
export const TIOCGWINSZ = 0x5413;

// termios(3), c_lflag
export const ICANON = 0o2;
export const ECHO = 0o10;

// poll(2)
export const POLLIN = 0x001;
export const POLLOUT = 0x004;
export const POLLERR = 0x008;
export const POLLHUP = 0x010;
export const POLLNVAL = 0x020;
export const POLLRDHUP = 0x2000;

// epoll(7); the structure is packed on x86-64, for the sake of 32-bit programs
export const EPOLL_CLOEXEC = 0o2000000;
export const EPOLL_CTL_ADD = 1;
export const EPOLL_CTL_DEL = 2;
export const EPOLLIN = 0x001;
export const EPOLLRDHUP = 0x2000;
export const EPOLL_EVENT_SIZE = ARM64 ? 16 : 12;

// pipe(7): the longest write(2) that a pipe takes whole or not at all
export const PIPE_BUF = 4096;

// splice(2), tee(2)
export const SPLICE_F_MOVE = 0x01;
export const SPLICE_F_NONBLOCK = 0x02;

// recv(2), send(2), shutdown(2)
export const MSG_PEEK = 0x2;
export const MSG_DONTWAIT = 0x40;
export const MSG_NOSIGNAL = 0x4000;
export const MSG_MORE = 0x8000;
export const SHUT_WR = 1;
export const SHUT_RDWR = 2;

// socket(2), socketpair(2), socket(7)
export const AF_UNIX = 1;
export const AF_INET = 2;
export const AF_INET6 = 10;
export const AF_NETLINK = 16;
export const SOL_SOCKET = 1;
export const SO_TYPE = 3;
export const SO_ERROR = 4;
export const SO_SNDBUF = 7;
export const SO_KEEPALIVE = 9;
export const SO_LINGER = 13;
export const SO_ACCEPTCONN = 30;
export const SO_DOMAIN = 39;
export const SOCK_STREAM = 1;
export const SOCK_DGRAM = 2;
export const SOCK_RAW = 3;
export const SOCK_NONBLOCK = 0o4000;
export const SOCK_CLOEXEC = 0o2000000;

// tcp(7)
export const IPPROTO_TCP = 6;
export const TCP_KEEPIDLE = 4;
export const TCP_KEEPINTVL = 5;
export const TCP_KEEPCNT = 6;
export const TCP_USER_TIMEOUT = 18;

// netlink(7), sock_diag(7)
export const NETLINK_SOCK_DIAG = 4;
export const NLM_F_REQUEST = 1;
export const SOCK_DIAG_BY_FAMILY = 20;
export const UDIAG_SHOW_PEER = 4;
export const UNIX_DIAG_PEER = 2;

// eventfd(2)
export const EFD_CLOEXEC = 0o2000000;
export const EFD_NONBLOCK = 0o4000;

// prctl(2)
export const PR_SET_PDEATHSIG = 1;
export const PR_SET_CHILD_SUBREAPER = 36;

// sigaction(2), sigprocmask(2)
export const SIG_DFL = 0;
export const SIG_IGN = 1;
export const SIG_BLOCK = 0;
export const SIG_SETMASK = 2;

// posix_spawn(3)
export const POSIX_SPAWN_SETPGROUP = 0x02;
export const POSIX_SPAWN_SETSIGDEF = 0x04;
export const POSIX_SPAWN_SETSIGMASK = 0x08;
export const POSIX_SPAWN_SETSID = 0x80;

// waitid(2), and si_code of what it tells
export const P_PID = 1;
export const WNOHANG = 1;
export const WSTOPPED = 2;
export const WEXITED = 4;
export const WNOWAIT = 0x0100_0000;
export const CLD_EXITED = 1;
export const CLD_STOPPED = 5;

// writev(2): the most buffers that one call takes
export const IOV_MAX = 1024;

/** errno values that the program tells apart; the numbers are the same on both machines. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  ESRCH: 3,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  EBADF: 9,
  ECHILD: 10,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  EFBIG: 27,
  ENOSPC: 28,
  EPIPE: 32,
  ECONNREFUSED: 111,
  EINPROGRESS: 115,
  ECONNRESET: 104,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
  ETIMEDOUT: 110,
  EDQUOT: 122,
} as const;
