/* What Debian's libxen-dev says. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xen/xen.h>
#include <xen/errno.h>
#include <xen/event_channel.h>
#include <xen/grant_table.h>
#include <xen/io/xs_wire.h>
#include <xen/io/xenbus.h>
#include <xen/hvm/ioreq.h>

#include "emit.h"

/* Where the compiler puts a bit-field: the byte's offset times 256, plus its mask within that byte. */
#define BITS(type, field, ones)                                                                                        \
    do {                                                                                                               \
        type probe;                                                                                                    \
        memset(&probe, 0, sizeof(probe));                                                                              \
        probe.field = (ones);                                                                                          \
        for (size_t at = 0; at < sizeof(probe); at++) {                                                                \
            unsigned char byte = ((unsigned char *)&probe)[at];                                                        \
            if (byte != 0) item(#field, (long long)(at * 256 + byte));                                                 \
        }                                                                                                              \
    } while (0)

static void xen_errno_h(void)
{
    HEADER_FIRST("xen/errno.h");
    CONSTANTS();
    K(XEN_EPERM);
    K(XEN_ENOENT);
    K(XEN_ESRCH);
    K(XEN_EIO);
    K(XEN_ENXIO);
    K(XEN_E2BIG);
    K(XEN_ENOEXEC);
    K(XEN_EBADF);
    K(XEN_ECHILD);
    K(XEN_EAGAIN);
    K(XEN_ENOMEM);
    K(XEN_EACCES);
    K(XEN_EFAULT);
    K(XEN_EBUSY);
    K(XEN_EEXIST);
    K(XEN_EXDEV);
    K(XEN_ENODEV);
    K(XEN_ENOTDIR);
    K(XEN_EISDIR);
    K(XEN_EINVAL);
    K(XEN_ENFILE);
    K(XEN_EMFILE);
    K(XEN_ENOSPC);
    K(XEN_EROFS);
    K(XEN_EMLINK);
    K(XEN_EDOM);
    K(XEN_ERANGE);
    K(XEN_EDEADLK);
    K(XEN_ENAMETOOLONG);
    K(XEN_ENOLCK);
    K(XEN_ENOSYS);
    K(XEN_ENOTEMPTY);
    K(XEN_ENODATA);
    K(XEN_ETIME);
    K(XEN_EBADMSG);
    K(XEN_EOVERFLOW);
    K(XEN_EILSEQ);
    K(XEN_ENOTSOCK);
    K(XEN_EMSGSIZE);
    K(XEN_EOPNOTSUPP);
    K(XEN_EADDRINUSE);
    K(XEN_EADDRNOTAVAIL);
    K(XEN_ENOBUFS);
    K(XEN_EISCONN);
    K(XEN_ENOTCONN);
    K(XEN_ETIMEDOUT);
    K(XEN_ECONNREFUSED);
    END_CONSTANTS();
    END_HEADER();
}

static void xen_h(void)
{
    HEADER("xen/xen.h");
    CONSTANTS();
    K(DOMID_FIRST_RESERVED);
    K(DOMID_SELF);
    K(DOMID_IO);
    K(DOMID_XEN);
    K(DOMID_COW);
    K(DOMID_INVALID);
    K(DOMID_IDLE);
    K(DOMID_MASK);
    K(XEN_LEGACY_MAX_VCPUS);
    K(__HYPERVISOR_grant_table_op);
    K(__HYPERVISOR_event_channel_op);
    K(VIRQ_TIMER);
    K(VIRQ_DEBUG);
    K(VIRQ_CONSOLE);
    K(VIRQ_DOM_EXC);
    K(VIRQ_TBUF);
    K(VIRQ_DEBUGGER);
    K(VIRQ_XENOPROF);
    K(VIRQ_CON_RING);
    K(VIRQ_PCPU_STATE);
    K(VIRQ_MEM_EVENT);
    K(VIRQ_ARGO);
    K(VIRQ_ENOMEM);
    K(VIRQ_XENPMU);
    K(VIRQ_ARCH_0);
    K(NR_VIRQS);
    END_CONSTANTS();
    STRUCTS();
    STRUCT("vcpu_info", struct vcpu_info);
    F(struct vcpu_info, evtchn_upcall_pending);
    F(struct vcpu_info, evtchn_upcall_mask);
    F(struct vcpu_info, evtchn_pending_sel);
    F(struct vcpu_info, arch);
    F(struct vcpu_info, time.version);
    F(struct vcpu_info, time.pad0);
    F(struct vcpu_info, time.tsc_timestamp);
    F(struct vcpu_info, time.system_time);
    F(struct vcpu_info, time.tsc_to_system_mul);
    F(struct vcpu_info, time.tsc_shift);
    F(struct vcpu_info, time.flags);
    F(struct vcpu_info, time.pad1);
    END_STRUCT();
    STRUCT("shared_info", struct shared_info);
    F(struct shared_info, vcpu_info);
    F(struct shared_info, evtchn_pending);
    F(struct shared_info, evtchn_mask);
    F(struct shared_info, wc_version);
    F(struct shared_info, wc_sec);
    F(struct shared_info, wc_nsec);
    F(struct shared_info, wc_sec_hi);
    F(struct shared_info, arch);
    END_STRUCT();
    END_STRUCTS();
    END_HEADER();
}

static void event_channel_h(void)
{
    HEADER("xen/event_channel.h");
    CONSTANTS();
    K(EVTCHNOP_bind_interdomain);
    K(EVTCHNOP_bind_virq);
    K(EVTCHNOP_bind_pirq);
    K(EVTCHNOP_close);
    K(EVTCHNOP_send);
    K(EVTCHNOP_status);
    K(EVTCHNOP_alloc_unbound);
    K(EVTCHNOP_bind_ipi);
    K(EVTCHNOP_bind_vcpu);
    K(EVTCHNOP_unmask);
    K(EVTCHNOP_reset);
    K(EVTCHNOP_init_control);
    K(EVTCHNOP_expand_array);
    K(EVTCHNOP_set_priority);
    K(BIND_PIRQ__WILL_SHARE);
    K(EVTCHNSTAT_closed);
    K(EVTCHNSTAT_unbound);
    K(EVTCHNSTAT_interdomain);
    K(EVTCHNSTAT_pirq);
    K(EVTCHNSTAT_virq);
    K(EVTCHNSTAT_ipi);
    K(EVTCHN_2L_NR_CHANNELS);
    K(EVTCHN_FIFO_PRIORITY_MAX);
    K(EVTCHN_FIFO_PRIORITY_DEFAULT);
    K(EVTCHN_FIFO_PRIORITY_MIN);
    K(EVTCHN_FIFO_MAX_QUEUES);
    K(EVTCHN_FIFO_PENDING);
    K(EVTCHN_FIFO_MASKED);
    K(EVTCHN_FIFO_LINKED);
    K(EVTCHN_FIFO_BUSY);
    K(EVTCHN_FIFO_LINK_BITS);
    K(EVTCHN_FIFO_LINK_MASK);
    K(EVTCHN_FIFO_NR_CHANNELS);
    END_CONSTANTS();
    STRUCTS();
    STRUCT("evtchn_alloc_unbound", struct evtchn_alloc_unbound);
    F(struct evtchn_alloc_unbound, dom);
    F(struct evtchn_alloc_unbound, remote_dom);
    F(struct evtchn_alloc_unbound, port);
    END_STRUCT();
    STRUCT("evtchn_bind_interdomain", struct evtchn_bind_interdomain);
    F(struct evtchn_bind_interdomain, remote_dom);
    F(struct evtchn_bind_interdomain, remote_port);
    F(struct evtchn_bind_interdomain, local_port);
    END_STRUCT();
    STRUCT("evtchn_bind_virq", struct evtchn_bind_virq);
    F(struct evtchn_bind_virq, virq);
    F(struct evtchn_bind_virq, vcpu);
    F(struct evtchn_bind_virq, port);
    END_STRUCT();
    STRUCT("evtchn_bind_ipi", struct evtchn_bind_ipi);
    F(struct evtchn_bind_ipi, vcpu);
    F(struct evtchn_bind_ipi, port);
    END_STRUCT();
    STRUCT("evtchn_status", struct evtchn_status);
    F(struct evtchn_status, dom);
    F(struct evtchn_status, port);
    F(struct evtchn_status, status);
    F(struct evtchn_status, vcpu);
    F(struct evtchn_status, u);
    F(struct evtchn_status, u.interdomain.port);
    END_STRUCT();
    STRUCT("evtchn_init_control", struct evtchn_init_control);
    F(struct evtchn_init_control, control_gfn);
    F(struct evtchn_init_control, offset);
    F(struct evtchn_init_control, vcpu);
    F(struct evtchn_init_control, link_bits);
    F(struct evtchn_init_control, _pad);
    END_STRUCT();
    STRUCT("evtchn_set_priority", struct evtchn_set_priority);
    F(struct evtchn_set_priority, port);
    F(struct evtchn_set_priority, priority);
    END_STRUCT();
    STRUCT("evtchn_fifo_control_block", struct evtchn_fifo_control_block);
    F(struct evtchn_fifo_control_block, ready);
    F(struct evtchn_fifo_control_block, _rsvd);
    F(struct evtchn_fifo_control_block, head);
    END_STRUCT();
    END_STRUCTS();
    END_HEADER();
}

static void grant_table_h(void)
{
    HEADER("xen/grant_table.h");
    CONSTANTS();
    K(GNTTAB_NR_RESERVED_ENTRIES);
    K(GNTTAB_RESERVED_CONSOLE);
    K(GNTTAB_RESERVED_XENSTORE);
    K(GTF_invalid);
    K(GTF_permit_access);
    K(GTF_accept_transfer);
    K(GTF_transitive);
    K(GTF_type_mask);
    K(GTF_readonly);
    K(GTF_reading);
    K(GTF_writing);
    K(GTF_PWT);
    K(GTF_PCD);
    K(GTF_PAT);
    K(GTF_sub_page);
    K(GTF_transfer_committed);
    K(GTF_transfer_completed);
    K(GNTTABOP_map_grant_ref);
    K(GNTTABOP_unmap_grant_ref);
    K(GNTTABOP_setup_table);
    K(GNTTABOP_dump_table);
    K(GNTTABOP_transfer);
    K(GNTTABOP_copy);
    K(GNTTABOP_query_size);
    K(GNTTABOP_unmap_and_replace);
    K(GNTTABOP_set_version);
    K(GNTTABOP_get_status_frames);
    K(GNTTABOP_get_version);
    K(GNTTABOP_swap_grant_ref);
    K(GNTTABOP_cache_flush);
    K(GNTCOPY_source_gref);
    K(GNTCOPY_dest_gref);
    K(GNTMAP_device_map);
    K(GNTMAP_host_map);
    K(GNTMAP_readonly);
    K(GNTMAP_application_map);
    K(GNTMAP_contains_pte);
    K(GNTMAP_guest_avail_mask);
    K(GNTST_okay);
    K(GNTST_general_error);
    K(GNTST_bad_domain);
    K(GNTST_bad_gntref);
    K(GNTST_bad_handle);
    K(GNTST_bad_virt_addr);
    K(GNTST_bad_dev_addr);
    K(GNTST_no_device_space);
    K(GNTST_permission_denied);
    K(GNTST_bad_page);
    K(GNTST_bad_copy_arg);
    K(GNTST_address_too_big);
    K(GNTST_eagain);
    K(GNTST_no_space);
    item("sizeof(grant_status_t)", sizeof(grant_status_t));
    END_CONSTANTS();
    STRUCTS();
    STRUCT("grant_entry_v1", struct grant_entry_v1);
    F(struct grant_entry_v1, flags);
    F(struct grant_entry_v1, domid);
    F(struct grant_entry_v1, frame);
    END_STRUCT();
    STRUCT("grant_entry_v2", union grant_entry_v2);
    F(union grant_entry_v2, hdr.flags);
    F(union grant_entry_v2, hdr.domid);
    F(union grant_entry_v2, full_page.pad0);
    F(union grant_entry_v2, full_page.frame);
    F(union grant_entry_v2, sub_page.page_off);
    F(union grant_entry_v2, sub_page.length);
    F(union grant_entry_v2, sub_page.frame);
    F(union grant_entry_v2, transitive.trans_domid);
    F(union grant_entry_v2, transitive.pad0);
    F(union grant_entry_v2, transitive.gref);
    END_STRUCT();
    STRUCT("gnttab_map_grant_ref", struct gnttab_map_grant_ref);
    F(struct gnttab_map_grant_ref, host_addr);
    F(struct gnttab_map_grant_ref, flags);
    F(struct gnttab_map_grant_ref, ref);
    F(struct gnttab_map_grant_ref, dom);
    F(struct gnttab_map_grant_ref, status);
    F(struct gnttab_map_grant_ref, handle);
    F(struct gnttab_map_grant_ref, dev_bus_addr);
    END_STRUCT();
    STRUCT("gnttab_unmap_grant_ref", struct gnttab_unmap_grant_ref);
    F(struct gnttab_unmap_grant_ref, host_addr);
    F(struct gnttab_unmap_grant_ref, dev_bus_addr);
    F(struct gnttab_unmap_grant_ref, handle);
    F(struct gnttab_unmap_grant_ref, status);
    END_STRUCT();
    STRUCT("gnttab_copy", struct gnttab_copy);
    F(struct gnttab_copy, source.u);
    F(struct gnttab_copy, source.domid);
    F(struct gnttab_copy, source.offset);
    F(struct gnttab_copy, dest.u);
    F(struct gnttab_copy, dest.domid);
    F(struct gnttab_copy, dest.offset);
    F(struct gnttab_copy, len);
    F(struct gnttab_copy, flags);
    F(struct gnttab_copy, status);
    END_STRUCT();
    STRUCT("gnttab_query_size", struct gnttab_query_size);
    F(struct gnttab_query_size, dom);
    F(struct gnttab_query_size, nr_frames);
    F(struct gnttab_query_size, max_nr_frames);
    F(struct gnttab_query_size, status);
    END_STRUCT();
    STRUCT("gnttab_set_version", struct gnttab_set_version);
    F(struct gnttab_set_version, version);
    END_STRUCT();
    END_STRUCTS();
    END_HEADER();
}

static void xs_wire_h(void)
{
    HEADER("xen/io/xs_wire.h");
    CONSTANTS();
    K(XS_CONTROL);
    K(XS_DIRECTORY);
    K(XS_READ);
    K(XS_GET_PERMS);
    K(XS_WATCH);
    K(XS_UNWATCH);
    K(XS_TRANSACTION_START);
    K(XS_TRANSACTION_END);
    K(XS_INTRODUCE);
    K(XS_RELEASE);
    K(XS_GET_DOMAIN_PATH);
    K(XS_WRITE);
    K(XS_MKDIR);
    K(XS_RM);
    K(XS_SET_PERMS);
    K(XS_WATCH_EVENT);
    K(XS_ERROR);
    K(XS_IS_DOMAIN_INTRODUCED);
    K(XS_RESUME);
    K(XS_SET_TARGET);
    K(XS_RESET_WATCHES);
    K(XS_DIRECTORY_PART);
    K(XS_INVALID);
    K(XS_WATCH_PATH);
    K(XS_WATCH_TOKEN);
    K(XENSTORE_RING_SIZE);
    K(XENSTORE_PAYLOAD_MAX);
    K(XENSTORE_ABS_PATH_MAX);
    K(XENSTORE_REL_PATH_MAX);
    K(XENSTORE_SERVER_FEATURE_RECONNECTION);
    K(XENSTORE_SERVER_FEATURE_ERROR);
    K(XENSTORE_CONNECTED);
    K(XENSTORE_RECONNECT);
    K(XENSTORE_ERROR_NONE);
    K(XENSTORE_ERROR_COMM);
    K(XENSTORE_ERROR_RINGIDX);
    K(XENSTORE_ERROR_PROTO);
    END_CONSTANTS();
    STRUCTS();
    STRUCT("xsd_sockmsg", struct xsd_sockmsg);
    F(struct xsd_sockmsg, type);
    F(struct xsd_sockmsg, req_id);
    F(struct xsd_sockmsg, tx_id);
    F(struct xsd_sockmsg, len);
    END_STRUCT();
    STRUCT("xenstore_domain_interface", struct xenstore_domain_interface);
    F(struct xenstore_domain_interface, req);
    F(struct xenstore_domain_interface, rsp);
    F(struct xenstore_domain_interface, req_cons);
    F(struct xenstore_domain_interface, req_prod);
    F(struct xenstore_domain_interface, rsp_cons);
    F(struct xenstore_domain_interface, rsp_prod);
    F(struct xenstore_domain_interface, server_features);
    F(struct xenstore_domain_interface, connection);
    F(struct xenstore_domain_interface, error);
    END_STRUCT();
    END_STRUCTS();
    open_section("xsd_errors");
    for (size_t i = 0; i < sizeof(xsd_errors) / sizeof(xsd_errors[0]); i++) {
        item(xsd_errors[i].errstring, (long long)i);
    }
    close_section();
    END_HEADER();
}

static void xenbus_h(void)
{
    HEADER("xen/io/xenbus.h");
    CONSTANTS();
    K(XenbusStateUnknown);
    K(XenbusStateInitialising);
    K(XenbusStateInitWait);
    K(XenbusStateInitialised);
    K(XenbusStateConnected);
    K(XenbusStateClosing);
    K(XenbusStateClosed);
    K(XenbusStateReconfiguring);
    K(XenbusStateReconfigured);
    END_CONSTANTS();
    END_HEADER();
}

static void ioreq_h(void)
{
    HEADER("xen/hvm/ioreq.h");
    CONSTANTS();
    K(IOREQ_READ);
    K(IOREQ_WRITE);
    K(STATE_IOREQ_NONE);
    K(STATE_IOREQ_READY);
    K(STATE_IOREQ_INPROCESS);
    K(STATE_IORESP_READY);
    K(IOREQ_TYPE_PIO);
    K(IOREQ_TYPE_COPY);
    K(IOREQ_TYPE_PCI_CONFIG);
    K(IOREQ_TYPE_TIMEOFFSET);
    K(IOREQ_TYPE_INVALIDATE);
    END_CONSTANTS();
    STRUCTS();
    STRUCT("ioreq", struct ioreq);
    F(struct ioreq, addr);
    F(struct ioreq, data);
    F(struct ioreq, count);
    F(struct ioreq, size);
    F(struct ioreq, vp_eport);
    F(struct ioreq, _pad0);
    F(struct ioreq, type);
    END_STRUCT();
    END_STRUCTS();
    open_section("bit_fields");
    BITS(struct ioreq, state, 15);
    BITS(struct ioreq, data_is_ptr, 1);
    BITS(struct ioreq, dir, 1);
    BITS(struct ioreq, df, 1);
    close_section();
    END_HEADER();
}

int main(void)
{
    printf("{");
    xen_errno_h();
    xen_h();
    event_channel_h();
    grant_table_h();
    xs_wire_h();
    xenbus_h();
    ioreq_h();
    printf("\n}\n");
    return 0;
}
