/*
 * Paths that are compiled into the daemons lead into the directory of the one that was started, so that several run
 * side by side, without root, and the files of a real Xen are never touched. Also the resource limit of oxenstored.
 */
#define _GNU_SOURCE
#include "machine.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define PATH_SIZE 4096

static const struct {
    const char *prefix, *name;
} places[] = {
    {"/var/run/xenstored", "run"}, {"/run/xenstored", "run"},       {"/var/lib/xenstored", "lib"},
    {"/var/run/xen", "run"},       {"/run/xen", "run"},             {"/var/lib/xen", "lib"},
    {"/var/log/xen", "log"},       {"/proc/xen/xsd_port", "port"},  {"/proc/xen/xsd_kva", "ring-0"},
};

static const char *redirect(const char *path, char *buffer)
{
    if (!machine || !path || *path != '/')
        return path;
    for (size_t each = 0; each < sizeof(places) / sizeof(places[0]); ++each) {
        size_t size = strlen(places[each].prefix);
        if (strncmp(path, places[each].prefix, size) == 0 && (path[size] == '/' || path[size] == '\0')) {
            snprintf(buffer, PATH_SIZE, "%s/%s%s", machine_directory, places[each].name, path + size);
            return buffer;
        }
    }
    return path;
}

/* The log of oxenstored joins its standard error, which it hardly uses, and needs no file that grows. */
static bool is_log(const char *path)
{
    return machine && path && strcmp(path, "/var/log/xen/xenstored.log") == 0;
}

/* The definition that would have been used without this library. */
#define NEXT(name)                                                  \
    static __typeof__(&name) next;                                  \
    if (!next)                                                      \
        next = (__typeof__(&name))dlsym(RTLD_NEXT, #name);          \
    if (!next) {                                                    \
        errno = ENOSYS;                                             \
        return 0; /* never: each of them is in the C library */     \
    }

/* A function whose first argument is a path. */
#define REDIRECTED(type, name, parameters, ...)                     \
    EXPORT type name parameters                                     \
    {                                                               \
        char buffer[PATH_SIZE];                                     \
        NEXT(name)                                                  \
        return next(redirect(path, buffer), ##__VA_ARGS__);         \
    }

#define REDIRECTED_OPEN(name)                                       \
    EXPORT int name(const char *path, int flags, ...)               \
    {                                                               \
        char buffer[PATH_SIZE];                                     \
        mode_t mode = 0;                                            \
        NEXT(name)                                                  \
        if (is_log(path))                                           \
            return fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 0);        \
        if (flags & (O_CREAT | O_TMPFILE)) {                        \
            va_list rest;                                           \
            va_start(rest, flags);                                  \
            mode = va_arg(rest, mode_t);                            \
            va_end(rest);                                           \
        }                                                           \
        return next(redirect(path, buffer), flags, mode);           \
    }

REDIRECTED_OPEN(open)
REDIRECTED_OPEN(open64)
REDIRECTED(FILE *, fopen, (const char *path, const char *mode), mode)
REDIRECTED(FILE *, fopen64, (const char *path, const char *mode), mode)
REDIRECTED(int, access, (const char *path, int mode), mode)
REDIRECTED(int, stat, (const char *path, struct stat *status), status)
REDIRECTED(int, stat64, (const char *path, struct stat64 *status), status)
REDIRECTED(int, lstat, (const char *path, struct stat *status), status)
REDIRECTED(int, lstat64, (const char *path, struct stat64 *status), status)
REDIRECTED(int, mkdir, (const char *path, mode_t mode), mode)
REDIRECTED(int, chmod, (const char *path, mode_t mode), mode)
REDIRECTED(int, unlink, (const char *path))

EXPORT int rename(const char *from, const char *to)
{
    char from_buffer[PATH_SIZE], to_buffer[PATH_SIZE];
    NEXT(rename)
    return next(redirect(from, from_buffer), redirect(to, to_buffer));
}

EXPORT int bind(int fd, const struct sockaddr *address, socklen_t size)
{
    char buffer[PATH_SIZE];
    struct sockaddr_un unix_address;
    NEXT(bind)
    if (size > offsetof(struct sockaddr_un, sun_path) && size < sizeof(unix_address) && address->sa_family == AF_UNIX) {
        memset(&unix_address, 0, sizeof(unix_address));
        memcpy(&unix_address, address, size);
        const char *path = redirect(unix_address.sun_path, buffer);
        if (path == buffer) {
            if (strlen(path) >= sizeof(unix_address.sun_path)) {
                errno = ENAMETOOLONG;
                return -1;
            }
            strcpy(unix_address.sun_path, path);
            return next(fd, (const struct sockaddr *)&unix_address, sizeof(unix_address));
        }
    }
    return next(fd, address, size);
}

/* oxenstored wants a million files and gives up without CAP_SYS_RESOURCE; the limit that it has will do. */
EXPORT int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
    NEXT(setrlimit)
    if (machine && resource == RLIMIT_NOFILE)
        return 0;
    return next(resource, limit);
}
