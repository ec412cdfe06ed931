/* Updates put together by ctrl/ring/receiver.c: whole ones, refused ones, and what breaks the protocol. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "channel.pb-c.h"
#include "ctrl/ring/receiver.h"

static char reason[RING_REASON_BYTES];
static struct ring_update update;

static enum ring_receive feed(struct ring_receiver *r, uint16_t type, const ProtobufCMessage *m)
{
	uint8_t *bytes = malloc(protobuf_c_message_get_packed_size(m) + 1);
	size_t n = protobuf_c_message_pack(m, bytes);
	enum ring_receive got = ring_receiver_frame(r, type, bytes, (uint32_t)n, &update, reason);
	free(bytes);
	return got;
}

static enum ring_receive begin(struct ring_receiver *r, const char *version, bool full)
{
	Foil__Conf__UpdateBegin m = FOIL__CONF__UPDATE_BEGIN__INIT;
	m.version = (char *)(uintptr_t)version;
	m.has_full = true;
	m.full = full;
	return feed(r, RING_FRAME_UPDATE_BEGIN, &m.base);
}

static enum ring_receive resource(struct ring_receiver *r, uint32_t type, const char *name, const void *body, size_t n)
{
	Foil__Conf__UpdateResource m = FOIL__CONF__UPDATE_RESOURCE__INIT;
	m.has_type = true;
	m.type = (Foil__Conf__ResourceType)type;
	m.name = (char *)(uintptr_t)name;
	m.has_removed = true;
	m.removed = body == NULL;
	m.has_body = body != NULL;
	m.body = (ProtobufCBinaryData){.len = n, .data = (uint8_t *)(uintptr_t)body};
	return feed(r, RING_FRAME_UPDATE_RESOURCE, &m.base);
}

static enum ring_receive end(struct ring_receiver *r, uint32_t n)
{
	Foil__Conf__UpdateEnd m = FOIL__CONF__UPDATE_END__INIT;
	m.has_n_resources = true;
	m.n_resources = n;
	return feed(r, RING_FRAME_UPDATE_END, &m.base);
}

static void test_update_is_what_was_sent(void **state)
{
	struct ring_receiver *r = ring_receiver_new(0);
	assert_int_equal(begin(r, "v1", true), RING_RECEIVE_MORE);
	assert_int_equal(resource(r, 4, "one", "body", 4), RING_RECEIVE_MORE);
	assert_int_equal(resource(r, 5, "two", NULL, 0), RING_RECEIVE_MORE);
	assert_int_equal(end(r, 2), RING_RECEIVE_UPDATE);
	assert_string_equal(update.version, "v1");
	assert_true(update.full);
	assert_int_equal(update.n_resources, 2);
	assert_string_equal(update.resources[0].name, "one");
	assert_int_equal(update.resources[0].type, 4);
	assert_int_equal(update.resources[0].n_bytes, 4);
	assert_memory_equal(update.resources[0].bytes, "body", 4);
	assert_true(update.resources[1].removed);
	assert_int_equal(begin(r, "v2", false), RING_RECEIVE_MORE);
	assert_int_equal(end(r, 0), RING_RECEIVE_UPDATE);
	assert_int_equal(update.n_resources, 0);
	assert_false(update.full);
	ring_receiver_free(r);
}

static void test_hello_gives_the_agents_version(void **state)
{
	struct ring_receiver *r = ring_receiver_new(0);
	Foil__Conf__AgentHello m = FOIL__CONF__AGENT_HELLO__INIT;
	m.agent_version = (char *)(uintptr_t)"1.2.3";
	assert_int_equal(feed(r, RING_FRAME_AGENT_HELLO, &m.base), RING_RECEIVE_HELLO);
	assert_string_equal(ring_receiver_agent_version(r), "1.2.3");
	ring_receiver_free(r);
}

static void test_update_beyond_the_budget_is_refused_once_when_it_ends(void **state)
{
	struct ring_receiver *r = ring_receiver_new(1000);
	uint8_t body[600] = {0};
	assert_int_equal(begin(r, "big", true), RING_RECEIVE_MORE);
	for (int i = 0; i < 5; i++)
		assert_int_equal(resource(r, 4, "x", body, sizeof(body)), RING_RECEIVE_MORE);
	assert_int_equal(end(r, 5), RING_RECEIVE_REFUSED);
	assert_non_null(strstr(reason, "budget"));
	assert_string_equal(ring_receiver_version(r), "big");
	assert_int_equal(begin(r, "small", true), RING_RECEIVE_MORE); /* the channel goes on */
	assert_int_equal(resource(r, 4, "x", body, sizeof(body)), RING_RECEIVE_MORE);
	assert_int_equal(end(r, 1), RING_RECEIVE_UPDATE);
	ring_receiver_free(r);
}

static void test_what_breaks_the_protocol(void **state)
{
	struct ring_receiver *r = ring_receiver_new(0);
	assert_int_equal(resource(r, 4, "x", "b", 1), RING_RECEIVE_PROTOCOL); /* outside an update */
	assert_int_equal(end(r, 0), RING_RECEIVE_PROTOCOL);
	ring_receiver_reset(r);
	assert_int_equal(begin(r, "v", true), RING_RECEIVE_MORE);
	assert_int_equal(begin(r, "v", true), RING_RECEIVE_PROTOCOL); /* inside one */
	ring_receiver_reset(r);
	assert_int_equal(begin(r, "v", true), RING_RECEIVE_MORE);
	assert_int_equal(end(r, 3), RING_RECEIVE_PROTOCOL); /* another count */
	ring_receiver_reset(r);
	assert_int_equal(begin(r, "v", true), RING_RECEIVE_MORE);
	assert_int_equal(resource(r, 4, NULL, "b", 1), RING_RECEIVE_PROTOCOL); /* no name */
	ring_receiver_reset(r);
	assert_int_equal(ring_receiver_frame(r, 99, (const uint8_t *)"", 0, &update, reason), RING_RECEIVE_PROTOCOL);
	assert_int_equal(ring_receiver_frame(r, RING_FRAME_NODE_HELLO, (const uint8_t *)"", 0, &update, reason), RING_RECEIVE_PROTOCOL);
	assert_int_equal(ring_receiver_frame(r, RING_FRAME_UPDATE_BEGIN, (const uint8_t *)"\x0a\x7f", 2, &update, reason), RING_RECEIVE_PROTOCOL);
	ring_receiver_free(r);
}

static void test_reset_forgets_the_half_update(void **state)
{
	struct ring_receiver *r = ring_receiver_new(0);
	assert_int_equal(begin(r, "v1", true), RING_RECEIVE_MORE);
	assert_int_equal(resource(r, 4, "old", "b", 1), RING_RECEIVE_MORE);
	ring_receiver_reset(r);
	assert_int_equal(begin(r, "v2", true), RING_RECEIVE_MORE);
	assert_int_equal(resource(r, 4, "new", "b", 1), RING_RECEIVE_MORE);
	assert_int_equal(end(r, 1), RING_RECEIVE_UPDATE);
	assert_string_equal(update.resources[0].name, "new");
	ring_receiver_free(r);
}

static void test_long_version_is_cut_not_overrun(void **state)
{
	struct ring_receiver *r = ring_receiver_new(0);
	char version[1000];
	memset(version, 'v', sizeof(version) - 1);
	version[sizeof(version) - 1] = 0;
	assert_int_equal(begin(r, version, true), RING_RECEIVE_MORE);
	assert_int_equal(strlen(ring_receiver_version(r)), 127);
	ring_receiver_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_update_is_what_was_sent),
		cmocka_unit_test(test_hello_gives_the_agents_version),
		cmocka_unit_test(test_update_beyond_the_budget_is_refused_once_when_it_ends),
		cmocka_unit_test(test_what_breaks_the_protocol),
		cmocka_unit_test(test_reset_forgets_the_half_update),
		cmocka_unit_test(test_long_version_is_cut_not_overrun),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
