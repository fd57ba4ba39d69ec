/*
 * A client of a xenstored on a Unix socket that costs next to nothing: blocking calls, no allocation, one write for all requests
 * that are due and one read for all replies that are there. Every reply is checked to be the answer to its request.
 *
 *   ask PATH read|write|start|transaction DEPTH COUNT   DEPTH operations under way on one connection
 *   events PATH WATCHES DEPTH COUNT                     DEPTH writes, then their events at WATCHES watches of another connection
 *   turns PATH CONNECTIONS COUNT                        one request after the other, each on the next connection
 *   crowd PATH CONNECTIONS COUNT                        every connection always has one request under way
 *   fill PATH FIRST END                                 nodes, 100 to a directory
 *   hold PATH CONNECTIONS WATCHES                       idle connections with WATCHES watches each, until standard input ends
 *   echo PATH                                           no client: sends back what comes on one connection after the other
 *
 * Prints one JSON object. The nodes that are used must exist: `fill` makes them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

/* xen/io/xs_wire.h */
enum { READ = 2, WATCH = 4, TRANSACTION_START = 6, TRANSACTION_END = 7, WRITE = 11, WATCH_EVENT = 15, ERROR = 16 };
struct header { uint32_t type, req_id, tx_id, len; };

#define DEPTH_MAX 64
#define IN_SIZE (1 << 16)
#define OUT_SIZE (1 << 16)
#define VALUE "sixteen bytes!!!"

struct connection {
	int fd;
	uint32_t in_start, in_end, out_end;
	uint64_t served;
	char *in, *out;
};

static void die(const char *what)
{
	fprintf(stderr, "xenstore-load: %s: %s\n", what, errno ? strerror(errno) : "wrong");
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	if (strlen(path) >= sizeof at.sun_path) die("path");
	strcpy(at.sun_path, path);
	return at;
}

static void open_connection(struct connection *c, const char *path)
{
	struct sockaddr_un at = address(path);
	memset(c, 0, sizeof *c);
	c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	/* A backlog that is full is EAGAIN; the daemon takes some the next time it looks. */
	while (connect(c->fd, (void *)&at, sizeof at) != 0) {
		if (errno != EAGAIN) die("connect");
		usleep(1000);
	}
	c->in = malloc(IN_SIZE);
	c->out = malloc(OUT_SIZE);
}

static void put(struct connection *c, uint32_t type, uint32_t id, uint32_t tx, const char *payload, uint32_t len)
{
	struct header h = { type, id, tx, len };
	if (c->out_end + sizeof h + len > OUT_SIZE) die("too much at once");
	memcpy(c->out + c->out_end, &h, sizeof h);
	memcpy(c->out + c->out_end + sizeof h, payload, len);
	c->out_end += sizeof h + len;
}

static void send_all(struct connection *c)
{
	for (uint32_t done = 0; done < c->out_end;) {
		ssize_t n = write(c->fd, c->out + done, c->out_end - done);
		if (n <= 0) die("write");
		done += n;
	}
	c->out_end = 0;
}

/* The next message that is there already; its payload is valid until the next receive(). */
static int next(struct connection *c, struct header *h, char **payload)
{
	uint32_t there = c->in_end - c->in_start;
	if (there < sizeof *h) return 0;
	memcpy(h, c->in + c->in_start, sizeof *h);
	if (h->len > 4096) die("reply");
	if (there < sizeof *h + h->len) return 0;
	*payload = c->in + c->in_start + sizeof *h;
	c->in_start += sizeof *h + h->len;
	if (h->type == ERROR) {
		fprintf(stderr, "xenstore-load: request %u: %.*s\n", h->req_id, (int)h->len, *payload);
		exit(1);
	}
	return 1;
}

static void receive(struct connection *c)
{
	memmove(c->in, c->in + c->in_start, c->in_end - c->in_start);
	c->in_end -= c->in_start;
	c->in_start = 0;
	ssize_t n = read(c->fd, c->in + c->in_end, IN_SIZE - c->in_end);
	if (n <= 0) die("read");
	c->in_end += n;
}

/* Waits for `count` messages of `type`. */
static void expect(struct connection *c, uint32_t type, uint32_t count)
{
	struct header h;
	char *payload;
	while (count > 0) {
		if (!next(c, &h, &payload)) receive(c);
		else if (h.type != type) die("unexpected reply");
		else count--;
	}
}

/* A node's path with its NUL: the i-th of those that `fill` makes. */
static uint32_t node_path(char *at, uint32_t i)
{
	return sprintf(at, "/bench/%02u/%02u/%02u/%02u", i / 1000000 % 100, i / 10000 % 100, i / 100 % 100, i % 100) + 1;
}

static void put_read(struct connection *c, uint32_t id, uint32_t node)
{
	char payload[64];
	put(c, READ, id, 0, payload, node_path(payload, node));
}

static void put_write(struct connection *c, uint32_t id, uint32_t tx, uint32_t node)
{
	char payload[64];
	uint32_t len = node_path(payload, node);
	memcpy(payload + len, VALUE, sizeof VALUE - 1);
	put(c, WRITE, id, tx, payload, len + sizeof VALUE - 1);
}

static uint64_t started_ns;

static void start_clock(void)
{
	started_ns = now_ns();
}

static void report(uint64_t count, uint64_t least, uint64_t most)
{
	uint64_t elapsed = now_ns() - started_ns;
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	uint64_t cpu = (u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000000ull + (u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1000ull;
	printf("{\"operationCount\":%lu,\"elapsedNs\":%lu,\"cpuNs\":%lu,\"servedMin\":%lu,\"servedMax\":%lu}\n", count, elapsed, cpu,
	       least, most);
	fflush(stdout);
}

/* The requests of one operation after each other: what follows the reply to `type`; 0 when it was the last. */
static uint32_t following(const char *what, uint32_t type)
{
	if (type == TRANSACTION_START) return *what == 's' ? TRANSACTION_END : WRITE;
	return type == WRITE && *what == 't' ? TRANSACTION_END : 0;
}

static void put_step(struct connection *c, const char *what, uint32_t type, uint32_t slot, uint32_t tx)
{
	if (type == READ) put_read(c, slot, slot);
	else if (type == WRITE) put_write(c, slot, tx, slot);
	else if (type == TRANSACTION_START) put(c, type, slot, 0, "", 1);
	else put(c, type, slot, tx, *what == 's' ? "F" : "T", 2);
}

static void ask(const char *path, const char *what, uint32_t depth, uint64_t count)
{
	struct connection c;
	struct { uint32_t type, tx; } slots[DEPTH_MAX];
	uint32_t first = *what == 'r' ? READ : *what == 'w' ? WRITE : TRANSACTION_START;
	uint64_t begun = 0, done = 0;
	if (depth > DEPTH_MAX) die("depth");
	open_connection(&c, path);
	start_clock();
	for (; begun < depth && begun < count; begun++) {
		slots[begun].type = first;
		slots[begun].tx = 0;
		put_step(&c, what, first, begun, 0);
	}
	while (done < count) {
		struct header h;
		char *payload;
		send_all(&c);
		receive(&c);
		while (next(&c, &h, &payload)) {
			uint32_t slot = h.req_id;
			if (slot >= depth || h.type != slots[slot].type) die("unexpected reply");
			if (h.type == READ && h.len < 8) die("value");
			if (h.type == TRANSACTION_START) slots[slot].tx = strtoul(payload, NULL, 10);
			uint32_t type = following(what, h.type);
			if (type == 0) {
				done++;
				if (begun == count) continue;
				begun++;
				type = first;
			}
			slots[slot].type = type;
			put_step(&c, what, type, slot, type == first ? 0 : slots[slot].tx);
		}
	}
	report(count, 0, 0);
}

static void put_watch(struct connection *c, const char *path, uint32_t token)
{
	char payload[128];
	uint32_t len = sprintf(payload, "%s", path) + 1;
	len += sprintf(payload + len, "%u", token) + 1;
	put(c, WATCH, token, 0, payload, len);
}

static void add_watches(struct connection *c, uint32_t count, const char *format)
{
	char path[64];
	for (uint32_t done = 0; done < count;) {
		uint32_t end = done + 100 < count ? done + 100 : count, batch = end - done, replies = 0, events = 0;
		for (; done < end; done++) {
			snprintf(path, sizeof path, format, done);
			put_watch(c, path, done);
		}
		send_all(c);
		while (replies < batch || events < batch) {
			struct header h;
			char *payload;
			if (!next(c, &h, &payload)) receive(c);
			else if (h.type == WATCH) replies++;
			else events++;
		}
	}
}

static void events(const char *path, uint32_t watches, uint32_t depth, uint64_t count)
{
	struct connection writer, watcher;
	open_connection(&writer, path);
	open_connection(&watcher, path);
	add_watches(&watcher, watches, "/bench/00/00");
	start_clock();
	for (uint64_t done = 0; done < count; done += depth) {
		if (depth > count - done) depth = count - done;
		for (uint32_t i = 0; i < depth; i++) put_write(&writer, i, 0, i);
		send_all(&writer);
		expect(&watcher, WATCH_EVENT, depth * watches);
		expect(&writer, WRITE, depth);
	}
	report(count, 0, 0);
}

static struct connection *open_many(const char *path, uint32_t count)
{
	struct connection *all = calloc(count, sizeof *all);
	for (uint32_t i = 0; i < count; i++) open_connection(&all[i], path);
	return all;
}

static void turns(const char *path, uint32_t connections, uint64_t count)
{
	struct connection *all = open_many(path, connections);
	for (uint32_t i = 0; i < connections; i++) {
		put_read(&all[i], 0, 0);
		send_all(&all[i]);
		expect(&all[i], READ, 1);
	}
	start_clock();
	for (uint64_t done = 0; done < count; done++) {
		struct connection *c = &all[done % connections];
		put_read(c, 0, 0);
		send_all(c);
		expect(c, READ, 1);
	}
	report(count, 0, 0);
}

static void crowd(const char *path, uint32_t connections, uint64_t count)
{
	struct connection *all = open_many(path, connections);
	struct epoll_event ready[64];
	int epoll = epoll_create1(EPOLL_CLOEXEC);
	uint64_t done = 0;
	for (uint32_t i = 0; i < connections; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.u32 = i };
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, all[i].fd, &e) != 0) die("epoll_ctl");
		put_read(&all[i], 0, 0);
		send_all(&all[i]);
		expect(&all[i], READ, 1);
		put_read(&all[i], 0, 0);
	}
	start_clock();
	for (uint32_t i = 0; i < connections; i++) send_all(&all[i]);
	while (done < count) {
		int n = epoll_wait(epoll, ready, 64, -1);
		for (int i = 0; i < n; i++) {
			struct connection *c = &all[ready[i].data.u32];
			expect(c, READ, 1);
			c->served++;
			done++;
			put_read(c, 0, 0);
			send_all(c);
		}
	}
	uint64_t least = UINT64_MAX, most = 0;
	for (uint32_t i = 0; i < connections; i++) {
		if (all[i].served < least) least = all[i].served;
		if (all[i].served > most) most = all[i].served;
	}
	report(done, least, most);
}

static void fill(const char *path, uint32_t first, uint32_t end)
{
	struct connection c;
	open_connection(&c, path);
	start_clock();
	for (uint32_t at = first; at < end;) {
		uint32_t batch = end - at < DEPTH_MAX ? end - at : DEPTH_MAX;
		for (uint32_t i = 0; i < batch; i++) put_write(&c, i, 0, at + i);
		send_all(&c);
		expect(&c, WRITE, batch);
		at += batch;
	}
	report(end - first, 0, 0);
}

static void hold(const char *path, uint32_t connections, uint32_t watches)
{
	struct connection *all = open_many(path, connections);
	char byte;
	for (uint32_t i = 0; i < connections; i++) {
		put_read(&all[i], 0, 0);
		send_all(&all[i]);
		expect(&all[i], READ, 1);
		add_watches(&all[i], watches, "/elsewhere/%u");
	}
	start_clock();
	report(connections, 0, 0);
	while (read(0, &byte, 1) > 0) continue;
}

static void echo(const char *path)
{
	struct sockaddr_un at = address(path);
	static char bytes[IN_SIZE];
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(listener, (void *)&at, sizeof at) != 0 || listen(listener, 16) != 0) die("listen");
	start_clock();
	report(0, 0, 0);
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		if (fd < 0) die("accept");
		for (ssize_t n; (n = read(fd, bytes, sizeof bytes)) > 0;)
			for (ssize_t done = 0, m; done < n; done += m)
				if ((m = write(fd, bytes + done, n - done)) <= 0) break;
		close(fd);
	}
}

int main(int argc, char **argv)
{
	uint64_t n[7] = { 0 };
	for (int i = 3; i < argc && i < 7; i++) n[i] = strtoull(argv[i], NULL, 10);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	if (argc < 3) die("arguments");
	const char *mode = argv[1], *path = argv[2];
	if (!strcmp(mode, "ask")) ask(path, argv[3], n[4], n[5]);
	else if (!strcmp(mode, "events")) events(path, n[3], n[4], n[5]);
	else if (!strcmp(mode, "turns")) turns(path, n[3], n[4]);
	else if (!strcmp(mode, "crowd")) crowd(path, n[3], n[4]);
	else if (!strcmp(mode, "fill")) fill(path, n[3], n[4]);
	else if (!strcmp(mode, "hold")) hold(path, n[3], n[4]);
	else if (!strcmp(mode, "echo")) echo(path);
	else die(mode);
	return 0;
}
