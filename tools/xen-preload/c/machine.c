/* Joins the shared machine when the process starts, and leaves nothing behind when the starting process is gone. */
#define _GNU_SOURCE
#include "machine.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define END_SIGNAL SIGUSR2 /* neither daemon uses it */

struct machine *machine;
int machine_events_fd = -1;
const char *machine_directory;
static bool is_daemon;

void *machine_handle(void)
{
    static char handle;
    if (machine)
        return &handle;
    errno = ENODEV;
    return NULL;
}

uint32_t machine_domain(uint32_t domid)
{
    if (!machine || domid >= MACHINE_DOMAIN_COUNT)
        return 0;
    uint32_t state = __atomic_load_n(&machine->domains[domid], __ATOMIC_ACQUIRE);
    return state & DOMAIN_EXISTS ? state : 0;
}

void machine_send(uint32_t message)
{
    int saved_errno = errno;
    /* Blocking: an event must not be lost, and pending bits bound how many can be on their way. */
    while (send(machine_events_fd, &message, sizeof(message), MSG_NOSIGNAL) == -1 && errno == EINTR)
        ;
    errno = saved_errno;
}

void *machine_map_ring(uint32_t domid, int protection)
{
    char path[4096];
    void *page = MAP_FAILED;

    if (machine_domain(domid)) {
        snprintf(path, sizeof(path), "%s/ring-%u", machine_directory, domid);
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0) {
            page = mmap(NULL, PAGE_SIZE, protection, MAP_SHARED, fd, 0);
            close(fd);
        }
    }
    if (page == MAP_FAILED) {
        errno = EINVAL;
        return NULL;
    }
    return page;
}

struct directory_entry {
    uint64_t inode;
    int64_t offset;
    unsigned short size;
    unsigned char type;
    char name[];
};

/* Only calls that are safe in a signal handler: readdir() allocates. */
static void remove_contents(int directory, int depth)
{
    union {
        char bytes[4096];
        struct directory_entry aligned;
    } buffer;
    long size;

    while ((size = syscall(SYS_getdents64, directory, &buffer, sizeof(buffer))) > 0) {
        for (long at = 0; at < size;) {
            struct directory_entry *entry = (struct directory_entry *)(void *)(buffer.bytes + at);
            at += entry->size;
            if (!strcmp(entry->name, ".") || !strcmp(entry->name, ".."))
                continue;
            if (unlinkat(directory, entry->name, 0) == 0 || depth == 0)
                continue;
            int inner = openat(directory, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
            if (inner < 0)
                continue;
            remove_contents(inner, depth - 1);
            close(inner);
            unlinkat(directory, entry->name, AT_REMOVEDIR);
        }
    }
}

/* A process that was killed cannot tidy up: its daemon does. A daemon has few levels of directories. */
static void remove_directory(void)
{
    int directory = open(machine_directory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (directory < 0)
        return;
    remove_contents(directory, 4);
    close(directory);
    rmdir(machine_directory);
}

void machine_end_orphaned(void)
{
    remove_directory();
    _exit(0);
}

static void on_end(int number)
{
    (void)number;
    machine_end_orphaned();
}

/*
 * The kernel closes the files of a process before it tells the children, so a daemon may first see its event socket end,
 * take that for a fatal error, and exit. POLLHUP tells so even if there are messages left to read.
 */
static void leave_machine(void)
{
    struct pollfd events = {.fd = machine_events_fd, .events = POLLIN};
    if (is_daemon && poll(&events, 1, 0) == 1 && (events.revents & (POLLHUP | POLLERR)))
        remove_directory();
}

/* A daemon that was serving still has its connections: last to be registered is first to be called at exit. */
void machine_ready(void)
{
    atexit(leave_machine);
    machine_send(MESSAGE_READY);
}

__attribute__((destructor)) static void leave_machine_early(void)
{
    leave_machine();
}

static void fail(const char *what)
{
    fprintf(stderr, "xen-preload: %s: %s\n", what, strerror(errno));
    _exit(1);
}

/*
 * The kernel sends the signal when the process that started the daemon is gone, or its thread that did, a worker of Node.js
 * for instance. That process uses it too, to end the daemon: if it is killed meanwhile, the directory goes all the same.
 */
static void end_with_parent(pid_t parent)
{
    struct sigaction action = {.sa_handler = on_end};
    if (sigaction(END_SIGNAL, &action, NULL) == -1 || prctl(PR_SET_PDEATHSIG, END_SIGNAL) == -1)
        fail("cannot follow the parent process");
    if (getppid() != parent)
        machine_end_orphaned();
}

/* Before the constructors of other preloaded objects would matter: the daemon opens nothing before main(). */
__attribute__((constructor)) static void join_machine(void)
{
    const char *directory = getenv("XEN_PRELOAD_DIRECTORY");
    const char *events = getenv("XEN_PRELOAD_EVENTS_FD");
    const char *parent = getenv("XEN_PRELOAD_PARENT");
    const char *daemon = getenv("XEN_PRELOAD_DAEMON");
    char path[4096], self[32];

    if (!directory || !events || !parent)
        return;

    snprintf(path, sizeof(path), "%s/machine", directory);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        fail(path);
    struct machine *mapped = mmap(NULL, sizeof(*mapped), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped == MAP_FAILED || mapped->magic != MACHINE_MAGIC) {
        errno = EINVAL;
        fail(path);
    }
    /* Copied: a daemon may rewrite its environment. */
    machine_directory = strdup(directory);
    machine_events_fd = atoi(events);
    machine = mapped;

    /* What the daemon starts itself, the check before a live update for instance, lives as long as the daemon likes. */
    snprintf(self, sizeof(self), "%d", (int)getpid());
    if (daemon && strcmp(daemon, self) != 0)
        return;
    setenv("XEN_PRELOAD_DAEMON", self, 1);
    is_daemon = true;
    end_with_parent((pid_t)atoi(parent));
}
