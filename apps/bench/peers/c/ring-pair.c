/*
 * A split virtqueue (VIRTIO 1.4, 2.7) between two processes, as small as it can be: what the benchmark's rings are measured against.
 * The driver is the parent, the device its child; they share anonymous memory and an eventfd for each direction.
 *
 *   ring-pair --count N [--size N] [--batch N] [--outstanding N] [--sleep] [--flags] [--transfer] [--indirect]
 *
 * Buffers of one descriptor whose bytes nobody touches; with --transfer 4 bytes alternately to the device and back, in one to four
 * descriptors. Doorbells, with --sleep, are suppressed by event indices, or with --flags by flags. Nothing that the other side
 * wrote is checked but by --transfer its bytes. Prints one JSON object.
 */
#define _GNU_SOURCE
#include <linux/virtio_ring.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#define PARTS_MAX 4
#define LOOKS_PER_CLOCK 256
#define SPIN_NS 100000
#define NAP_NS 50000
#define PATIENCE_NS 2000000000ull

static unsigned size = 256, count = 1000, batch = 1, outstanding = UINT32_MAX;
static int is_sleeping, is_flags, is_transfer, is_indirect;

struct shared {
	uint64_t kicks __attribute__((aligned(64)));
	uint64_t calls __attribute__((aligned(64)));
	int is_ready __attribute__((aligned(64)));
};

static struct shared *shared;
static struct vring_desc *table, *tables;
static struct vring_avail *avail;
static struct vring_used *used;
static uint32_t *data;
static int kick_fd, call_fd;

#define USED_EVENT (avail->ring[size])
#define AVAIL_EVENT (*(volatile __virtio16 *)&used->ring[size])
#define PUBLISH(word, value) __atomic_store_n(&(word), (value), __ATOMIC_RELEASE)
#define LOOK(word) __atomic_load_n(&(word), __ATOMIC_ACQUIRE)
#define FENCE() __atomic_thread_fence(__ATOMIC_SEQ_CST)

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;
	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void die(const char *why)
{
	fprintf(stderr, "ring-pair: %s\n", why);
	exit(1);
}

/* Looking in vain: naps after a while, gives up after two seconds. */
struct spin {
	unsigned looks;
	uint64_t vain_since, spin_since;
};

static void spin_idle(struct spin *spin)
{
	uint64_t now;

	if (++spin->looks % LOOKS_PER_CLOCK)
		return;
	now = now_ns(CLOCK_MONOTONIC);
	if (!spin->vain_since) {
		spin->vain_since = spin->spin_since = now;
	} else if (now - spin->vain_since > PATIENCE_NS) {
		die("no progress");
	} else if (now - spin->spin_since > SPIN_NS) {
		struct timespec nap = { 0, NAP_NS };
		nanosleep(&nap, NULL);
		spin->spin_since = now_ns(CLOCK_MONOTONIC);
	}
}

static void spin_progress(struct spin *spin)
{
	spin->looks = 0;
	spin->vain_since = 0;
}

static void ring_bell(int fd, uint64_t *counter)
{
	uint64_t one = 1;

	*counter += 1;
	if (write(fd, &one, sizeof one) != sizeof one)
		die("write");
}

static void wait_bell(int fd)
{
	struct pollfd pollfd = { .fd = fd, .events = POLLIN };
	uint64_t value;

	if (poll(&pollfd, 1, PATIENCE_NS / 1000000) != 1)
		die("no doorbell");
	if (read(fd, &value, sizeof value) != sizeof value)
		die("read");
}

/* The driver. */
static uint16_t avail_idx, used_seen, kicked_idx;
static unsigned free_count;
static uint16_t *next_free, *parts_of;
static uint16_t first_free;

static void fill(struct vring_desc *desc, unsigned part, unsigned parts, unsigned number)
{
	/* Each part is a byte, the last one the rest of the four. */
	unsigned slot = number % (size + 1), length = part + 1 < parts ? 1 : 4 - part;

	desc->addr = (uint64_t)(uintptr_t)&data[slot] + (is_transfer ? part : 0);
	desc->len = is_transfer ? length : 4;
	desc->flags = is_transfer && number % 2 == 0 ? 0 : VRING_DESC_F_WRITE;
}

static int add(unsigned number)
{
	static const unsigned char shapes[PARTS_MAX] = { 3, 2, 1, 4 };
	unsigned parts = is_transfer ? shapes[number / 4 % PARTS_MAX] : 1, part;
	int as_table = is_indirect && parts > 1;
	uint16_t head = first_free, at = head;

	if (free_count < (as_table ? 1 : parts))
		return 0;
	if (is_transfer)
		data[number % (size + 1)] = number % 2 ? UINT32_MAX : number;
	if (as_table) {
		struct vring_desc *list = &tables[head * PARTS_MAX];
		for (part = 0; part < parts; part++) {
			fill(&list[part], part, parts, number);
			if (part + 1 < parts) {
				list[part].flags |= VRING_DESC_F_NEXT;
				list[part].next = part + 1;
			}
		}
		table[head].addr = (uint64_t)(uintptr_t)list;
		table[head].len = parts * sizeof *list;
		table[head].flags = VRING_DESC_F_INDIRECT;
		parts = 1;
	} else {
		for (part = 0; part < parts; part++) {
			fill(&table[at], part, parts, number);
			if (part + 1 < parts) {
				table[at].flags |= VRING_DESC_F_NEXT;
				table[at].next = next_free[at];
				at = next_free[at];
			}
		}
	}
	first_free = next_free[at];
	free_count -= parts;
	parts_of[head] = parts;
	avail->ring[avail_idx & (size - 1)] = head;
	avail_idx += 1;
	PUBLISH(avail->idx, avail_idx);
	return 1;
}

static int take_used(uint32_t *length)
{
	struct vring_used_elem *elem;
	uint16_t head, last, part;

	if (LOOK(used->idx) == used_seen)
		return 0;
	elem = &used->ring[used_seen & (size - 1)];
	head = last = elem->id;
	*length = elem->len;
	for (part = 1; part < parts_of[head]; part++)
		last = next_free[last];
	free_count += parts_of[head];
	next_free[last] = first_free;
	first_free = head;
	used_seen += 1;
	return 1;
}

static void kick_if_wanted(void)
{
	int wanted;

	FENCE();
	if (is_flags)
		wanted = !(LOOK(used->flags) & VRING_USED_F_NO_NOTIFY);
	else
		wanted = vring_need_event(AVAIL_EVENT, avail_idx, kicked_idx);
	kicked_idx = avail_idx;
	if (wanted)
		ring_bell(kick_fd, &shared->kicks);
}

static void refuse_calls(void)
{
	if (is_flags)
		PUBLISH(avail->flags, VRING_AVAIL_F_NO_INTERRUPT);
}

static void wait_for_call(void)
{
	if (is_flags)
		PUBLISH(avail->flags, 0);
	else
		PUBLISH(USED_EVENT, used_seen);
	FENCE();
	if (LOOK(used->idx) == used_seen)
		wait_bell(call_fd);
	refuse_calls();
}

static void drive(void)
{
	struct spin spin = { 0 };
	unsigned sent = 0, done = 0, to_kick = batch;
	uint32_t length;

	refuse_calls();
	while (done < count) {
		int moved = 0;

		if (sent < count && sent - done < outstanding && add(sent)) {
			sent += 1;
			moved = 1;
			if (--to_kick == 0) {
				to_kick = batch;
				if (is_sleeping)
					kick_if_wanted();
			}
		}
		while (take_used(&length)) {
			uint32_t word = data[done % (size + 1)];
			if (is_transfer && (length == 4 ? word != done - 1 : length || word != done))
				die("a transfer came back wrong");
			if (!is_transfer && length != 3)
				die("a buffer came back wrong");
			done += 1;
			moved = 1;
			if (!is_transfer)
				break;
		}
		if (moved) {
			spin_progress(&spin);
		} else if (is_sleeping) {
			if (to_kick != batch) {
				to_kick = batch;
				kick_if_wanted();
			}
			wait_for_call();
		} else {
			spin_idle(&spin);
		}
	}
}

/* The device. */
static uint16_t avail_seen, used_idx, called_idx;

static void call_if_wanted(void)
{
	int wanted;

	FENCE();
	if (is_flags)
		wanted = used_idx != called_idx && !(LOOK(avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	else
		wanted = vring_need_event(LOOK(USED_EVENT), used_idx, called_idx);
	called_idx = used_idx;
	if (wanted)
		ring_bell(call_fd, &shared->calls);
}

static uint32_t serve_transfer(uint16_t head)
{
	static unsigned char last[4];
	struct vring_desc *list = table, *desc = &table[head];
	uint32_t length = 0;

	if (desc->flags & VRING_DESC_F_INDIRECT) {
		list = (struct vring_desc *)(uintptr_t)desc->addr;
		desc = list;
	}
	for (unsigned at = 0;; desc = &list[desc->next]) {
		void *bytes = (void *)(uintptr_t)desc->addr;
		if (at + desc->len > sizeof last)
			die("a transfer is too long");
		if (desc->flags & VRING_DESC_F_WRITE) {
			memcpy(bytes, last + at, desc->len);
			length += desc->len;
		} else {
			memcpy(last + at, bytes, desc->len);
		}
		at += desc->len;
		if (!(desc->flags & VRING_DESC_F_NEXT))
			return length;
	}
}

static int serve_one(void)
{
	uint16_t head;
	struct vring_used_elem *elem;

	if (LOOK(avail->idx) == avail_seen)
		return 0;
	head = avail->ring[avail_seen & (size - 1)];
	elem = &used->ring[used_idx & (size - 1)];
	elem->len = is_transfer ? serve_transfer(head) : table[head].len - 1;
	elem->id = head;
	avail_seen += 1;
	used_idx += 1;
	PUBLISH(used->idx, used_idx);
	return 1;
}

static void wait_for_kick(void)
{
	if (is_flags)
		PUBLISH(used->flags, 0);
	else
		__atomic_store_n(&AVAIL_EVENT, avail_seen, __ATOMIC_RELEASE);
	FENCE();
	if (LOOK(avail->idx) == avail_seen)
		wait_bell(kick_fd);
	if (is_flags)
		PUBLISH(used->flags, VRING_USED_F_NO_NOTIFY);
}

static void serve(void)
{
	struct spin spin = { 0 };
	unsigned done = 0;

	while (done < count) {
		int moved = 0;

		while (done < count && serve_one()) {
			done += 1;
			moved = 1;
			if (is_sleeping && !is_transfer)
				call_if_wanted();
		}
		if (moved)
			spin_progress(&spin);
		if (!is_sleeping) {
			if (!moved)
				spin_idle(&spin);
			continue;
		}
		if (is_transfer)
			call_if_wanted();
		if (done < count)
			wait_for_kick();
	}
}

static void make_ring(void)
{
	size_t descs = size * sizeof *table, avails = 6 + 2 * size, useds = 6 + 8 * size;
	size_t bytes = 3 * 4096 + descs + avails + useds + (size + 1) * 4 + size * PARTS_MAX * sizeof *table + 4096;
	char *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (at == MAP_FAILED)
		die("mmap");
	memset(at, 0, bytes);
	shared = (void *)at;
	at += 4096;
	table = (void *)at;
	tables = table + size;
	avail = (void *)(tables + size * PARTS_MAX);
	used = (void *)(((uintptr_t)avail + avails + 4095) & ~(uintptr_t)4095);
	data = (void *)(((uintptr_t)used + useds + 63) & ~(uintptr_t)63);
	next_free = calloc(size, sizeof *next_free);
	parts_of = calloc(size, sizeof *parts_of);
	for (unsigned i = 0; i < size; i++)
		next_free[i] = i + 1;
	free_count = size;
}

static void parse(int argc, char **argv)
{
	static const struct {
		const char *name;
		unsigned *number;
		int *flag;
	} options[] = {
		{ "--size", &size, NULL },         { "--count", &count, NULL },
		{ "--batch", &batch, NULL },       { "--outstanding", &outstanding, NULL },
		{ "--sleep", NULL, &is_sleeping }, { "--flags", NULL, &is_flags },
		{ "--transfer", NULL, &is_transfer }, { "--indirect", NULL, &is_indirect },
	};

	for (int i = 1; i < argc; i++) {
		unsigned o = 0;
		while (o < sizeof options / sizeof *options && strcmp(argv[i], options[o].name))
			o++;
		if (o == sizeof options / sizeof *options || (options[o].number && i + 1 == argc))
			die("bad arguments");
		if (options[o].number)
			*options[o].number = strtoul(argv[++i], NULL, 10);
		else
			*options[o].flag = 1;
	}
	if (!size || size & (size - 1) || size > 32768 || !count || !batch || !outstanding)
		die("bad numbers");
	if (batch > outstanding)
		batch = outstanding;
}

int main(int argc, char **argv)
{
	uint64_t start, elapsed;
	int status;
	pid_t child;

	parse(argc, argv);
	make_ring();
	kick_fd = eventfd(0, 0);
	call_fd = eventfd(0, 0);
	if (kick_fd < 0 || call_fd < 0)
		die("eventfd");
	child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		PUBLISH(shared->is_ready, 1);
		serve();
		_exit(0);
	}
	while (!LOOK(shared->is_ready))
		usleep(10);
	start = now_ns(CLOCK_MONOTONIC);
	drive();
	elapsed = now_ns(CLOCK_MONOTONIC) - start;
	if (waitpid(child, &status, 0) != child || status)
		die("the device failed");
	struct rusage own, children;
	getrusage(RUSAGE_SELF, &own);
	getrusage(RUSAGE_CHILDREN, &children);
	uint64_t cpu_us = 0;
	struct timeval *times[] = { &own.ru_utime, &own.ru_stime, &children.ru_utime, &children.ru_stime };
	for (unsigned i = 0; i < 4; i++)
		cpu_us += times[i]->tv_sec * 1000000ull + times[i]->tv_usec;
	printf("{\"elapsedNs\":%llu,\"cpuNs\":%llu,\"kicks\":%llu,\"calls\":%llu}\n", (unsigned long long)elapsed,
	       (unsigned long long)cpu_us * 1000, (unsigned long long)shared->kicks,
	       (unsigned long long)shared->calls);
	return 0;
}
