/*
 * The machine without a hypervisor, as the process that started the daemon and this library share it: one file of
 * words, mapped here and accessed there by reads and writes of single words, and one socket for events.
 * src/machine.ts has the same layout.
 */
#ifndef XEN_PRELOAD_MACHINE_H
#define XEN_PRELOAD_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MACHINE_MAGIC 0x314e4558u /* "XEN1" */
#define MACHINE_DOMAIN_COUNT 0x8000u /* all domids below DOMID_FIRST_RESERVED (0x7ff0) and the reserved ones */
#define MACHINE_CHANNEL_COUNT 0x10000u

/* machine->options: the daemon asks which domains changed (libxenmanage), so their creation is an event too. */
#define MACHINE_POLLS_CHANGES 1u

/* machine->domains[domid]: flags below bit 8, above them a number that no two domains share. */
#define DOMAIN_EXISTS 1u
#define DOMAIN_SHUTDOWN 2u
#define DOMAIN_FLAGS 0xffu
#define DOMAIN_INCARNATION_SHIFT 8

/*
 * An event channel has one number at both of its ends. Each end has a pending bit, as in Xen: an event that is already
 * pending is not sent again, so the socket never holds more than one message for each end of each channel.
 */
struct channel {
    uint32_t owner; /* 0: nobody offers it; else 1 + the domid that does */
    uint32_t bound; /* the daemon holds its end */
    uint32_t pending_at_daemon;
    uint32_t pending_at_domain;
};

#define CHANNEL_VIRQ_DOM_EXC 1u /* VIRQ_DOM_EXC comes on it; 0 is no port in Xen */

struct machine {
    uint32_t magic;
    uint32_t options;
    uint8_t unused[4096 - 2 * sizeof(uint32_t)];
    uint32_t domains[MACHINE_DOMAIN_COUNT];
    struct channel channels[MACHINE_CHANNEL_COUNT];
};

/* Messages of the socket are words. To the daemon: a channel. From it: a channel, one of these bits, or ready. */
#define MESSAGE_READY 0u
#define MESSAGE_BOUND 0x80000000u /* send an event on this channel: it was bound */

/*
 * What the daemons call. Symbols without a version satisfy the versioned references that they were linked with; parameters
 * have the types of Xen's headers (tools/include), handles being pointers that nobody looks behind.
 */
#define EXPORT __attribute__((visibility("default")))
#define PAGE_SIZE 4096

/* NULL outside of a process that was started for it: then nothing is replaced but the Xen libraries, which fail. */
extern struct machine *machine;
extern int machine_events_fd;
extern const char *machine_directory;

/* For whichever library; NULL with errno ENODEV without a machine. */
void *machine_handle(void);

/* The flags and incarnation of a domain, read once; 0 when it does not exist. */
uint32_t machine_domain(uint32_t domid);

/* Sends one word to the process that started the daemon. */
void machine_send(uint32_t message);

/* The daemon serves: tells the process that started it. */
void machine_ready(void);

/* The process that started this one is gone: removes the directory and ends. Safe in a signal handler. */
__attribute__((noreturn)) void machine_end_orphaned(void);

/* Maps the ring page of a domain; NULL with errno EINVAL when there is none. */
void *machine_map_ring(uint32_t domid, int protection);

#endif
