/* libxengnttab: the ring page is grant 1 of every domain. */
#include "machine.h"

#include <errno.h>
#include <sys/mman.h>

#define GNTTAB_RESERVED_XENSTORE 1 /* xen/include/public/grant_table.h */

EXPORT void *xengnttab_open(void *logger, unsigned int flags)
{
    (void)logger, (void)flags;
    return machine_handle();
}

EXPORT int xengnttab_close(void *xgt)
{
    (void)xgt;
    return 0;
}

EXPORT int xengnttab_set_max_grants(void *xgt, uint32_t count)
{
    (void)xgt, (void)count;
    return 0;
}

EXPORT void *xengnttab_map_grant_ref(void *xgt, uint32_t domid, uint32_t ref, int protection)
{
    (void)xgt;
    if (ref != GNTTAB_RESERVED_XENSTORE) {
        errno = EINVAL;
        return NULL;
    }
    return machine_map_ring(domid, protection);
}

EXPORT int xengnttab_unmap(void *xgt, void *start, uint32_t count)
{
    (void)xgt;
    return munmap(start, (size_t)count * PAGE_SIZE);
}
