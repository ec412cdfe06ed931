/* The packetdrill door: our stack behind packetdrill's plug-in table, in virtual time.
 *
 * One host (host.c): a worker with net/ and tcp/ over a port whose wire is a queue of packets, and a clock that moves only when
 * somebody waits. Sockets (sockets.c, options.c): what scripts call, over tcp.h and stream.h. The table itself, the lock and waiting
 * (door.c). All but door.c run with the lock held and return what the system call would, with -errno for an error.
 *
 * Time: packetdrill's threads move the clock: usleep by what it asks, netdev_receive to the next packet, gettimeofday by 1 us
 * (packetdrill spins on it before an event). A call that blocks comes from packetdrill's second thread and waits until the main
 * thread has moved the clock so far that it is ready; the clock then stands until that thread has looked at it. When the main thread
 * itself waits for the call to end, the call moves the clock. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "dataplane/tcp/tcp.h"
#include "tests/packetdrill/interface.h"

#define DOOR_FDS_MAX 256
#define DOOR_FD_BASE 1000 /* unlike any descriptor of the process */
#define DOOR_PACKET_BYTES_MAX 2048u
#define DOOR_WAIT_US_MAX (3ull * 3600 * 1000000) /* of virtual time: who waits longer waits for ever */

struct door_packet {
	struct door_packet *next;
	uint64_t at_us;
	uint32_t n_bytes;
	uint8_t data[DOOR_PACKET_BYTES_MAX];
};

enum door_kind { DOOR_FREE, DOOR_SOCKET, DOOR_EPOLL };

struct door;
struct door_sock {
	struct door *d;
	enum door_kind kind;
	int domain;
	bool nonblock, is_bound, connecting, connected, had_stream, rd_shut, wr_shut, eof;
	bool nodelay, cork, keepalive, has_linger, in_queue;
	int linger_s, error; /* error: pending, as SO_ERROR tells it */
	struct stream_addr local, remote;
	struct stream *s;        /* NULL before connect and after the end */
	struct foil_chain left;  /* received bytes that outlived the stream */
	struct foil_chain held;  /* written under MSG_MORE or TCP_CORK, not given to the stream yet */
	struct tcp_listener *l;
	uint32_t backlog, n_queue;
	struct door_sock *queue_head, **queue_tail, *queue_next;
	uint32_t sndbuf, rcvbuf, user_timeout_ms, keepidle_s, keepintvl_s, keepcnt;
	uint16_t maxseg;
	uint8_t tos;
	char congestion[16];
	uint8_t last_info[256];  /* tcp_info when the connection ended */
	uint32_t n_epoll;
	struct { int fd; struct epoll_event ev; uint32_t last; } epoll[16];
};

enum door_wait_state { DOOR_NOT_WAITING, DOOR_WAITING, DOOR_READY };
typedef bool (*door_ready_fn)(struct door *d, void *arg);

struct door {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	atomic_int n_knocking;   /* threads that want the lock */
	pthread_t main_thread;
	int main_tid;
	enum door_wait_state wait_state; /* of the one blocked call */
	door_ready_fn wait_ready;
	void *wait_arg;
	uint64_t wait_until_us;
	pthread_t wait_thread;

	struct foil_worker w;
	struct foil_pools pools;
	struct net_port port;
	struct rte_mbuf *answers[64]; /* of neighbours, which all exist */
	uint32_t n_answers;
	bool is_up, no_push;     /* no_push: PSH is cleared in what leaves, so that nobody compares it */
	uint16_t mtu;
	struct door_packet *out_head, **out_tail;
	struct door_sock *fds[DOOR_FDS_MAX];
	struct tcp_params tcp;   /* what sysctl and socket options ask before the stack starts */
};

/* host.c */
void door_host_start(struct door *d);    /* EAL and pools, once */
void door_host_up(struct door *d);       /* the stack, at the first socket: by then the script's sysctl commands have run */
void door_host_stop(struct door *d);
int door_host_input(struct door *d, const void *packet, size_t n_bytes);
void door_turn(struct door *d);          /* timers due, events, output */
void door_advance(struct door *d, uint64_t to_us); /* stops early when a blocked call got ready */
bool door_step(struct door *d, uint64_t limit_us); /* to the next timer; false: nothing comes before limit_us */
void door_die(const struct door *d, const char *what) __attribute__((noreturn));

/* door.c */
bool door_wait(struct door *d, door_ready_fn ready, void *arg, uint64_t until_us); /* false: until_us came first */
void door_check_waiter(struct door *d);

/* sockets.c */
struct door_sock *door_sock_of(struct door *d, int fd);
int door_socket(struct door *d, int domain, int type, int protocol);
int door_bind(struct door *d, int fd, const struct sockaddr *addr, socklen_t n);
int door_listen(struct door *d, int fd, int backlog);
int door_accept(struct door *d, int fd, struct sockaddr *addr, socklen_t *n);
int door_connect(struct door *d, int fd, const struct sockaddr *addr, socklen_t n);
ssize_t door_recv(struct door *d, int fd, const struct iovec *iov, int n_iov, int flags);
ssize_t door_send(struct door *d, int fd, const struct iovec *iov, int n_iov, int flags);
int door_shutdown(struct door *d, int fd, int how);
int door_close(struct door *d, int fd);
void door_address(const struct door_sock *k, struct sockaddr *addr, socklen_t *n);
int door_fd_new(struct door *d, enum door_kind kind, int domain);
void door_uncork(struct door *d, struct door_sock *k);
uint32_t door_segment_bytes(const struct door_sock *k); /* of payload in a full segment; options.c */
uint32_t door_rx_bytes(const struct door_sock *k);
short door_poll_events(const struct door_sock *k);

/* options.c */
int door_setsockopt(struct door *d, int fd, int level, int name, const void *value, socklen_t n);
int door_getsockopt(struct door *d, int fd, int level, int name, void *value, socklen_t *n);
void door_apply_options(struct door *d, struct door_sock *k); /* to a stream that has just begun */
void door_keep_info(struct door_sock *k);                     /* before its stream ends */
int door_ioctl(struct door *d, int fd, unsigned long request, int *value);
void door_read_sysctls(struct door *d);
