/* The channel's two ends: handshake, refusals, death of either side, a stale socket, a second server. The client's connect blocks for the handshake, so it
 * runs on a thread of its own while the test turns the server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctrl/ring/channel.h"
#include "dataplane/core/error.h"

static char folder[64], path[96];

static int make_folder(void **state)
{
	(void)snprintf(folder, sizeof(folder), "/tmp/foil-ring-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/sub/agent.sock", folder);
	return 0;
}

static int remove_folder(void **state)
{
	char sub[96];
	(void)snprintf(sub, sizeof(sub), "%s/sub", folder);
	(void)unlink(path);
	(void)rmdir(sub);
	return rmdir(folder);
}

static struct ring_server *serve(void)
{
	struct ring_server *s = NULL;
	struct foil_error err = {0};
	const struct ring_server_params p = {.path = path, .to_node_bytes = 65536, .to_agent_bytes = 4096};
	if (ring_server_open(&p, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

struct call {
	pthread_t thread;
	struct ring_channel *channel;
	char reason[RING_REASON_BYTES];
	volatile bool is_done;
};

static void *connecting(void *arg)
{
	struct call *c = arg;
	c->channel = ring_client_connect(path, 2000, c->reason);
	__atomic_store_n(&c->is_done, true, __ATOMIC_RELEASE);
	return NULL;
}

static struct ring_channel *turn(struct ring_server *s, char reason[RING_REASON_BYTES])
{
	struct pollfd fds[3];
	bool is_new;
	(void)poll(fds, ring_server_fds(s, fds), 20);
	return ring_server_turn(s, &is_new, reason);
}

/* A client that connects while the server turns. said: the last reason that the server gave. */
static struct ring_channel *connect_to(struct ring_server *s, struct ring_channel **at_server, char said[RING_REASON_BYTES], struct call *c)
{
	char reason[RING_REASON_BYTES];
	*c = (struct call){0};
	said[0] = 0;
	assert_int_equal(pthread_create(&c->thread, NULL, connecting, c), 0);
	while (!__atomic_load_n(&c->is_done, __ATOMIC_ACQUIRE)) {
		*at_server = turn(s, reason);
		if (reason[0])
			memcpy(said, reason, RING_REASON_BYTES);
	}
	assert_int_equal(pthread_join(c->thread, NULL), 0);
	*at_server = turn(s, reason);
	if (reason[0])
		memcpy(said, reason, RING_REASON_BYTES);
	return c->channel;
}

static void assert_gets(struct ring_channel *ch, uint16_t type, const char *text)
{
	uint16_t got;
	const uint8_t *payload;
	uint32_t n;
	assert_int_equal(ring_channel_recv(ch, &got, &payload, &n), RING_OK);
	assert_int_equal(got, type);
	assert_int_equal(n, strlen(text));
	assert_memory_equal(payload, text, n);
}

static void test_frames_go_both_ways_and_wake_the_other_side(void **state)
{
	struct ring_server *s = serve();
	struct ring_channel *node = NULL, *agent;
	char said[RING_REASON_BYTES];
	struct call c;
	struct pollfd fd;
	agent = connect_to(s, &node, said, &c);
	assert_non_null(agent);
	assert_non_null(node);
	assert_int_equal(ring_channel_send(agent, 1, "to node", 7), RING_OK);
	assert_int_equal(ring_channel_fds(node, &fd), 1);
	assert_int_equal(poll(&fd, 1, 1000), 1);
	assert_gets(node, 1, "to node");
	assert_int_equal(ring_channel_send(node, 2, "to agent", 8), RING_OK);
	assert_int_equal(ring_channel_fds(agent, &fd), 1);
	assert_int_equal(poll(&fd, 1, 1000), 1);
	ring_channel_turn(agent);
	assert_int_equal(poll(&fd, 1, 0), 0); /* the turn has taken what woke us */
	assert_gets(agent, 2, "to agent");
	ring_channel_free(agent);
	ring_server_close(s);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_socket_is_for_its_owner_alone(void **state)
{
	struct ring_server *s = serve();
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	ring_server_close(s);
}

static void test_death_of_the_agent_is_told_and_the_next_one_is_served(void **state)
{
	struct ring_server *s = serve();
	struct ring_channel *node = NULL;
	char said[RING_REASON_BYTES];
	struct call c;
	for (int i = 0; i < 3; i++) {
		struct ring_channel *agent = connect_to(s, &node, said, &c);
		assert_non_null(agent);
		assert_non_null(node);
		assert_int_equal(ring_channel_send(agent, 1, "x", 1), RING_OK);
		ring_channel_free(agent); /* as its process would */
		assert_null(turn(s, said));
		assert_non_null(strstr(said, "the agent is gone"));
	}
	ring_server_close(s);
}

static void test_death_of_the_data_plane_is_seen_by_the_agent(void **state)
{
	struct ring_server *s = serve();
	struct ring_channel *node = NULL;
	char said[RING_REASON_BYTES];
	struct call c;
	struct ring_channel *agent = connect_to(s, &node, said, &c);
	ring_server_close(s);
	ring_channel_turn(agent);
	assert_true(agent->is_broken);
	assert_int_equal(ring_channel_send(agent, 1, "x", 1), RING_BAD_INDEX);
	ring_channel_free(agent);
}

static void test_second_agent_is_refused_with_a_sentence_and_the_first_goes_on(void **state)
{
	struct ring_server *s = serve();
	struct ring_channel *node = NULL;
	char said[RING_REASON_BYTES];
	struct call c;
	struct ring_channel *first = connect_to(s, &node, said, &c);
	assert_null(connect_to(s, &node, said, &c));
	assert_non_null(strstr(c.reason, "another agent is connected"));
	assert_non_null(strstr(said, "another agent is connected"));
	assert_int_equal(ring_channel_send(first, 1, "still here", 10), RING_OK);
	assert_gets(node, 1, "still here");
	ring_channel_free(first);
	ring_server_close(s);
}

static int raw_connect(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(connect(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	return fd;
}

static void test_agent_of_another_abi_is_refused_with_both_numbers(void **state)
{
	struct ring_server *s = serve();
	char said[RING_REASON_BYTES] = "";
	uint32_t hello[2] = {0x4c494f46u, 77};
	int fd = raw_connect();
	assert_int_equal(send(fd, hello, sizeof(hello), 0), sizeof(hello));
	for (int i = 0; i < 3 && !said[0]; i++)
		assert_null(turn(s, said));
	assert_non_null(strstr(said, "ABI 77"));
	(void)close(fd);
	ring_server_close(s);
}

static void test_stranger_is_refused_and_one_that_only_looks_is_not_worth_a_word(void **state)
{
	struct ring_server *s = serve();
	char said[RING_REASON_BYTES] = "";
	int fd = raw_connect();
	assert_int_equal(send(fd, "GET / HTTP/1.1\r\n", 16, 0), 16);
	for (int i = 0; i < 3 && !said[0]; i++)
		assert_null(turn(s, said));
	assert_non_null(strstr(said, "not a foil-agent"));
	(void)close(fd);
	(void)close(raw_connect());
	for (int i = 0; i < 3; i++) {
		assert_null(turn(s, said));
		assert_string_equal(said, "");
	}
	ring_server_close(s);
}

static void test_silent_stranger_does_not_keep_an_agent_out(void **state)
{
	struct ring_server *s = serve();
	struct ring_channel *node = NULL;
	char said[RING_REASON_BYTES];
	struct call c;
	int fd = raw_connect();
	(void)turn(s, said);
	struct ring_channel *agent = connect_to(s, &node, said, &c);
	assert_non_null(agent);
	(void)close(fd);
	ring_channel_free(agent);
	ring_server_close(s);
}

static void test_second_server_is_refused_and_names_the_process(void **state)
{
	struct ring_server *s = serve(), *other = NULL;
	struct foil_error err = {0};
	char pid[32];
	const struct ring_server_params p = {.path = path};
	(void)snprintf(pid, sizeof(pid), "process %d", (int)getpid());
	assert_int_equal(ring_server_open(&p, &other, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, pid));
	assert_null(other);
	ring_server_close(s);
}

static void test_stale_socket_is_replaced(void **state)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	ring_server_close(serve()); /* makes the folder */
	int fd = socket(AF_UNIX, SOCK_SEQPACKET, 0);
	(void)snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(addr)), 0);
	(void)close(fd); /* nobody listens at the file any more */
	ring_server_close(serve());
}

static void test_file_that_is_no_socket_is_not_removed(void **state)
{
	struct ring_server *s = NULL;
	struct foil_error err = {0};
	const struct ring_server_params p = {.path = path};
	ring_server_close(serve());
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	(void)fclose(f);
	assert_true(ring_server_open(&p, &s, &err) < 0);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
}

static void test_nobody_there_is_a_sentence(void **state)
{
	char reason[RING_REASON_BYTES];
	assert_null(ring_client_connect(path, 100, reason));
	assert_non_null(strstr(reason, "does not answer"));
}

static void test_path_that_is_too_long_is_a_sentence(void **state)
{
	char reason[RING_REASON_BYTES], text[200];
	struct ring_server *s = NULL;
	struct foil_error err = {0};
	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	const struct ring_server_params p = {.path = text};
	assert_null(ring_client_connect(text, 100, reason));
	assert_non_null(strstr(reason, "longer than"));
	assert_int_equal(ring_server_open(&p, &s, &err), -ENAMETOOLONG);
}

static void test_corrupted_frame_breaks_the_channel(void **state)
{
	struct ring_server *s = serve();
	struct ring_channel *node = NULL;
	char said[RING_REASON_BYTES];
	struct call c;
	uint16_t type;
	const uint8_t *payload;
	uint32_t n;
	struct ring_channel *agent = connect_to(s, &node, said, &c);
	assert_int_equal(ring_channel_send(agent, 1, "abcdefgh", 8), RING_OK);
	agent->out.data[16] ^= 1; /* the segment is its to write */
	assert_int_equal(ring_channel_recv(node, &type, &payload, &n), RING_BAD_CRC);
	assert_true(node->is_broken);
	assert_null(turn(s, said));
	assert_non_null(strstr(said, "CRC-32C"));
	ring_channel_turn(agent);
	assert_true(agent->is_broken); /* and it hears of it */
	ring_channel_free(agent);
	ring_server_close(s);
}

static void test_segment_cannot_shrink_under_the_data_plane(void **state)
{
	struct ring_server *s = serve();
	struct ring_channel *node = NULL;
	char said[RING_REASON_BYTES];
	struct call c;
	struct ring_channel *agent = connect_to(s, &node, said, &c);
	assert_int_equal(ftruncate(agent->memfd, 0), -1);
	assert_int_equal(errno, EPERM);
	ring_channel_free(agent);
	ring_server_close(s);
}

static void test_flood_of_wake_ups_ends(void **state)
{
	struct ring_server *s = serve();
	struct ring_channel *node = NULL;
	char said[RING_REASON_BYTES];
	struct call c;
	struct ring_channel *agent = connect_to(s, &node, said, &c);
	while (send(agent->socket, "w", 1, MSG_DONTWAIT) == 1)
		continue;
	assert_int_equal(errno, EAGAIN);
	assert_non_null(turn(s, said));
	assert_int_equal(ring_channel_send(agent, 1, "x", 1), RING_OK);
	assert_gets(node, 1, "x");
	ring_channel_free(agent);
	ring_server_close(s);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)
	const struct CMUnitTest tests[] = {
		T(test_frames_go_both_ways_and_wake_the_other_side),
		T(test_socket_is_for_its_owner_alone),
		T(test_death_of_the_agent_is_told_and_the_next_one_is_served),
		T(test_death_of_the_data_plane_is_seen_by_the_agent),
		T(test_second_agent_is_refused_with_a_sentence_and_the_first_goes_on),
		T(test_agent_of_another_abi_is_refused_with_both_numbers),
		T(test_stranger_is_refused_and_one_that_only_looks_is_not_worth_a_word),
		T(test_silent_stranger_does_not_keep_an_agent_out),
		T(test_second_server_is_refused_and_names_the_process),
		T(test_stale_socket_is_replaced),
		T(test_file_that_is_no_socket_is_not_removed),
		T(test_nobody_there_is_a_sentence),
		T(test_path_that_is_too_long_is_a_sentence),
		T(test_corrupted_frame_breaks_the_channel),
		T(test_segment_cannot_shrink_under_the_data_plane),
		T(test_flood_of_wake_ups_ends),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
