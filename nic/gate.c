/* Between DPDK's memif driver and EAL's interrupt thread. The driver (22.11) handles its control sockets there: it maps a peer's memory when the
 * peer connects, and when the peer has gone unmaps it, frees what describes it and closes its descriptors, all while a worker may be in a
 * burst that reads them. So the three calls by which a driver registers handlers are defined here and go on to EAL's: a handler of
 * that driver's is called by control_run, behind a shut gate and only for a message that nic/memif.c lets pass; all others are as ever.
 *
 * Shutting is Dekker's: a worker says "inside" and then looks at the gate, who shuts says "shut" and then looks who is inside. The fence
 * between a worker's two steps costs it nothing: membarrier(2) makes it from this side.
 * A handler that finds a worker inside for too long is put off, not forced: epoll reports the socket again at once.
 * Locks, the outer ones first: the_lock, EAL's own (held when it calls control_gone), doors_lock.
 * Invariant: the driver's handler runs only while every worker is outside the bursts of all memif ports. */
#define ALLOW_EXPERIMENTAL_API 1 /* rte_intr_fd_get, which the header of 22.11 has not made stable */
#include "nic/gate.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <rte_interrupts.h>
#include <rte_pause.h>

#include "nic/memif.h"

#define DRIVER "librte_net_memif"
#define WAIT_SPINS 2000u      /* a burst is some microseconds */
#define WAIT_US_MAX 100000u   /* then the worker is not on its CPU: later */
#define CONTROL_TIMEOUT_US 100000 /* a peer that does not read its answers must not stop the thread that serves all */
#define FDS_MAX 16

/* What the driver registered: a handler of one control connection or of a listening socket. */
struct door {
	struct door *next;
	rte_intr_callback_fn handler;
	void *arg;
	rte_intr_unregister_callback_fn gone; /* to be called when it is over */
	int fd;
	ino_t socket; /* what fd was when it was registered */
	const struct rte_intr_handle *handle; /* the driver's, while it has the connection */
	bool listens, over;
	struct nic_gate *gate; /* of the port that it connects; NULL: not known yet */
	struct nic_memif_talk talk;
};

/* The process's: EAL has one interrupt thread and one table of handlers. */
static pthread_mutex_t the_lock = PTHREAD_MUTEX_INITIALIZER, doors_lock = PTHREAD_MUTEX_INITIALIZER;
static struct nic_gate *gates;
static struct door *doors;
static uint32_t n_registered;
static __thread struct door **accepting; /* set while a listening socket's handler runs: where its connection's door goes */

/* ---- EAL's own three */

typedef int (*register_fn)(const struct rte_intr_handle *, rte_intr_callback_fn, void *);
typedef int (*unregister_fn)(const struct rte_intr_handle *, rte_intr_callback_fn, void *);
typedef int (*pending_fn)(const struct rte_intr_handle *, rte_intr_callback_fn, void *, rte_intr_unregister_callback_fn);

/* The next definition of a name that this file defines too. */
static void *eals(const char *name)
{
	void *fn = dlsym(RTLD_NEXT, name);

	FOIL_ASSERT(fn != NULL); /* librte_eal is linked */
	return fn;
}

/* ---- shutting and opening */

/* Every thread of the process has made its stores seen when it returns. False where the kernel or a filter does not have it. */
static bool fence_all(int command)
{
	return syscall(SYS_membarrier, command, 0, 0) == 0;
}

static bool all_outside(void)
{
	for (struct nic_gate *g = gates; g; g = g->next)
		for (uint16_t i = 0; i < g->port->n_workers; i++)
			if (__atomic_load_n(&g->workers[i].inside, __ATOMIC_ACQUIRE))
				return false;
	return true;
}

static void reopen(void)
{
	for (struct nic_gate *g = gates; g; g = g->next)
		if (!g->held && (g->state & 1))
			__atomic_store_n(&g->state, g->state + 1, __ATOMIC_RELEASE);
}

/* With the_lock. False, and open again, if a worker stays inside for wait_us_max. */
static bool shut(uint64_t wait_us_max)
{
	uint64_t end_us = 0;

	for (struct nic_gate *g = gates; g; g = g->next)
		if (!(g->state & 1))
			__atomic_store_n(&g->state, g->state + 1, __ATOMIC_SEQ_CST);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	(void)fence_all(MEMBARRIER_CMD_PRIVATE_EXPEDITED); /* registered, or else the workers fence themselves */
	for (uint32_t i = 0; !all_outside(); i++) {
		if (i < WAIT_SPINS) {
			rte_pause();
			continue;
		}
		uint64_t now_us = nic_clock_us();
		end_us = end_us ? end_us : now_us + wait_us_max;
		if (now_us >= end_us) {
			reopen();
			return false;
		}
		(void)sched_yield(); /* it has no error */
	}
	return true;
}

void nic_gates_shut(void)
{
	(void)pthread_mutex_lock(&the_lock); /* cannot fail: neither recursive nor robust */
	(void)shut(UINT64_MAX / 2);
}

void nic_gates_open(void)
{
	reopen();
	(void)pthread_mutex_unlock(&the_lock);
}

void nic_gate_hold(struct nic_gate *g, bool held)
{
	nic_gates_shut();
	g->held = held;
	nic_gates_open();
}

/* ---- a worker's side */

static void hear_of_peers(struct foil_worker *w, const struct nic_gate *g, struct nic_gate_worker *me)
{
	uint32_t n_left = __atomic_load_n(&g->n_left, __ATOMIC_RELAXED), n_refused = __atomic_load_n(&g->n_refused, __ATOMIC_RELAXED);
	uint32_t n_came = __atomic_load_n(&g->n_came, __ATOMIC_RELAXED);

	if (n_came != me->n_came && w->net)
		net_port_renewed(w, g->port->index);
	me->n_came = n_came;
	if (w->id != 0)
		return; /* one tells for all */
	foil_count(w, NIC, PEERS_LEFT, n_left - me->n_left);
	foil_count(w, NIC, PEERS_REFUSED, n_refused - me->n_refused);
	me->n_left = n_left;
	me->n_refused = n_refused;
}

bool nic_gate_look(struct foil_worker *w, struct nic_gate *g)
{
	struct nic_gate_worker *me = &g->workers[w->id];
	uint32_t state = __atomic_load_n(&g->state, __ATOMIC_ACQUIRE);

	if (state & 1) {
		nic_gate_leave(w, g);
		return false;
	}
	me->seen = state;
	hear_of_peers(w, g, me);
	return true;
}

/* ---- what a peer says */

static void files_look(int fd, struct nic_memif_files *f)
{
	struct stat st;
	int seals = fcntl(fd, F_GET_SEALS);

	f->is_memory = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
	f->is_sealed = seals >= 0 && seals & F_SEAL_SHRINK;
	f->n_bytes = f->is_memory && st.st_size > 0 ? (uint64_t)st.st_size : 0;
}

/* The next message as the driver will get it, with what is known of the files that come with it. Their descriptors here are copies.
 * Returns recvmsg's answer. */
static ssize_t peek(int fd, uint8_t *message, size_t n_bytes, struct nic_memif_files *files)
{
	union { char bytes[CMSG_SPACE(FDS_MAX * sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))]; struct cmsghdr align; } control;
	struct iovec iov = {.iov_base = message, .iov_len = n_bytes};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof(control.bytes)};
	ssize_t n = recvmsg(fd, &m, MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	memset(files, 0, sizeof(*files));
	for (struct cmsghdr *c = n >= 0 ? CMSG_FIRSTHDR(&m) : NULL; c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t at = 0; at + sizeof(int) <= c->cmsg_len - CMSG_LEN(0); at += sizeof(int)) {
			int copy;
			memcpy(&copy, CMSG_DATA(c) + at, sizeof(copy));
			if (files->n++ == 0)
				files_look(copy, files);
			close(copy);
		}
	}
	if (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
		return (ssize_t)n_bytes + 1; /* longer than any message */
	return n;
}

/* True if the socket of fd, a server's, is bound where args say. */
static bool is_at(int fd, const char *args)
{
	struct sockaddr_un at = {0};
	socklen_t len = sizeof(at) - 1;

	if (getsockname(fd, (struct sockaddr *)&at, &len) || len <= sizeof(at.sun_family))
		return false;
	return foil_slice_eq(nic_args_get(args, "socket"), foil_slice_str(at.sun_path[0] ? at.sun_path : at.sun_path + 1));
}

/* The server's port that a peer asks for: the driver finds it by socket and id, too. */
static struct nic_gate *gate_of_init(int fd, uint32_t id)
{
	for (struct nic_gate *g = gates; g; g = g->next) {
		const char *args = g->port->uri.args;
		struct foil_slice number = nic_args_get(args, "id");
		uint32_t its = number.n_bytes ? (uint32_t)strtoul((const char *)number.data, NULL, 10) : 0;
		if (its == id && nic_memif_is_server(args) && is_at(fd, args))
			return g;
	}
	return NULL;
}

/* The peer goes: what it has sent is thrown away, and the driver finds the end of the connection. */
static void refuse(struct door *d, const char *why)
{
	struct nic_memif_files files;
	uint8_t message[NIC_MEMIF_MESSAGE_BYTES];
	struct nic_gate *g = d->gate;

	if (g) {
		__atomic_store_n(&g->refused_why, why, __ATOMIC_RELAXED);
		__atomic_store_n(&g->n_refused, g->n_refused + 1, __ATOMIC_RELAXED);
	}
	(void)shutdown(d->fd, SHUT_RDWR); /* fails where the peer was faster */
	for (unsigned int i = 0; i < 4096 && peek(d->fd, message, sizeof(message), &files) > 0; i++) /* more than a socket's queue holds */
		(void)!recv(d->fd, message, sizeof(message), MSG_DONTWAIT);
}

/* False: there is nothing for the driver, which would wait. */
static bool hear(struct door *d)
{
	uint8_t message[NIC_MEMIF_MESSAGE_BYTES];
	struct nic_memif_files files;
	ssize_t n = peek(d->fd, message, sizeof(message), &files);
	const char *why;
	uint32_t id;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0)
		return true; /* its end */
	if (d->talk.server && nic_memif_init_id(message, (size_t)n, &id)) {
		d->gate = gate_of_init(d->fd, id);
		if (d->gate && d->talk.state == NIC_MEMIF_FRESH) {
			d->talk.n_queues = d->gate->port->n_queues;
			d->talk.unsealed = d->gate->port->uri.unsealed;
		}
	}
	why = nic_memif_check(&d->talk, message, (size_t)n, &files);
	if (why)
		refuse(d, why);
	return true;
}

/* ---- the handlers */

static void links_look(void)
{
	struct rte_eth_link link;

	for (struct nic_gate *g = gates; g; g = g->next) {
		if (rte_eth_link_get_nowait(g->port->dpdk, &link))
			continue;
		bool up = link.link_status == RTE_ETH_LINK_UP;
		uint32_t *n = up ? &g->n_came : &g->n_left;
		if (up != g->link_up)
			__atomic_store_n(n, *n + 1, __ATOMIC_RELAXED);
		g->link_up = up;
	}
}

static void door_free(struct door *own_door)
{
	(void)pthread_mutex_lock(&doors_lock);
	for (struct door **at = &doors; *at; at = &(*at)->next)
		if (*at == own_door) {
			*at = own_door->next;
			break;
		}
	(void)pthread_mutex_unlock(&doors_lock);
	free(own_door);
}

static ino_t inode_of(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? st.st_ino : 0;
}

static void control_run(void *arg);

/* The driver registers a connection's handler, then greets the peer; one that has gone by then makes it close the socket and forget the handler,
 * and EAL ends the process over a descriptor that is none. So EAL hears of a connection only when the greeting has gone out. */
static void accept_one(struct door *listener)
{
	register_fn next = (register_fn)(uintptr_t)eals("rte_intr_callback_register");
	struct door *d = NULL;

	accepting = &d;
	listener->handler(listener->arg);
	accepting = NULL;
	if (d && (inode_of(d->fd) != d->socket || next(d->handle, control_run, d) < 0))
		door_free(d);
}

static void control_run(void *arg)
{
	struct door *d = arg;

	if (d->listens) {
		accept_one(d); /* a new connection is no port's yet: no gate */
		return;
	}
	(void)pthread_mutex_lock(&the_lock);
	if (!d->over && shut(WAIT_US_MAX)) {
		if (hear(d))
			d->handler(d->arg);
		links_look();
		reopen();
	}
	(void)pthread_mutex_unlock(&the_lock);
}

static struct door *door_find(rte_intr_callback_fn handler, void *arg)
{
	struct door *d;

	(void)pthread_mutex_lock(&doors_lock);
	for (d = doors; d && (d->handler != handler || d->arg != arg || d->over); d = d->next)
		continue;
	(void)pthread_mutex_unlock(&doors_lock);
	return d;
}

/* EAL holds its lock. */
static void control_gone(struct rte_intr_handle *handle, void *arg)
{
	struct door *d = arg;

	d->gone(handle, d->arg);
	door_free(d);
}

static bool is_the_drivers(rte_intr_callback_fn handler)
{
	Dl_info info;

	return dladdr((void *)(uintptr_t)handler, &info) && info.dli_fname && strstr(info.dli_fname, DRIVER);
}

static struct door *door_new(const struct rte_intr_handle *handle, rte_intr_callback_fn handler, void *arg)
{
	struct timeval limit = {.tv_usec = CONTROL_TIMEOUT_US};
	struct sockaddr_un at = {0};
	socklen_t len = sizeof(int), at_len = sizeof(at);
	int listens = 0;
	struct door *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->handler = handler;
	d->arg = arg;
	d->handle = handle;
	d->fd = rte_intr_fd_get(handle);
	d->socket = inode_of(d->fd);
	d->listens = getsockopt(d->fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) == 0 && listens;
	d->talk.server = getsockname(d->fd, (struct sockaddr *)&at, &at_len) == 0 && at_len > sizeof(at.sun_family); /* a client's has no name */
	if (!d->listens) {
		(void)setsockopt(d->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* a socket that is none will not get far */
		(void)setsockopt(d->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	}
	for (struct nic_gate *g = gates; g && !d->talk.server; g = g->next)
		if (g->connects) { /* it is being started: this is its connection */
			d->gate = g;
			d->talk.n_queues = g->port->n_queues;
		}
	return d;
}

int rte_intr_callback_register(const struct rte_intr_handle *handle, rte_intr_callback_fn handler, void *arg)
{
	register_fn next = (register_fn)(uintptr_t)eals("rte_intr_callback_register");
	struct door *d;

	if (!is_the_drivers(handler))
		return next(handle, handler, arg);
	d = door_new(handle, handler, arg);
	if (!d)
		return -ENOMEM;
	(void)pthread_mutex_lock(&doors_lock);
	d->next = doors;
	doors = d;
	(void)pthread_mutex_unlock(&doors_lock);
	__atomic_add_fetch(&n_registered, 1, __ATOMIC_RELAXED);
	if (accepting) {
		*accepting = d;
		return 0;
	}
	int rc = next(handle, control_run, d);
	if (rc < 0)
		door_free(d);
	return rc;
}

int rte_intr_callback_unregister(const struct rte_intr_handle *handle, rte_intr_callback_fn handler, void *arg)
{
	unregister_fn next = (unregister_fn)(uintptr_t)eals("rte_intr_callback_unregister");
	struct door *d = door_find(handler, arg);
	int rc = d ? next(handle, control_run, d) : next(handle, handler, arg);

	if (d && rc > 0)
		door_free(d);
	return rc;
}

int rte_intr_callback_unregister_pending(const struct rte_intr_handle *handle, rte_intr_callback_fn handler, void *arg,
					 rte_intr_unregister_callback_fn gone)
{
	pending_fn next = (pending_fn)(uintptr_t)eals("rte_intr_callback_unregister_pending");
	struct door *d = door_find(handler, arg);

	if (!d)
		return next(handle, handler, arg, gone);
	d->gone = gone;
	d->over = true; /* before EAL may call control_gone */
	int rc = next(handle, control_run, d, control_gone);
	if (rc <= 0)
		d->over = false;
	return rc;
}

/* A handler of a socket that goes: who listens there, or a connection that has not said for which port it comes. */
static struct door *door_of_socket(const char *args, bool listens)
{
	struct door *d;

	(void)pthread_mutex_lock(&doors_lock);
	for (d = doors; d; d = d->next)
		if (!d->over && d->listens == listens && d->talk.server && d->talk.state == NIC_MEMIF_FRESH && is_at(d->fd, args))
			break;
	(void)pthread_mutex_unlock(&doors_lock);
	return d;
}

/* The driver keeps a socket for all of its ports, of either role. */
static bool is_last_of_socket(const struct nic_gate *gate)
{
	struct foil_slice path = nic_args_get(gate->port->uri.args, "socket");
	bool last = nic_memif_is_server(gate->port->uri.args);

	(void)pthread_mutex_lock(&the_lock);
	for (const struct nic_gate *g = gates; g; g = g->next)
		if (g != gate && foil_slice_eq(nic_args_get(g->port->uri.args, "socket"), path))
			last = false;
	(void)pthread_mutex_unlock(&the_lock);
	return last;
}

/* One of them ends; false: there is none. With the_lock no connection's handler runs, and a door that is not over stays; and once nobody listens no
 * connection is being made. */
static bool end_one(const char *args, bool listens)
{
	unregister_fn next = (unregister_fn)(uintptr_t)eals("rte_intr_callback_unregister");
	bool is_busy = false;

	(void)pthread_mutex_lock(&the_lock);
	struct door *d = door_of_socket(args, listens);
	if (d) {
		is_busy = next(d->handle, control_run, d) == -EAGAIN; /* called just now: it waits for the lock, or accepts */
		if (!is_busy) {
			close(d->fd);
			door_free(d);
		}
	}
	(void)pthread_mutex_unlock(&the_lock);
	if (is_busy)
		(void)usleep(100); /* shorter is as good */
	return d != NULL;
}

void nic_gate_retire(struct nic_gate *gate)
{
	if (!is_last_of_socket(gate))
		return;
	while (end_one(gate->port->uri.args, true))
		continue;
	while (end_one(gate->port->uri.args, false))
		continue;
}

bool nic_gate_is_passed(void)
{
	return __atomic_load_n(&n_registered, __ATOMIC_RELAXED) > 0;
}

/* ---- set-up */

int nic_gate_new(struct nic_port *port)
{
	struct nic_gate *g = aligned_alloc(64, sizeof(*g));

	if (!g)
		return -ENOMEM;
	memset(g, 0, sizeof(*g));
	g->port = port;
	g->fenced = !fence_all(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED);
	(void)pthread_mutex_lock(&the_lock);
	g->next = gates;
	gates = g;
	(void)pthread_mutex_unlock(&the_lock);
	port->gate = g;
	return 0;
}

void nic_gate_free(struct nic_gate *own_gate)
{
	if (!own_gate)
		return;
	(void)pthread_mutex_lock(&the_lock);
	for (struct nic_gate **at = &gates; *at; at = &(*at)->next)
		if (*at == own_gate) {
			*at = own_gate->next;
			break;
		}
	(void)pthread_mutex_lock(&doors_lock);
	for (struct door *d = doors; d; d = d->next)
		if (d->gate == own_gate)
			d->gate = NULL;
	(void)pthread_mutex_unlock(&doors_lock);
	(void)pthread_mutex_unlock(&the_lock);
	free(own_gate);
}
