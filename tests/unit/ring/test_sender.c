/* The agent's sender against a data plane made of a server and a receiver: whole at first, then what changed, again after a death of either side.
 * The data plane runs on a thread that answers each update as the test has told it. */
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
#include <unistd.h>

#include "channel.pb-c.h"
#include "ctrl/ring/receiver.h"
#include "ctrl/ring/sender.h"
#include "dataplane/core/error.h"

#define UPDATES_MAX 16

struct seen_update {
	char version[32];
	bool full;
	size_t n_resources, n_removed, n_bytes;
};

struct plane {
	pthread_t thread;
	char path[96];
	bool stop, reject, drop; /* atomic */
	size_t bytes_max;
	unsigned int n_updates;  /* atomic; seen[0..n) is readable */
	struct seen_update seen[UPDATES_MAX];
};

struct agent {
	struct ring_sender *s;
	unsigned int n_nodes, n_applied, n_rejected, n_disconnected;
	char last_version[32], last_reason[128];
	uint64_t now_ms;
};

static void send_node_hello(struct ring_channel *ch)
{
	Foil__Conf__NodeHello m = FOIL__CONF__NODE_HELLO__INIT;
	uint8_t bytes[64];
	m.node_name = (char *)(uintptr_t)"test";
	assert_int_equal(ring_channel_send(ch, RING_FRAME_NODE_HELLO, bytes, (uint32_t)protobuf_c_message_pack(&m.base, bytes)), RING_OK);
}

static void send_result(struct ring_channel *ch, const char *version, bool applied, const char *reason)
{
	Foil__Conf__UpdateResult m = FOIL__CONF__UPDATE_RESULT__INIT;
	Foil__Conf__Rejection why = FOIL__CONF__REJECTION__INIT, *list[] = {&why};
	uint8_t bytes[512];
	m.version = (char *)(uintptr_t)version;
	m.has_applied = true;
	m.applied = applied;
	why.reason = (char *)(uintptr_t)reason;
	m.rejections = list;
	m.n_rejections = applied ? 0 : 1;
	assert_int_equal(ring_channel_send(ch, RING_FRAME_UPDATE_RESULT, bytes, (uint32_t)protobuf_c_message_pack(&m.base, bytes)), RING_OK);
}

static void note_update(struct plane *p, const struct ring_update *u)
{
	struct seen_update *seen = &p->seen[p->n_updates];
	if (p->n_updates == UPDATES_MAX)
		return;
	*seen = (struct seen_update){.full = u->full, .n_resources = u->n_resources};
	(void)snprintf(seen->version, sizeof(seen->version), "%s", u->version);
	for (size_t i = 0; i < u->n_resources; i++) {
		seen->n_removed += u->resources[i].removed;
		seen->n_bytes += u->resources[i].n_bytes;
	}
	__atomic_store_n(&p->n_updates, p->n_updates + 1, __ATOMIC_RELEASE);
}

static void serve_frames(struct plane *p, struct ring_channel *ch, struct ring_receiver *r)
{
	uint16_t type;
	const uint8_t *payload;
	uint32_t n;
	struct ring_update u;
	char reason[RING_REASON_BYTES];
	while (ring_channel_recv(ch, &type, &payload, &n) == RING_OK) {
		enum ring_receive got = ring_receiver_frame(r, type, payload, n, &u, reason);
		assert_int_not_equal(got, RING_RECEIVE_PROTOCOL);
		if (got == RING_RECEIVE_REFUSED)
			send_result(ch, ring_receiver_version(r), false, reason);
		if (got != RING_RECEIVE_UPDATE)
			continue;
		note_update(p, &u);
		bool applied = !__atomic_load_n(&p->reject, __ATOMIC_RELAXED);
		send_result(ch, u.version, applied, "because");
	}
}

static void *run_plane(void *arg)
{
	struct plane *p = arg;
	struct ring_server_params params = {.path = p->path, .to_node_bytes = 65536, .to_agent_bytes = 65536};
	struct ring_server *server = NULL;
	struct foil_error err = {0};
	struct ring_receiver *r = ring_receiver_new(p->bytes_max);
	assert_int_equal(ring_server_open(&params, &server, &err), 0);
	while (!__atomic_load_n(&p->stop, __ATOMIC_RELAXED)) {
		struct pollfd fds[3];
		bool is_new;
		char reason[RING_REASON_BYTES];
		(void)poll(fds, ring_server_fds(server, fds), 5);
		struct ring_channel *ch = ring_server_turn(server, &is_new, reason);
		if (ch && is_new) {
			ring_receiver_reset(r);
			send_node_hello(ch);
		}
		if (ch && __atomic_exchange_n(&p->drop, false, __ATOMIC_RELAXED))
			ring_server_drop(server);
		else if (ch)
			serve_frames(p, ch, r);
	}
	ring_server_close(server);
	ring_receiver_free(r);
	return NULL;
}

static struct plane *plane_start(size_t bytes_max)
{
	struct plane *p = calloc(1, sizeof(*p));
	(void)snprintf(p->path, sizeof(p->path), "/tmp/foil-sender-%d.sock", (int)getpid());
	p->bytes_max = bytes_max;
	assert_int_equal(pthread_create(&p->thread, NULL, run_plane, p), 0);
	return p;
}

static void plane_stop(struct plane *p)
{
	__atomic_store_n(&p->stop, true, __ATOMIC_RELAXED);
	assert_int_equal(pthread_join(p->thread, NULL), 0);
	free(p);
}

static void on_node(void *arg, const Foil__Conf__NodeHello *hello)
{
	struct agent *a = arg;
	assert_string_equal(hello->node_name, "test");
	a->n_nodes++;
}

static void on_result(void *arg, const Foil__Conf__UpdateResult *result)
{
	struct agent *a = arg;
	(void)snprintf(a->last_version, sizeof(a->last_version), "%s", result->version);
	if (result->applied)
		a->n_applied++;
	else
		a->n_rejected++;
	if (result->n_rejections)
		(void)snprintf(a->last_reason, sizeof(a->last_reason), "%s", result->rejections[0]->reason);
}

static void on_disconnected(void *arg, const char *why)
{
	((struct agent *)arg)->n_disconnected++;
}

static void agent_start(struct agent *a, const struct plane *p)
{
	*a = (struct agent){.now_ms = 1000};
	struct ring_sender_params params = {.socket_path = p->path, .agent_version = "t", .arg = a, .node = on_node, .result = on_result,
					    .disconnected = on_disconnected};
	a->s = ring_sender_new(&params);
	assert_non_null(a->s);
}

/* Turns until there are so many answers in all, for at most 5 s. */
static void turn_until_answers(struct agent *a, unsigned int n)
{
	for (int i = 0; i < 1000 && a->n_applied + a->n_rejected < n; i++) {
		struct pollfd fds[2];
		ring_sender_turn(a->s, a->now_ms += 5);
		(void)poll(fds, ring_sender_fds(a->s, fds), 5);
	}
	assert_int_equal(a->n_applied + a->n_rejected, n);
}

static void set(struct agent *a, const char *version, const char *const *bodies, size_t n)
{
	static const char *const names[] = {"a", "b", "c", "d"};
	struct ring_resource list[4];
	size_t n_list = 0;
	for (size_t i = 0; i < n; i++) {
		if (!bodies[i])
			continue;
		uint64_t hash = 5381;
		for (const char *p = bodies[i]; *p; p++)
			hash = hash * 33 + (unsigned char)*p;
		list[n_list++] = (struct ring_resource){.type = 4, .name = names[i], .bytes = (const uint8_t *)bodies[i], .n_bytes = strlen(bodies[i]),
							.hash = hash};
	}
	assert_int_equal(ring_sender_set(a->s, version, list, n_list), 0);
}

static void test_full_at_first_then_only_what_changed(void **state)
{
	struct plane *p = plane_start(0);
	struct agent a;
	agent_start(&a, p);
	set(&a, "v1", (const char *const[]){"1", "2", "3"}, 3);
	turn_until_answers(&a, 1);
	set(&a, "v2", (const char *const[]){"1", "22", NULL, "4"}, 4); /* b changed, c gone, d new */
	turn_until_answers(&a, 2);
	assert_int_equal(a.n_applied, 2);
	assert_true(p->seen[0].full);
	assert_int_equal(p->seen[0].n_resources, 3);
	assert_false(p->seen[1].full);
	assert_int_equal(p->seen[1].n_resources, 3);
	assert_int_equal(p->seen[1].n_removed, 1);
	assert_int_equal(p->seen[1].n_bytes, 3);
	ring_sender_free(a.s);
	plane_stop(p);
}

static void test_delta_is_against_what_was_applied_not_what_was_rejected(void **state)
{
	struct plane *p = plane_start(0);
	struct agent a;
	agent_start(&a, p);
	set(&a, "v1", (const char *const[]){"1", "2"}, 2);
	turn_until_answers(&a, 1);
	__atomic_store_n(&p->reject, true, __ATOMIC_RELAXED);
	set(&a, "v2", (const char *const[]){"bad", "2"}, 2);
	turn_until_answers(&a, 2);
	__atomic_store_n(&p->reject, false, __ATOMIC_RELAXED);
	assert_string_equal(a.last_reason, "because");
	set(&a, "v3", (const char *const[]){"1", "3"}, 2); /* a as in v1: nothing to send for it */
	turn_until_answers(&a, 3);
	assert_string_equal(p->seen[2].version, "v3");
	assert_int_equal(p->seen[2].n_resources, 1);
	ring_sender_free(a.s);
	plane_stop(p);
}

static struct ring_resource one(const char *name, const char *body, uint64_t hash)
{
	return (struct ring_resource){.type = 4, .name = name, .bytes = (const uint8_t *)body, .n_bytes = strlen(body), .hash = hash};
}

/* Changes lie over the newest set, sent or not; their memory is the caller's. */
static void test_a_change_costs_what_changed(void **state)
{
	struct plane *p = plane_start(0);
	struct agent a;
	struct ring_resource b = one("b", "bbbb", 1), none = one("x", "bbbb", 1);
	agent_start(&a, p);
	assert_int_equal(ring_sender_change(a.s, "v0", &b, 1), -ENOENT); /* nothing lies under it */
	set(&a, "v1", (const char *const[]){"1", "2", "3"}, 3);
	assert_int_equal(ring_sender_change(a.s, "v0", &none, 1), -ENOENT);
	turn_until_answers(&a, 1);
	for (int i = 0; i < 3; i++) { /* one after the other, of which the last is sent */
		char body[] = "b0";
		body[1] = (char)('0' + i);
		struct ring_resource r = one("b", body, 10 + (uint64_t)i);
		assert_int_equal(ring_sender_change(a.s, "v2", &r, 1), 0);
	}
	struct ring_resource c = one("c", "cc", 20);
	assert_int_equal(ring_sender_change(a.s, "v3", &c, 1), 0);
	turn_until_answers(&a, 2);
	assert_string_equal(p->seen[1].version, "v3");
	assert_false(p->seen[1].full);
	assert_int_equal(p->seen[1].n_resources, 2);
	assert_int_equal(p->seen[1].n_bytes, 4);
	assert_int_equal(ring_sender_change(a.s, "v4", NULL, 0), 0); /* another name for the same */
	turn_until_answers(&a, 3);
	assert_int_equal(p->seen[2].n_resources, 0);
	ring_sender_free(a.s);
	plane_stop(p);
}

static void test_after_a_new_connection_everything_is_sent_again(void **state)
{
	struct plane *p = plane_start(0);
	struct agent a;
	agent_start(&a, p);
	set(&a, "v1", (const char *const[]){"1", "2"}, 2);
	turn_until_answers(&a, 1);
	__atomic_store_n(&p->drop, true, __ATOMIC_RELAXED);
	for (int i = 0; i < 400 && a.n_disconnected == 0; i++) {
		ring_sender_turn(a.s, a.now_ms += 5);
		(void)usleep(5000);
	}
	assert_int_equal(a.n_disconnected, 1);
	turn_until_answers(&a, 2);
	assert_int_equal(a.n_nodes, 2);
	assert_true(p->seen[1].full);
	assert_int_equal(p->seen[1].n_resources, 2);
	assert_string_equal(p->seen[1].version, "v1");
	ring_sender_free(a.s);
	plane_stop(p);
}

static void test_set_beyond_the_data_planes_budget_is_answered_and_the_next_goes_through(void **state)
{
	struct plane *p = plane_start(1000);
	struct agent a;
	char big[800];
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	agent_start(&a, p);
	set(&a, "v1", (const char *const[]){big, big, big}, 3);
	turn_until_answers(&a, 1);
	assert_int_equal(a.n_rejected, 1);
	assert_non_null(strstr(a.last_reason, "budget"));
	set(&a, "v2", (const char *const[]){"1"}, 1);
	turn_until_answers(&a, 2);
	assert_int_equal(a.n_applied, 1);
	assert_int_equal(a.n_nodes, 1); /* on the same channel */
	ring_sender_free(a.s);
	plane_stop(p);
}

static void test_update_larger_than_the_ring_goes_through_in_pieces(void **state)
{
	struct plane *p = plane_start(0);
	struct agent a;
	char *big = malloc(40000);
	memset(big, 'y', 39999);
	big[39999] = 0;
	agent_start(&a, p);
	set(&a, "v1", (const char *const[]){big, big, big, big}, 4); /* 160 KB through 64 KiB */
	turn_until_answers(&a, 1);
	assert_int_equal(a.n_applied, 1);
	assert_int_equal(p->seen[0].n_bytes, 4 * 39999);
	free(big);
	ring_sender_free(a.s);
	plane_stop(p);
}

static void test_resource_that_fits_no_frame_is_rejected_by_name(void **state)
{
	struct plane *p = plane_start(0);
	struct agent a;
	char *huge = malloc(70000);
	memset(huge, 'z', 69999);
	huge[69999] = 0;
	agent_start(&a, p);
	set(&a, "v1", (const char *const[]){huge}, 1); /* larger than this ring */
	turn_until_answers(&a, 1);
	assert_int_equal(a.n_rejected, 1);
	set(&a, "v2", (const char *const[]){"1"}, 1);
	turn_until_answers(&a, 2);
	assert_int_equal(a.n_applied, 1);
	free(huge);
	ring_sender_free(a.s);
	plane_stop(p);
}

static void test_no_data_plane_is_told_once_and_tried_again(void **state)
{
	struct plane none = {0};
	struct agent a;
	(void)snprintf(none.path, sizeof(none.path), "/tmp/foil-sender-%d.sock", (int)getpid());
	agent_start(&a, &none);
	for (int i = 0; i < 100; i++)
		ring_sender_turn(a.s, a.now_ms += 100);
	assert_int_equal(a.n_disconnected, 1);
	struct plane *p = plane_start(0);
	set(&a, "v1", (const char *const[]){"1"}, 1);
	turn_until_answers(&a, 1);
	ring_sender_free(a.s);
	plane_stop(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_full_at_first_then_only_what_changed),
		cmocka_unit_test(test_delta_is_against_what_was_applied_not_what_was_rejected),
		cmocka_unit_test(test_after_a_new_connection_everything_is_sent_again),
		cmocka_unit_test(test_a_change_costs_what_changed),
		cmocka_unit_test(test_set_beyond_the_data_planes_budget_is_answered_and_the_next_goes_through),
		cmocka_unit_test(test_update_larger_than_the_ring_goes_through_in_pieces),
		cmocka_unit_test(test_resource_that_fits_no_frame_is_rejected_by_name),
		cmocka_unit_test(test_no_data_plane_is_told_once_and_tried_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
