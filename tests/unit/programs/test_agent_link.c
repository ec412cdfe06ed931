/* The data plane's end of the channel with a real dataplane/config behind it: what a node says of itself, when an update is answered and how,
 * and agents that die, lie or come back. The agent is this test: raw frames over a client's channel. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.pb-c.h"
#include "dataplane/mesh/host.h"
#include "programs/agent_link.h"
#include "programs/log.h"
#include "snapshot.pb-c.h"

struct rig {
	struct node_conf conf;
	struct mesh_shared *mesh;
	struct tele_shared *tele;
	struct snap *snap;
	struct agent_link *link;
	struct foil_worker *w; /* id 0, nothing else */
	unsigned int n_wakes, n_applied;
	uint64_t now_us;
	struct ring_channel *agent;
	pthread_t thread;
	bool is_connected; /* atomic: the thread is done */
	char reason[RING_REASON_BYTES];
};

static void on_wake(void *arg)
{
	((struct rig *)arg)->n_wakes++;
}

static void on_applied(void *arg)
{
	((struct rig *)arg)->n_applied++;
}

static void fill_conf(struct node_conf *c)
{
	(void)snprintf(c->node_name, sizeof(c->node_name), "test-node");
	(void)snprintf(c->agent_socket, sizeof(c->agent_socket), "/tmp/foil-link-%d.sock", (int)getpid());
	c->n_workers = 1;
	c->n_gateways = 1;
	struct node_gateway *g = &c->gateways[0];
	(void)snprintf(g->label_keys[0], sizeof(g->label_keys[0]), "istio");
	(void)snprintf(g->label_values[0], sizeof(g->label_values[0]), "ingressgateway");
	g->n_labels = 1;
	assert_int_equal(net_addr_parse("198.18.0.1", &g->addresses[0]), 0);
	g->n_addresses = 1;
	c->n_services = 2;
	assert_int_equal(net_prefix_parse("198.18.10.0/24", &c->services[0]), 0);
	assert_int_equal(net_prefix_parse("fd00:f011:10::/64", &c->services[1]), 0);
	c->n_captured = 1;
	assert_int_equal(net_prefix_parse("203.0.113.0/24", &c->captured[0]), 0);
}

static struct rig *rig_new(void)
{
	static const struct foil_room_desc *const rooms[] = {&snap_room_desc};
	struct rig *r = calloc(1, sizeof(*r));
	struct foil_error err = {0};
	const struct mesh_shared_params mp = {.n_workers = 1};
	const struct tele_shared_params tp = {.n_workers = 1, .rooms = rooms, .n_rooms = 1};
	fill_conf(&r->conf);
	r->now_us = 1000000;
	r->w = aligned_alloc(64, (sizeof(*r->w) + 63) / 64 * 64);
	memset(r->w, 0, sizeof(*r->w));
	r->mesh = mesh_shared_new(&mp);
	r->tele = tele_shared_new(&tp, &err);
	assert_non_null(r->tele);
	const struct snap_params sp = {.shared = r->mesh, .n_workers = 1, .abi = RING_ABI, .seed = 1};
	assert_int_equal(snap_new(&sp, &r->snap, &err), 0);
	assert_int_equal(agent_link_open(&r->conf, &r->link, &err), 0);
	const struct agent_link_params lp = {.snap = r->snap, .mesh = r->mesh, .tele = r->tele, .wake = on_wake, .applied = on_applied, .arg = r};
	agent_link_start(r->link, &lp);
	return r;
}

static void rig_free(struct rig *r)
{
	ring_channel_free(r->agent);
	agent_link_close(r->link);
	snap_free(r->snap);
	mesh_shared_free(r->mesh);
	tele_shared_free(r->tele);
	free(r->w);
	free(r);
}

static void turn(struct rig *r)
{
	agent_link_turn(r->link, r->now_us += 1000);
}

static void *connecting(void *arg)
{
	struct rig *r = arg;
	r->agent = ring_client_connect(r->conf.agent_socket, 2000, r->reason);
	__atomic_store_n(&r->is_connected, true, __ATOMIC_RELEASE);
	return NULL;
}

static void agent_connect(struct rig *r)
{
	r->is_connected = false;
	assert_int_equal(pthread_create(&r->thread, NULL, connecting, r), 0);
	while (!__atomic_load_n(&r->is_connected, __ATOMIC_ACQUIRE)) {
		struct pollfd fds[3];
		(void)poll(fds, agent_link_fds(r->link, fds), 5);
		turn(r);
	}
	assert_int_equal(pthread_join(r->thread, NULL), 0);
	assert_non_null(r->agent);
	turn(r);
}

static void agent_dies(struct rig *r)
{
	ring_channel_free(r->agent);
	r->agent = NULL;
	turn(r);
}

static void send(struct rig *r, uint16_t type, const ProtobufCMessage *m)
{
	uint8_t *bytes = malloc(protobuf_c_message_get_packed_size(m) + 1);
	assert_int_equal(ring_channel_send(r->agent, type, bytes, (uint32_t)protobuf_c_message_pack(m, bytes)), RING_OK);
	free(bytes);
}

static void send_begin(struct rig *r, const char *version)
{
	Foil__Conf__UpdateBegin m = FOIL__CONF__UPDATE_BEGIN__INIT;
	m.version = (char *)(uintptr_t)version;
	m.has_full = m.full = true;
	send(r, RING_FRAME_UPDATE_BEGIN, &m.base);
}

static void send_resource(struct rig *r, uint32_t type, const char *name, const char *body, size_t n)
{
	Foil__Conf__UpdateResource m = FOIL__CONF__UPDATE_RESOURCE__INIT;
	m.has_type = true;
	m.type = (Foil__Conf__ResourceType)type;
	m.name = (char *)(uintptr_t)name;
	m.has_body = true;
	m.body = (ProtobufCBinaryData){.len = n, .data = (uint8_t *)(uintptr_t)body};
	send(r, RING_FRAME_UPDATE_RESOURCE, &m.base);
}

static void send_end(struct rig *r, uint32_t n)
{
	Foil__Conf__UpdateEnd m = FOIL__CONF__UPDATE_END__INIT;
	m.has_n_resources = true;
	m.n_resources = n;
	send(r, RING_FRAME_UPDATE_END, &m.base);
}

/* The settings and a cluster "c" whose body is given. */
static void send_update(struct rig *r, const char *version, const char *cluster, size_t n)
{
	send_begin(r, version);
	send_resource(r, FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, "mesh", "", 0);
	send_resource(r, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER, "c", cluster, n);
	send_end(r, 2);
}

#define GOOD "\x0a\x01" "c"
#define BAD "\x0a\x01" "c\x20\x00" /* connect_timeout_us 0 */

/* The next frame for the agent, or 0. */
static uint16_t receive(struct rig *r, const uint8_t **payload, uint32_t *n)
{
	uint16_t type;
	return ring_channel_recv(r->agent, &type, payload, n) == RING_OK ? type : 0;
}

static Foil__Conf__UpdateResult *expect_result(struct rig *r)
{
	const uint8_t *payload;
	uint32_t n;
	assert_int_equal(receive(r, &payload, &n), RING_FRAME_UPDATE_RESULT);
	Foil__Conf__UpdateResult *m = foil__conf__update_result__unpack(NULL, n, payload);
	assert_non_null(m);
	return m;
}

static void expect_applied(struct rig *r, const char *version)
{
	Foil__Conf__UpdateResult *m = expect_result(r);
	assert_string_equal(m->version, version);
	assert_true(m->applied);
	foil__conf__update_result__free_unpacked(m, NULL);
}

static void expect_nothing(struct rig *r)
{
	const uint8_t *payload;
	uint32_t n;
	assert_int_equal(receive(r, &payload, &n), 0);
	assert_false(r->agent->is_broken);
}

static void expect_hello(struct rig *r, const char *running)
{
	const uint8_t *payload;
	uint32_t n;
	assert_int_equal(receive(r, &payload, &n), RING_FRAME_NODE_HELLO);
	Foil__Conf__NodeHello *m = foil__conf__node_hello__unpack(NULL, n, payload);
	assert_non_null(m);
	assert_string_equal(m->node_name, "test-node");
	assert_string_equal(m->running_version, running);
	assert_int_equal(m->n_workers, 1);
	assert_int_equal(m->abi, RING_ABI);
	assert_int_equal(m->n_gateways, 1);
	assert_string_equal(m->gateways[0]->label_keys[0], "istio");
	assert_string_equal(m->gateways[0]->label_values[0], "ingressgateway");
	assert_string_equal(m->gateways[0]->addresses[0], "198.18.0.1");
	assert_int_equal(m->n_service_cidrs, 2);
	assert_string_equal(m->service_cidrs[0], "198.18.10.0/24");
	assert_string_equal(m->service_cidrs[1], "fd00:f011:10::/64");
	assert_int_equal(m->n_captured_cidrs, 1);
	assert_string_equal(m->captured_cidrs[0], "203.0.113.0/24");
	foil__conf__node_hello__free_unpacked(m, NULL);
}

static void adopt(struct rig *r)
{
	mesh_shared_adopted(r->mesh, r->w, mesh_shared_config(r->mesh));
}

/* ---- */

static void test_node_says_who_it_is_and_what_runs(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", GOOD, sizeof(GOOD) - 1);
	turn(r);
	adopt(r);
	turn(r);
	expect_applied(r, "v1");
	agent_dies(r);
	agent_connect(r);
	expect_hello(r, "v1");
	rig_free(r);
}

static void test_update_is_answered_when_workers_have_it_not_before(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", GOOD, sizeof(GOOD) - 1);
	turn(r);
	assert_int_equal(r->n_wakes, 1);
	assert_int_equal(r->n_applied, 1);
	assert_true(agent_link_is_waiting(r->link));
	turn(r);
	expect_nothing(r);
	adopt(r);
	turn(r);
	expect_applied(r, "v1");
	assert_false(agent_link_is_waiting(r->link));
	rig_free(r);
}

static void test_next_update_waits_for_the_answer_of_the_one_before(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", GOOD, sizeof(GOOD) - 1);
	send_update(r, "v2", BAD, sizeof(BAD) - 1);
	for (int i = 0; i < 5; i++)
		turn(r);
	expect_nothing(r);
	adopt(r);
	turn(r);
	turn(r);
	expect_applied(r, "v1");
	Foil__Conf__UpdateResult *m = expect_result(r);
	assert_string_equal(m->version, "v2");
	foil__conf__update_result__free_unpacked(m, NULL);
	rig_free(r);
}

static void test_rejection_carries_resource_field_and_reason(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", BAD, sizeof(BAD) - 1);
	turn(r);
	Foil__Conf__UpdateResult *m = expect_result(r);
	assert_false(m->applied);
	assert_string_equal(m->version, "v1");
	assert_int_equal(m->n_rejections, 1);
	assert_int_equal(m->rejections[0]->type, FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER);
	assert_string_equal(m->rejections[0]->name, "c");
	assert_string_equal(m->rejections[0]->field, "connect_timeout_us");
	assert_non_null(strstr(m->rejections[0]->reason, "at least 1"));
	foil__conf__update_result__free_unpacked(m, NULL);
	assert_int_equal(r->n_applied, 0);
	rig_free(r);
}

static void test_same_update_again_is_answered_as_applied(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", GOOD, sizeof(GOOD) - 1);
	turn(r);
	adopt(r);
	turn(r);
	expect_applied(r, "v1");
	send_update(r, "v2", GOOD, sizeof(GOOD) - 1);
	turn(r);
	expect_applied(r, "v2");
	assert_int_equal(r->n_applied, 1);
	rig_free(r);
}

static void test_protocol_error_costs_the_channel_and_nothing_else(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", GOOD, sizeof(GOOD) - 1);
	turn(r);
	adopt(r);
	turn(r);
	expect_applied(r, "v1");
	send_end(r, 0); /* of nothing */
	turn(r);
	ring_channel_turn(r->agent);
	assert_true(r->agent->is_broken);
	assert_true(foil_slice_eq(snap_version(r->snap), FOIL_SLICE("v1")));
	agent_dies(r);
	agent_connect(r);
	expect_hello(r, "v1");
	assert_int_equal(tele_shared_counters(r->tele, FOIL_ROOM_CONFIG)[SNAP_CTR_AGENT_PROTOCOL_ERRORS], 1);
	rig_free(r);
}

static void test_corrupted_frame_costs_the_channel_and_nothing_else(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", GOOD, sizeof(GOOD) - 1);
	r->agent->out.data[20] ^= 0x40;
	turn(r);
	ring_channel_turn(r->agent);
	assert_true(r->agent->is_broken);
	assert_null(snap_config(r->snap));
	agent_dies(r);
	agent_connect(r);
	expect_hello(r, "");
	rig_free(r);
}

static void test_half_an_update_dies_with_its_agent(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_begin(r, "half");
	send_resource(r, FOIL__CONF__RESOURCE_TYPE__RESOURCE_MESH, "mesh", "", 0);
	turn(r);
	agent_dies(r);
	assert_null(snap_config(r->snap));
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", GOOD, sizeof(GOOD) - 1);
	turn(r);
	adopt(r);
	turn(r);
	expect_applied(r, "v1");
	rig_free(r);
}

static void test_answer_does_not_go_to_another_agent(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	send_update(r, "v1", GOOD, sizeof(GOOD) - 1);
	turn(r);
	agent_dies(r); /* while workers take v1 over */
	agent_connect(r);
	expect_hello(r, "v1");
	adopt(r);
	turn(r);
	expect_nothing(r);
	send_update(r, "v2", BAD, sizeof(BAD) - 1);
	turn(r);
	Foil__Conf__UpdateResult *m = expect_result(r);
	assert_string_equal(m->version, "v2");
	foil__conf__update_result__free_unpacked(m, NULL);
	rig_free(r);
}

static void test_agent_that_does_not_read_stops_only_itself(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	for (int i = 0; i < 60000; i++) { /* until the ring of 1 MiB has no room for an answer */
		if (ring_channel_send(r->agent, RING_FRAME_UPDATE_BEGIN, "\x0a\x01" "v\x10\x01", 5) != RING_OK)
			break;
		send_end(r, 0); /* no settings: rejected */
		turn(r);
	}
	for (int i = 0; i < 5; i++)
		turn(r); /* nothing blocks, nothing grows */
	assert_false(r->agent->is_broken);
	agent_dies(r);
	agent_connect(r);
	expect_hello(r, "");
	rig_free(r);
}

static void test_second_agent_is_counted_as_refused(void **state)
{
	struct rig *r = rig_new();
	agent_connect(r);
	expect_hello(r, "");
	struct ring_channel *first = r->agent;
	r->is_connected = false;
	assert_int_equal(pthread_create(&r->thread, NULL, connecting, r), 0);
	while (!__atomic_load_n(&r->is_connected, __ATOMIC_ACQUIRE)) {
		struct pollfd fds[3];
		(void)poll(fds, agent_link_fds(r->link, fds), 5);
		turn(r);
	}
	assert_int_equal(pthread_join(r->thread, NULL), 0);
	assert_null(r->agent);
	assert_non_null(strstr(r->reason, "another agent"));
	assert_int_equal(tele_shared_counters(r->tele, FOIL_ROOM_CONFIG)[SNAP_CTR_AGENTS_REFUSED], 1);
	r->agent = first;
	send_update(r, "v1", BAD, sizeof(BAD) - 1);
	turn(r);
	foil__conf__update_result__free_unpacked(expect_result(r), NULL);
	rig_free(r);
}

static void test_event_reaches_the_agent(void **state)
{
	struct rig *r = rig_new();
	const uint8_t *payload;
	uint32_t n;
	agent_link_event(r->link, 1, "lost", "nobody is there");
	agent_connect(r);
	expect_hello(r, "");
	agent_link_event(r->link, 1, "node.draining", "SIGTERM");
	assert_int_equal(receive(r, &payload, &n), RING_FRAME_EVENT);
	Foil__Conf__Event *m = foil__conf__event__unpack(NULL, n, payload);
	assert_string_equal(m->name, "node.draining");
	foil__conf__event__free_unpacked(m, NULL);
	rig_free(r);
}

static void test_answers_about_names_wake_the_workers(void **state)
{
	const uint8_t address[16] = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 19, [15] = 10};
	Foil__Conf__NameAnswer m = FOIL__CONF__NAME_ANSWER__INIT;
	struct rig *r = rig_new();
	agent_connect(r);
	unsigned int n_wakes = r->n_wakes;
	m.name = (char *)(uintptr_t)"one.test";
	m.has_addresses = true;
	m.addresses = (ProtobufCBinaryData){.len = sizeof(address), .data = (uint8_t *)(uintptr_t)address};
	send_begin(r, "v1"); /* between the parts of an update as well */
	send(r, RING_FRAME_NAME_ANSWER, &m.base);
	send(r, RING_FRAME_NAME_ANSWER, &m.base);
	turn(r);
	assert_int_equal(r->n_wakes, n_wakes + 1);
	assert_false(r->agent->is_broken);
	m.name = (char *)(uintptr_t)"*.test"; /* which was never asked for */
	send(r, RING_FRAME_NAME_ANSWER, &m.base);
	turn(r);
	ring_channel_turn(r->agent);
	assert_true(r->agent->is_broken);
	rig_free(r);
	(void)state;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answers_about_names_wake_the_workers),
		cmocka_unit_test(test_node_says_who_it_is_and_what_runs),
		cmocka_unit_test(test_update_is_answered_when_workers_have_it_not_before),
		cmocka_unit_test(test_next_update_waits_for_the_answer_of_the_one_before),
		cmocka_unit_test(test_rejection_carries_resource_field_and_reason),
		cmocka_unit_test(test_same_update_again_is_answered_as_applied),
		cmocka_unit_test(test_protocol_error_costs_the_channel_and_nothing_else),
		cmocka_unit_test(test_corrupted_frame_costs_the_channel_and_nothing_else),
		cmocka_unit_test(test_half_an_update_dies_with_its_agent),
		cmocka_unit_test(test_answer_does_not_go_to_another_agent),
		cmocka_unit_test(test_agent_that_does_not_read_stops_only_itself),
		cmocka_unit_test(test_second_agent_is_counted_as_refused),
		cmocka_unit_test(test_event_reaches_the_agent),
	};
	(void)log_open("/dev/null"); /* thousands of refusals */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
