/* The packetdrill door without packetdrill: the table's calls, the wire and the clock, driven as packetdrill drives them. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>

#include "tests/packetdrill/interface.h"
#include "tests/unit/support.h"

#define PORT 8080
#define PEER_PORT 40000

static struct packetdrill_interface ifc;
#define CALL(name, ...) ifc.name(ifc.userdata, __VA_ARGS__)

struct packet {
	uint8_t b[2048];
	size_t n;
	long long at_us;
};

static uint32_t be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put32(uint8_t *p, uint32_t v)
{
	for (int i = 0; i < 4; i++)
		p[i] = (uint8_t)(v >> (24 - 8 * i));
}

static uint16_t sum16(uint32_t sum, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sum += i & 1 ? p[i] : (uint32_t)p[i] << 8;
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t)~sum;
}

/* From 192.0.2.1:40000 to 192.168.0.1:8080. */
static void send_segment(uint8_t flags, uint32_t seq, uint32_t ack, const void *data, uint16_t n_bytes)
{
	uint8_t p[1500] = {0x45, 0, 0, 0, 0, 0, 0, 0, 64, IPPROTO_TCP, 0, 0, 192, 0, 2, 1, 192, 168, 0, 1};
	uint16_t n_tcp = (uint16_t)(20 + n_bytes), n = (uint16_t)(20 + n_tcp), sum;

	p[2] = (uint8_t)(n >> 8);
	p[3] = (uint8_t)n;
	sum = sum16(0, p, 20);
	p[10] = (uint8_t)(sum >> 8);
	p[11] = (uint8_t)sum;
	p[20] = PEER_PORT >> 8;
	p[21] = PEER_PORT & 255;
	p[22] = PORT >> 8;
	p[23] = PORT & 255;
	put32(p + 24, seq);
	put32(p + 28, ack);
	p[32] = 5 << 4;
	p[33] = flags;
	p[34] = p[35] = 255;
	if (n_bytes)
		memcpy(p + 40, data, n_bytes);
	uint32_t pseudo = 192u << 8, words[] = {2u << 8 | 1, 192u << 8 | 168, 1, IPPROTO_TCP, n_tcp};
	for (size_t i = 0; i < 5; i++)
		pseudo += words[i];
	sum = sum16(pseudo, p + 20, n_tcp);
	p[36] = (uint8_t)(sum >> 8);
	p[37] = (uint8_t)sum;
	assert_int_equal(CALL(netdev_send, p, n), 0);
}

static struct packet receive(uint8_t flags)
{
	struct packet p = {.n = sizeof(p.b)};

	assert_int_equal(CALL(netdev_receive, p.b, &p.n, &p.at_us), 0);
	assert_true(p.n >= 40);
	assert_int_equal(p.b[33] & ~TH_PUSH, flags & ~TH_PUSH);
	assert_int_equal(sum16(0, p.b, 20), 0);
	return p;
}

static long long now_us(void)
{
	struct timeval tv;

	assert_int_equal(CALL(gettimeofday, &tv, NULL), 0);
	return tv.tv_sec * 1000000ll + tv.tv_usec;
}

static int listening(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_port = htons(PORT)};
	int fd = CALL(socket, AF_INET, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	assert_int_equal(CALL(bind, fd, (struct sockaddr *)&any, sizeof(any)), 0);
	assert_int_equal(CALL(listen, fd, 1), 0);
	return fd;
}

/* Returns our sequence number. */
static uint32_t handshake(void)
{
	send_segment(TH_SYN, 1000, 0, NULL, 0);
	uint32_t ours = be32(receive(TH_SYN | TH_ACK).b + 24) + 1;
	send_segment(TH_ACK, 1001, ours, NULL, 0);
	return ours;
}

static void test_a_connection_is_accepted_read_written_and_closed(void **state)
{
	int l = listening();
	uint32_t ours = handshake();
	struct sockaddr_in peer;
	socklen_t n_peer = sizeof(peer);
	char text[16];
	int fd = CALL(accept, l, (struct sockaddr *)&peer, &n_peer);

	assert_true(fd >= 0);
	assert_int_equal(ntohs(peer.sin_port), PEER_PORT);
	send_segment(TH_ACK, 1001, ours, "hello", 5);
	assert_int_equal(be32(receive(TH_ACK).b + 28), 1006);
	assert_int_equal(CALL(read, fd, text, sizeof(text)), 5);
	assert_memory_equal(text, "hello", 5);
	assert_int_equal(CALL(write, fd, "world", 5), 5);
	struct packet p = receive(TH_ACK);
	assert_int_equal(p.n, 45);
	assert_memory_equal(p.b + 40, "world", 5);
	send_segment(TH_ACK, 1006, ours + 5, NULL, 0);
	assert_int_equal(CALL(close, fd), 0);
	receive(TH_FIN | TH_ACK);
	send_segment(TH_RST, 1006, 0, NULL, 0);
	assert_int_equal(CALL(read, fd, text, 1), -1);
	assert_int_equal(errno, EBADF);
	assert_int_equal(CALL(close, l), 0);
}

static void test_the_clock_moves_only_when_somebody_waits(void **state)
{
	long long before = now_us();

	assert_int_equal(CALL(usleep, 1000000), 0);
	long long after = now_us();
	assert_true(after - before >= 1000000 && after - before <= 1000002);
	int l = listening();
	send_segment(TH_SYN, 1000, 0, NULL, 0);
	long long first = receive(TH_SYN | TH_ACK).at_us, second = receive(TH_SYN | TH_ACK).at_us;
	assert_true(second - first >= 1000000 && second - first < 1001000); /* RFC 6298 2.1, in no time at all */
	send_segment(TH_RST, 1001, 0, NULL, 0);
	assert_int_equal(CALL(close, l), 0);
}

static void test_calls_that_cannot_be_served_say_why(void **state)
{
	int l = listening(), fd = CALL(socket, AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct pollfd p = {.fd = l, .events = POLLIN};
	char c;

	assert_int_equal(CALL(read, fd, &c, 1), -1);
	assert_int_equal(errno, ENOTCONN);
	assert_int_equal(CALL(socket, AF_UNIX, SOCK_STREAM, 0), -1);
	assert_int_equal(errno, EAFNOSUPPORT);
	assert_int_equal(CALL(accept, fd, NULL, NULL), -1);
	assert_int_equal(errno, EINVAL);
	assert_int_equal(CALL(close, 7), -1);
	assert_int_equal(errno, EBADF);
	long long before = now_us();
	assert_int_equal(CALL(poll, &p, 1, 250), 0);
	assert_true(now_us() - before >= 250000);
	assert_int_equal(CALL(close, fd), 0);
	assert_int_equal(CALL(close, l), 0);
}

static atomic_int thread_id;

/* As packetdrill finds out that a call blocks. */
static void wait_until_asleep(void)
{
	char path[64], text[256], *at;

	for (;;) {
		snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&thread_id));
		FILE *f = fopen(path, "r");
		bool is_asleep = f && fgets(text, sizeof(text), f) && (at = strrchr(text, ')')) && at[1] && at[2] == 'S';
		if (f)
			fclose(f);
		if (is_asleep)
			return;
		sched_yield();
	}
}

static void *accept_in_thread(void *arg)
{
	atomic_store(&thread_id, (int)syscall(SYS_gettid));
	int fd = CALL(accept, *(int *)arg, NULL, NULL);
	long long at = now_us(); /* as packetdrill does, so that the clock may go on */

	assert_true(fd >= 0);
	*(int *)arg = fd;
	return (void *)(intptr_t)at;
}

/* As packetdrill has it: the call blocks in a second thread, the first moves the clock; the call ends when it got ready, not later. */
static void test_a_blocked_call_ends_at_the_time_at_which_it_was_ready(void **state)
{
	int l = listening(), at = l;
	pthread_t thread;
	void *ended;

	assert_int_equal(pthread_create(&thread, NULL, accept_in_thread, &at), 0);
	wait_until_asleep();
	assert_int_equal(CALL(usleep, 100000), 0);
	(void)handshake();
	long long ready = now_us();
	assert_int_equal(CALL(usleep, 100000), 0);
	assert_int_equal(pthread_join(thread, &ended), 0);
	assert_true((intptr_t)ended <= ready + 10);
	assert_int_equal(CALL(close, at), 0);
	receive(TH_FIN | TH_ACK);
	send_segment(TH_RST, 1001, 0, NULL, 0);
	assert_int_equal(CALL(close, l), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_connection_is_accepted_read_written_and_closed),
		cmocka_unit_test(test_the_clock_moves_only_when_somebody_waits),
		cmocka_unit_test(test_calls_that_cannot_be_served_say_why),
		cmocka_unit_test(test_a_blocked_call_ends_at_the_time_at_which_it_was_ready),
	};

	packetdrill_interface_init("nopush", &ifc);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	ifc.free(ifc.userdata);
	return rc;
}
