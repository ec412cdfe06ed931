/* impair: a wire in user space between two network interfaces, for kernels without netem. What becomes of the frames is wire.c's;
 * here are the packet sockets and the clock. A frame's time is when the kernel got it, so that a late turn of this program costs
 * nothing while the delay is longer than the lateness.
 *
 *   impair [-s SEED] [-t SECONDS] IF_A IF_B [a2b=SPEC] [b2a=SPEC] [both=SPEC]
 *
 * Says "ready" when frames pass; ends at SIGTERM, SIGINT or after SECONDS and prints its counts as one line of JSON. */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "tests/lab/impair/wire.h"

#define BATCH 32
#define SOCKET_BYTES (32 * 1024 * 1024)
#define IDLE_NS 1000000000u
#define NS_PER_S 1000000000u

struct line { /* from one interface to the other */
	struct wire *wire;
	int in_fd, out_fd;
	uint64_t n_missed; /* the kernel had no room for them */
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
	stop = 1;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t); /* as the kernel stamps frames */
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
}

static int port_open(const char *name)
{
	struct sockaddr_ll a = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL), .sll_ifindex = (int)if_nametoindex(name)};
	struct packet_mreq promiscuous = {.mr_ifindex = a.sll_ifindex, .mr_type = PACKET_MR_PROMISC};
	int on = 1, n_bytes = SOCKET_BYTES, fd = socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK, 0);

	if (!a.sll_ifindex || fd < 0)
		die(name);
	if (setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &n_bytes, sizeof(n_bytes)) || setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &n_bytes, sizeof(n_bytes)) ||
	    setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof(on)) || setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &on, sizeof(on)) ||
	    setsockopt(fd, SOL_PACKET, PACKET_ADD_MEMBERSHIP, &promiscuous, sizeof(promiscuous)) || bind(fd, (struct sockaddr *)&a, sizeof(a)))
		die(name);
	return fd;
}

static uint64_t stamp_of(struct msghdr *h, uint64_t otherwise_ns)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(h); c; c = CMSG_NXTHDR(h, c))
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_TIMESTAMPNS) {
			struct timespec t;
			memcpy(&t, CMSG_DATA(c), sizeof(t));
			return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
		}
	return otherwise_ns;
}

/* A batch of what has arrived; false: there was none. */
static bool receive(struct line *l, uint64_t now)
{
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	char control[BATCH][CMSG_SPACE(sizeof(struct timespec))];
	unsigned int n_asked = l->wire->n_idle < BATCH ? l->wire->n_idle : BATCH;

	memset(msgs, 0, sizeof(msgs));
	for (unsigned int i = 0; i < n_asked; i++) {
		iov[i] = (struct iovec){.iov_base = wire_buffer(l->wire), .iov_len = WIRE_FRAME_BYTES_MAX};
		msgs[i].msg_hdr = (struct msghdr){.msg_iov = &iov[i], .msg_iovlen = 1, .msg_control = control[i], .msg_controllen = sizeof(control[i])};
	}
	int n = recvmmsg(l->in_fd, msgs, n_asked, 0, NULL);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		die("recvmmsg");
	n = n < 0 ? 0 : n;
	for (int i = 0; i < n; i++)
		wire_take(l->wire, iov[i].iov_base, msgs[i].msg_len, stamp_of(&msgs[i].msg_hdr, now));
	for (unsigned int i = n_asked; i > (unsigned int)n; i--)
		l->wire->idle[l->wire->n_idle++] = iov[i - 1].iov_base;
	return n == BATCH;
}

static void send_due(struct line *l, uint64_t now)
{
	const struct wire_frame *f;

	while ((f = wire_due(l->wire, now))) {
		if (send(l->out_fd, f->data, f->n_bytes, 0) < 0) {
			if (errno == EAGAIN || errno == ENOBUFS)
				return; /* the same one again at the next turn */
			l->wire->counts.send_errors++;
		} else {
			l->wire->counts.out++;
			l->wire->counts.bytes += f->n_bytes;
		}
		wire_done(l->wire);
	}
}

static void wait_for_work(const struct line *lines, uint64_t now, uint64_t end_ns)
{
	struct pollfd fds[2] = {{.fd = lines[0].in_fd, .events = POLLIN}, {.fd = lines[1].in_fd, .events = POLLIN}};
	uint64_t due_ns = now + IDLE_NS < end_ns ? now + IDLE_NS : end_ns;

	for (int i = 0; i < 2; i++)
		if (lines[i].wire->n_heap && lines[i].wire->heap[0].at_ns < due_ns)
			due_ns = lines[i].wire->heap[0].at_ns;
	if (due_ns <= now)
		return;
	struct timespec t = {.tv_sec = (time_t)((due_ns - now) / NS_PER_S), .tv_nsec = (long)((due_ns - now) % NS_PER_S)};
	(void)ppoll(fds, 2, &t, NULL); /* whatever ended it, the next turn looks */
}

static void report(struct line *lines)
{
	for (int i = 0; i < 2; i++) {
		const struct wire_counts *c = &lines[i].wire->counts;
		struct tpacket_stats s = {0};
		socklen_t n = sizeof(s);
		(void)getsockopt(lines[i].in_fd, SOL_PACKET, PACKET_STATISTICS, &s, &n); /* without them 0 is said */
		printf("%s\"%s\": {\"in\": %" PRIu64 ", \"out\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"lost\": %" PRIu64 ", \"doubled\": %" PRIu64
		       ", \"reordered\": %" PRIu64 ", \"corrupted\": %" PRIu64 ", \"marked\": %" PRIu64 ", \"queue_full\": %" PRIu64
		       ", \"black_holed\": %" PRIu64 ", \"down\": %" PRIu64 ", \"send_errors\": %" PRIu64 ", \"missed\": %u}%s",
		       i ? ", " : "{", i ? "b2a" : "a2b", c->in, c->out, c->bytes, c->lost, c->doubled, c->reordered, c->corrupted, c->marked, c->queue_full,
		       c->black_holed, c->down, c->send_errors, s.tp_drops, i ? "}\n" : "");
	}
}

static void specs_read(char **args, int n, struct wire_spec specs[2])
{
	for (int i = 0; i < n; i++) {
		bool is_a2b = strncmp(args[i], "a2b=", 4) == 0, is_b2a = strncmp(args[i], "b2a=", 4) == 0, both = strncmp(args[i], "both=", 5) == 0;
		const char *text = strchr(args[i], '=');
		if ((!is_a2b && !is_b2a && !both) || ((is_a2b || both) && !wire_spec_parse(text + 1, &specs[0])) ||
		    ((is_b2a || both) && !wire_spec_parse(text + 1, &specs[1]))) {
			fprintf(stderr, "impair: \"%s\": expected a2b=SPEC, b2a=SPEC or both=SPEC\n", args[i]);
			exit(2);
		}
	}
}

static uint8_t *memory(size_t n_bytes)
{
	void *p = mmap(NULL, n_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0); /* touched as far as used */

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static void run(struct line *lines, uint64_t end_ns)
{
	uint64_t now;

	while (!stop && (now = now_ns()) < end_ns) {
		bool more = false;
		for (int i = 0; i < 2; i++)
			more |= receive(&lines[i], now);
		now = now_ns();
		for (int i = 0; i < 2; i++)
			send_due(&lines[i], now);
		if (!more)
			wait_for_work(lines, now, end_ns);
	}
}

int main(int argc, char **argv)
{
	struct wire_spec specs[2] = {{0}, {0}};
	uint64_t seed = 1, end_ns = UINT64_MAX;
	struct line lines[2];
	int option;

	while ((option = getopt(argc, argv, "s:t:")) != -1) {
		if (option == 's')
			seed = strtoull(optarg, NULL, 0);
		else if (option == 't')
			end_ns = now_ns() + strtoull(optarg, NULL, 0) * NS_PER_S;
		else
			return 2;
	}
	if (argc - optind < 2) {
		fprintf(stderr, "usage: impair [-s SEED] [-t SECONDS] IF_A IF_B [a2b=SPEC] [b2a=SPEC] [both=SPEC]\n");
		return 2;
	}
	specs_read(argv + optind + 2, argc - optind - 2, specs);
	int fds[2] = {port_open(argv[optind]), port_open(argv[optind + 1])};
	for (int i = 0; i < 2; i++) {
		lines[i] = (struct line){.wire = (struct wire *)(void *)memory(sizeof(struct wire)), .in_fd = fds[i], .out_fd = fds[1 - i]};
		wire_init(lines[i].wire, &specs[i], seed * 2 + (uint64_t)i, now_ns(), memory((size_t)(WIRE_FRAMES_MAX + 1) * WIRE_FRAME_BYTES_MAX));
	}
	struct sigaction action = {.sa_handler = on_signal};
	if (sigaction(SIGTERM, &action, NULL) || sigaction(SIGINT, &action, NULL) || prctl(PR_SET_TIMERSLACK, 1UL))
		die("signals");
	printf("ready\n");
	fflush(stdout);
	run(lines, end_ns);
	report(lines);
	return 0;
}
