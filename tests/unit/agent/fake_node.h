/* A data plane as foil-agent sees it: the ring's server, a metrics segment on its socket, and answers that the test chooses. */
#pragma once

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "channel.pb-c.h"
#include "snapshot.pb-c.h"
#include "ctrl/ring/channel.h"
#include "ctrl/ring/names.h"
#include "ctrl/ring/receiver.h"
#include "dataplane/core/error.h"
#include "tests/unit/telemetry/tele_support.h"

struct fake_node {
	struct ring_server *server;
	struct ring_receiver *receiver;
	struct tele_shared *tele;
	int stats_fd;
	char stats_path[128];
	const char *reject_with;     /* NULL: everything is applied */
	bool keep_silent;            /* answer nothing */
	/* of the newest update */
	char version[128];
	bool was_full;
	size_t n_resources, n_removed, n_listeners, n_clusters, n_updates;
	char addresses[256];         /* of all endpoints in it */
	uint64_t n_requests_seen;
	const char *ask;             /* a host to ask for, once an update has come */
	struct ring_name_answer answer;
	size_t n_answers;
};

static inline void fake_node_send(struct ring_channel *ch, uint16_t type, const ProtobufCMessage *m)
{
	uint8_t bytes[4096];
	size_t n = protobuf_c_message_get_packed_size(m);
	assert_true(n <= sizeof(bytes));
	(void)protobuf_c_message_pack(m, bytes); /* n again */
	assert_int_equal(ring_channel_send(ch, type, bytes, (uint32_t)n), RING_OK);
}

static inline void fake_node_hello(struct ring_channel *ch)
{
	Foil__Conf__GatewayAddress gateway = FOIL__CONF__GATEWAY_ADDRESS__INIT, *gateways[] = {&gateway};
	Foil__Conf__NodeHello m = FOIL__CONF__NODE_HELLO__INIT;
	char *keys[] = {(char[]){"istio"}}, *values[] = {(char[]){"ingressgateway"}}, *addresses[] = {(char[]){"198.18.0.1"}};
	char *cidrs[] = {(char[]){"198.18.10.0/24"}}, name[] = "fake", version[] = "9.9";
	gateway.n_label_keys = gateway.n_label_values = gateway.n_addresses = 1;
	gateway.label_keys = keys;
	gateway.label_values = values;
	gateway.addresses = addresses;
	m.node_name = name;
	m.version = version;
	m.has_abi = m.has_n_workers = true;
	m.abi = RING_ABI;
	m.n_workers = 1;
	m.n_gateways = 1;
	m.gateways = gateways;
	m.n_service_cidrs = 1;
	m.service_cidrs = cidrs;
	fake_node_send(ch, RING_FRAME_NODE_HELLO, &m.base);
}

static inline void fake_node_answer(struct fake_node *n, struct ring_channel *ch)
{
	Foil__Conf__Rejection why = FOIL__CONF__REJECTION__INIT, *list[] = {&why};
	Foil__Conf__UpdateResult m = FOIL__CONF__UPDATE_RESULT__INIT;
	char name[] = "198.18.0.1_80", field[] = "port";
	m.version = n->version;
	m.has_applied = true;
	m.applied = !n->reject_with;
	if (n->reject_with) {
		why.has_type = true;
		why.type = FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER;
		why.name = name;
		why.field = field;
		why.reason = (char *)(uintptr_t)n->reject_with; /* packed, not changed */
		m.rejections = list;
		m.n_rejections = 1;
	}
	fake_node_send(ch, RING_FRAME_UPDATE_RESULT, &m.base);
}

static inline void fake_node_take_endpoints(struct fake_node *n, const struct ring_update_resource *r)
{
	if (r->type != FOIL__CONF__RESOURCE_TYPE__RESOURCE_ENDPOINTS || r->removed)
		return;
	Foil__Conf__Endpoints *e = foil__conf__endpoints__unpack(NULL, r->n_bytes, r->bytes);
	assert_non_null(e);
	for (size_t i = 0; i < e->n_endpoints; i++) {
		size_t at = strlen(n->addresses);
		(void)snprintf(n->addresses + at, sizeof(n->addresses) - at, "%s%s", at ? " " : "", e->endpoints[i]->address);
	}
	foil__conf__endpoints__free_unpacked(e, NULL);
}

static inline void fake_node_take(struct fake_node *n, struct ring_channel *ch, const struct ring_update *u)
{
	n->n_updates++;
	(void)snprintf(n->version, sizeof(n->version), "%s", u->version);
	n->was_full = u->full;
	n->n_resources = u->n_resources;
	n->n_removed = n->n_listeners = n->n_clusters = 0;
	n->addresses[0] = 0;
	for (size_t i = 0; i < u->n_resources; i++) {
		fake_node_take_endpoints(n, &u->resources[i]);
		n->n_removed += u->resources[i].removed;
		n->n_listeners += u->resources[i].type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_LISTENER && !u->resources[i].removed;
		n->n_clusters += u->resources[i].type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_CLUSTER && !u->resources[i].removed;
	}
	if (!n->keep_silent)
		fake_node_answer(n, ch);
}

static inline void fake_node_ask(struct fake_node *n, struct ring_channel *ch)
{
	Foil__Conf__NameQuestion m = FOIL__CONF__NAME_QUESTION__INIT;
	if (!n->ask || !n->n_updates)
		return;
	assert_true(ring_receiver_agent_resolves(n->receiver));
	m.name = (char *)(uintptr_t)n->ask; /* packed, not changed */
	fake_node_send(ch, RING_FRAME_NAME_QUESTION, &m.base);
	n->ask = NULL;
}

/* One turn of its housekeeping. */
static inline void fake_node_turn(struct fake_node *n)
{
	char reason[RING_REASON_BYTES];
	bool is_new = false;
	if (!n->server)
		return;
	struct ring_channel *ch = ring_server_turn(n->server, &is_new, reason);
	if (n->stats_fd >= 0)
		(void)tele_handover_turn(n->stats_fd, n->tele);
	if (!ch)
		return;
	if (is_new) {
		ring_receiver_reset(n->receiver);
		fake_node_hello(ch);
	}
	uint16_t type;
	const uint8_t *payload;
	uint32_t n_bytes;
	while (ring_channel_recv(ch, &type, &payload, &n_bytes) == RING_OK) {
		struct ring_update update;
		if (type == RING_FRAME_NAME_ANSWER) {
			assert_true(ring_name_answer_read(payload, n_bytes, &n->answer));
			n->n_answers++;
			continue;
		}
		enum ring_receive got = ring_receiver_frame(n->receiver, type, payload, n_bytes, &update, reason);
		assert_true(got == RING_RECEIVE_MORE || got == RING_RECEIVE_HELLO || got == RING_RECEIVE_UPDATE);
		if (got == RING_RECEIVE_UPDATE)
			fake_node_take(n, ch, &update);
	}
	fake_node_ask(n, ch);
	ring_channel_turn(ch);
}

static inline void fake_node_open(struct fake_node *n, const char *socket_path)
{
	struct foil_error err = {0};
	struct ring_server_params p = {.path = socket_path};
	n->receiver = ring_receiver_new(0);
	assert_non_null(n->receiver);
	if (ring_server_open(&p, &n->server, &err) != 0)
		fail_msg("%s", err.text);
	n->tele = t_shared((struct tele_shared_params){0});
	(void)snprintf(n->stats_path, sizeof(n->stats_path), "%s.stats", socket_path);
	n->stats_fd = tele_handover_listen(n->stats_path, &err);
	if (n->stats_fd < 0)
		fail_msg("%s", err.text);
}

static inline void fake_node_close(struct fake_node *n)
{
	ring_server_close(n->server);
	ring_receiver_free(n->receiver);
	(void)close(n->stats_fd);
	(void)unlink(n->stats_path);
	tele_shared_free(n->tele);
	*n = (struct fake_node){.stats_fd = -1};
}
