/*
 * Which domains exist, as libxenctrl tells it, and since Xen 4.20 libxenmanage; and the ring page as oxenstored maps it.
 * Errors are those of the libraries on Linux: -1 or NULL, and errno.
 */
#include "machine.h"

#include <errno.h>
#include <string.h>

/* tools/include/xenctrl.h (4.17) xc_dominfo_t, 112 bytes; the daemons read these members. */
struct domain_info {
    uint32_t domid;
    uint32_t ssidref;
    unsigned int dying : 1, crashed : 1, shutdown : 1, paused : 1, blocked : 1, running : 1;
    uint32_t rest[25];
};
_Static_assert(sizeof(struct domain_info) == 112, "xc_dominfo_t");

/* xen/include/public/domctl.h struct xen_domctl_getdomaininfo, 112 bytes on x86. */
struct domain_info_hypercall {
    uint16_t domain;
    uint16_t pad;
    uint32_t flags;
    uint64_t rest[13];
};
_Static_assert(sizeof(struct domain_info_hypercall) == 112, "xen_domctl_getdomaininfo");
#define XEN_DOMINF_shutdown (1u << 2)
#define XEN_DOMINF_running (1u << 5)

struct last_error {
    uint32_t code;
    char message[1024];
};

EXPORT void *xc_interface_open(void *logger, void *dombuild_logger, unsigned int flags)
{
    (void)logger, (void)dombuild_logger, (void)flags;
    return machine_handle();
}

EXPORT int xc_interface_close(void *xch)
{
    (void)xch;
    return 0;
}

/* The first domain from `domid` on, as the hypercall answers; false when there is none. */
static bool find_domain(uint32_t *domid, uint32_t *state)
{
    for (; *domid < MACHINE_DOMAIN_COUNT; ++*domid) {
        *state = machine_domain(*domid);
        if (*state)
            return true;
    }
    return false;
}

EXPORT int xc_domain_getinfo(void *xch, uint32_t domid, unsigned int count, struct domain_info *info)
{
    unsigned int found = 0;
    uint32_t state;

    (void)xch;
    for (; found < count && find_domain(&domid, &state); ++domid, ++found) {
        memset(&info[found], 0, sizeof(info[found]));
        info[found].domid = domid;
        info[found].shutdown = (state & DOMAIN_SHUTDOWN) != 0;
        info[found].running = !info[found].shutdown;
    }
    return (int)found;
}

EXPORT int xc_domain_getinfolist(void *xch, uint32_t domid, unsigned int count, struct domain_info_hypercall *info)
{
    unsigned int found = 0;
    uint32_t state;

    (void)xch;
    for (; found < count && find_domain(&domid, &state); ++domid, ++found) {
        memset(&info[found], 0, sizeof(info[found]));
        info[found].domain = (uint16_t)domid;
        info[found].flags = state & DOMAIN_SHUTDOWN ? XEN_DOMINF_shutdown : XEN_DOMINF_running;
    }
    return (int)found;
}

/* Since Xen 4.18. */
EXPORT int xc_domain_getinfo_single(void *xch, uint32_t domid, struct domain_info_hypercall *info)
{
    if (!machine_domain(domid)) {
        errno = ESRCH;
        return -1;
    }
    struct domain_info_hypercall one;
    xc_domain_getinfolist(xch, domid, 1, &one);
    if (info)
        *info = one;
    return 0;
}

EXPORT void *xc_map_foreign_range(void *xch, uint32_t domid, int size, int protection, unsigned long gfn)
{
    (void)xch, (void)gfn; /* a domain has one page here */
    if (size != PAGE_SIZE) {
        errno = EINVAL;
        return NULL;
    }
    return machine_map_ring(domid, protection);
}

/* oxenstored reports failures with these two. */
EXPORT const struct last_error *xc_get_last_error(void *xch)
{
    static const struct last_error none;
    (void)xch;
    return &none;
}

EXPORT const char *xc_error_code_to_desc(int code)
{
    (void)code;
    return "No error details";
}

#define XENMANAGE_GETDOMSTATE_STATE_EXIST 0x0001u /* tools/include/xenmanage.h */
#define XENMANAGE_GETDOMSTATE_STATE_SHUTDOWN 0x0002u
#define XENMANAGE_GETDOMSTATE_CAP_ALL 0x0007u /* control, hardware and xenstore domain */

/* What was last told of each domain. Empty after a live update, when the daemon discards what it is told first. */
static uint32_t told[MACHINE_DOMAIN_COUNT];

EXPORT void *xenmanage_open(void *logger, unsigned int flags)
{
    (void)logger, (void)flags;
    if (machine)
        __atomic_fetch_or(&machine->options, MACHINE_POLLS_CHANGES, __ATOMIC_RELEASE);
    return machine_handle();
}

EXPORT int xenmanage_close(void *xmh)
{
    (void)xmh;
    return 0;
}

static void tell_state(uint32_t domid, uint32_t word, unsigned int *state, unsigned int *caps, uint64_t *unique_id)
{
    if (state) {
        *state = word & DOMAIN_EXISTS ? XENMANAGE_GETDOMSTATE_STATE_EXIST : 0;
        if (word & DOMAIN_SHUTDOWN)
            *state |= XENMANAGE_GETDOMSTATE_STATE_SHUTDOWN;
    }
    if (caps)
        *caps = domid == 0 ? XENMANAGE_GETDOMSTATE_CAP_ALL : 0;
    if (unique_id)
        *unique_id = word >> DOMAIN_INCARNATION_SHIFT;
}

EXPORT int xenmanage_get_domain_info(void *xmh, unsigned int domid, unsigned int *state, unsigned int *caps,
                                     uint64_t *unique_id)
{
    uint32_t word = machine_domain(domid);

    (void)xmh;
    if (!word) {
        errno = ENOENT;
        return -1;
    }
    tell_state(domid, word, state, caps, unique_id);
    return 0;
}

EXPORT int xenmanage_poll_changed_domain(void *xmh, unsigned int *domid, unsigned int *state, unsigned int *caps,
                                         uint64_t *unique_id)
{
    (void)xmh;
    for (uint32_t each = 0; machine && each < MACHINE_DOMAIN_COUNT; ++each) {
        uint32_t word = __atomic_load_n(&machine->domains[each], __ATOMIC_ACQUIRE);
        if (word == told[each])
            continue;
        told[each] = word;
        *domid = each;
        tell_state(each, word & DOMAIN_EXISTS ? word : 0, state, caps, unique_id);
        return 0;
    }
    errno = ENOENT;
    return -1;
}
