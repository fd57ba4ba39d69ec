/* libxenevtchn: a pending bit in the machine for each end of a channel, and a message when one becomes set. */
#include "machine.h"

#include <errno.h>
#include <sys/socket.h>

#define VIRQ_DOM_EXC 3 /* xen/include/public/xen.h */

EXPORT void *xenevtchn_open(void *logger, unsigned int flags)
{
    (void)logger, (void)flags;
    return machine_handle();
}

/* After a live update: what is bound stands in the machine, so nothing is to be restored. */
EXPORT void *xenevtchn_fdopen(void *logger, int fd, unsigned int flags)
{
    (void)logger, (void)fd, (void)flags;
    return machine_handle();
}

EXPORT int xenevtchn_close(void *xce)
{
    (void)xce;
    return 0;
}

/* Both daemons ask for it right before they first wait: by then they serve, and not earlier. */
EXPORT int xenevtchn_fd(void *xce)
{
    static bool is_ready;

    (void)xce;
    if (!machine) {
        errno = ENODEV;
        return -1;
    }
    if (!is_ready) {
        is_ready = true;
        machine_ready();
    }
    return machine_events_fd;
}

static struct channel *bound_channel(uint32_t port)
{
    if (machine && port < MACHINE_CHANNEL_COUNT && __atomic_load_n(&machine->channels[port].bound, __ATOMIC_ACQUIRE))
        return &machine->channels[port];
    errno = EINVAL;
    return NULL;
}

EXPORT int xenevtchn_bind_virq(void *xce, unsigned int virq)
{
    (void)xce;
    if (!machine || virq != VIRQ_DOM_EXC) {
        errno = EINVAL;
        return -1;
    }
    __atomic_store_n(&machine->channels[CHANNEL_VIRQ_DOM_EXC].bound, 1, __ATOMIC_RELEASE);
    return CHANNEL_VIRQ_DOM_EXC;
}

EXPORT int xenevtchn_bind_interdomain(void *xce, uint32_t domid, uint32_t remote_port)
{
    struct channel *channel;

    (void)xce;
    if (!machine_domain(domid)) {
        errno = ESRCH;
        return -1;
    }
    channel = remote_port < MACHINE_CHANNEL_COUNT ? &machine->channels[remote_port] : NULL;
    if (!channel || __atomic_load_n(&channel->owner, __ATOMIC_ACQUIRE) != domid + 1 || channel->bound) {
        errno = EINVAL;
        return -1;
    }
    channel->pending_at_daemon = 0;
    __atomic_store_n(&channel->bound, 1, __ATOMIC_RELEASE);
    /* An event may have been lost while the channel was unbound; Xen sends one too (evtchn_bind_interdomain). */
    machine_send(MESSAGE_BOUND | remote_port);
    return (int)remote_port;
}

EXPORT int xenevtchn_unbind(void *xce, uint32_t port)
{
    struct channel *channel = bound_channel(port);

    (void)xce;
    if (!channel)
        return -1;
    __atomic_store_n(&channel->bound, 0, __ATOMIC_RELEASE);
    return 0;
}

EXPORT int xenevtchn_notify(void *xce, uint32_t port)
{
    struct channel *channel = bound_channel(port);

    (void)xce;
    if (!channel)
        return -1;
    /* The far end of a domain that is gone: Xen drops the event without an error. */
    if (__atomic_load_n(&channel->owner, __ATOMIC_ACQUIRE) &&
        !__atomic_exchange_n(&channel->pending_at_domain, 1, __ATOMIC_ACQ_REL))
        machine_send(port);
    return 0;
}

EXPORT int xenevtchn_pending(void *xce)
{
    uint32_t port;
    int flags = MSG_WAITALL;

    (void)xce;
    for (;;) {
        ssize_t size = recv(machine_events_fd, &port, sizeof(port), flags);
        if (size != sizeof(port)) {
            /* Nothing but events of channels that were unbound meanwhile; the last of them will do. */
            if (size == -1 && (errno == EAGAIN || errno == EWOULDBLOCK) && (flags & MSG_DONTWAIT))
                return (int)port;
            if (size == -1 && errno == EINTR)
                continue;
            /* A Unix socket that is closed before all was read from it resets the connection instead of ending it. */
            if (size == 0 || (size == -1 && errno == ECONNRESET))
                machine_end_orphaned();
            return -1;
        }
        if (port >= MACHINE_CHANNEL_COUNT)
            continue;
        /* Cleared before the daemon looks at the ring: what comes later makes a new event. */
        __atomic_store_n(&machine->channels[port].pending_at_daemon, 0, __ATOMIC_SEQ_CST);
        if (bound_channel(port))
            return (int)port;
        flags = MSG_DONTWAIT;
    }
}

/* Linux masks a port from its event until this; the pending bit does the same here. */
EXPORT int xenevtchn_unmask(void *xce, uint32_t port)
{
    (void)xce, (void)port;
    return 0;
}
