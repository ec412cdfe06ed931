/* See agent_link.h. One update is under way at a time: while its answer is owed (workers have not all taken it over, or the ring to the agent is full) no
 * further frame is read, so the agent's ring is the queue. Invariant: owed is true from snap_apply to the answer's way into the ring. */
#include "programs/agent_link.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include "channel.pb-c.h"
#include "ctrl/ring/names.h"
#include "ctrl/ring/receiver.h"
#include "dataplane/mesh/names.h"
#include "programs/log.h"
#include "programs/node_hello.h"

#define FRAMES_A_TURN 1024u
#define LATE_US 5000000u /* workers that have not taken a snapshot over by then: said once */

enum owed { OWED_NOTHING, OWED_ADOPTION, OWED_ANSWER };

struct agent_link {
	const struct node_conf *conf;
	struct ring_server *server;
	struct ring_receiver *receiver;
	struct agent_link_params p;
	struct ring_channel *channel; /* borrowed from server, of this turn; NULL when no agent is there */
	bool is_started;
	enum owed owed;
	bool asker_is_gone; /* who sent the update under way */
	bool more_frames;   /* a turn's share is taken, there are more */
	bool said_late;
	bool must_wake;     /* workers: they have answers */
	uint64_t began_us;
	uint8_t *answer; /* packed, when OWED_ANSWER */
	uint32_t n_answer;
	char version[SNAP_VERSION_BYTES];
};

int agent_link_open(const struct node_conf *conf, struct agent_link **out, struct foil_error *err)
{
	struct ring_server_params p = {.path = conf->agent_socket};
	struct agent_link *l = calloc(1, sizeof(*l));
	if (!l)
		return foil_error_set(err, -ENOMEM, "no memory for the agent's channel");
	l->conf = conf;
	l->receiver = ring_receiver_new(0);
	int rc = l->receiver ? ring_server_open(&p, &l->server, err) : foil_error_set(err, -ENOMEM, "no memory for the agent's channel");
	if (rc < 0)
		agent_link_close(l);
	else
		*out = l;
	return rc;
}

void agent_link_close(struct agent_link *l)
{
	if (!l)
		return;
	ring_server_close(l->server);
	ring_receiver_free(l->receiver);
	free(l->answer);
	free(l);
}

void agent_link_start(struct agent_link *l, const struct agent_link_params *p)
{
	l->p = *p;
	l->is_started = true;
}

unsigned int agent_link_fds(const struct agent_link *l, struct pollfd out[3])
{
	return ring_server_fds(l->server, out);
}

bool agent_link_is_waiting(const struct agent_link *l)
{
	return l->owed == OWED_ADOPTION || l->more_frames;
}

bool agent_link_has_names(const struct agent_link *l)
{
	return l->is_started && mesh_names_are_wanted(l->p.mesh);
}

static void count(struct agent_link *l, enum snap_counter c, uint64_t n)
{
	uint64_t *cells = tele_shared_counters(l->p.tele, FOIL_ROOM_CONFIG);
	if (cells)
		cells[c] += n;
}

static void gauge(struct agent_link *l, enum snap_counter c, uint64_t value)
{
	uint64_t *cells = tele_shared_counters(l->p.tele, FOIL_ROOM_CONFIG);
	if (cells)
		cells[c] = value;
}

static void drop(struct agent_link *l)
{
	ring_server_drop(l->server);
	l->channel = NULL;
	l->asker_is_gone = true;
}

/* ---- what goes to the agent */

static bool pack(const ProtobufCMessage *m, uint8_t **out, uint32_t *n_out)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	uint8_t *bytes = n > RING_FRAME_BYTES_MAX ? NULL : malloc(n + 1);
	if (!bytes)
		return false;
	(void)protobuf_c_message_pack(m, bytes); /* n again */
	*out = bytes;
	*n_out = (uint32_t)n;
	return true;
}

static enum ring_result send(struct ring_channel *ch, uint16_t type, const ProtobufCMessage *m)
{
	uint8_t *bytes;
	uint32_t n;
	if (!pack(m, &bytes, &n))
		return RING_FULL;
	enum ring_result r = ring_channel_send(ch, type, bytes, n);
	free(bytes);
	return r;
}

static bool send_hello(struct agent_link *l, struct ring_channel *ch)
{
	Foil__Conf__NodeHello *m = node_hello_new(l->conf);
	char running[SNAP_VERSION_BYTES] = "";
	struct foil_slice version = snap_version(l->p.snap);
	if (!m)
		return false;
	if (version.n_bytes)
		memcpy(running, version.data, FOIL_MIN(version.n_bytes, sizeof(running) - 1));
	m->version = (char *)(uintptr_t)FOIL_VERSION; /* packed, not changed */
	m->has_abi = true;
	m->abi = RING_ABI;
	m->running_version = running;
	bool sent = send(ch, RING_FRAME_NODE_HELLO, &m->base) == RING_OK;
	node_hello_free(m);
	return sent;
}

void agent_link_event(struct agent_link *l, uint64_t wall_us, const char *name, const char *text)
{
	Foil__Conf__Event m = FOIL__CONF__EVENT__INIT;
	m.has_wall_us = true;
	m.wall_us = wall_us;
	m.name = (char *)(uintptr_t)name; /* packed, not changed */
	m.text = (char *)(uintptr_t)text;
	if (l->channel)
		(void)send(l->channel, RING_FRAME_EVENT, &m.base); /* a full ring loses it, as the header says */
}

/* ---- answers */

static void flush_answer(struct agent_link *l)
{
	if (l->owed != OWED_ANSWER)
		return;
	if (!l->asker_is_gone && ring_channel_send(l->channel, RING_FRAME_UPDATE_RESULT, l->answer, l->n_answer) == RING_FULL)
		return; /* again at the next turn */
	free(l->answer);
	l->answer = NULL;
	l->owed = OWED_NOTHING;
}

static void answer(struct agent_link *l, bool applied, Foil__Conf__Rejection **list, size_t n, uint64_t now_us)
{
	Foil__Conf__UpdateResult m = FOIL__CONF__UPDATE_RESULT__INIT;
	m.version = l->version;
	m.has_applied = m.has_apply_us = true;
	m.applied = applied;
	m.apply_us = now_us - l->began_us;
	m.rejections = list;
	m.n_rejections = n;
	l->owed = OWED_NOTHING;
	if (l->asker_is_gone)
		return;
	if (!pack(&m.base, &l->answer, &l->n_answer)) {
		drop(l); /* no memory to say it: the agent sends everything again when it is back */
		return;
	}
	l->owed = OWED_ANSWER;
	flush_answer(l);
}

static void fill_rejection(Foil__Conf__Rejection *m, const struct snap_rejection *r)
{
	foil__conf__rejection__init(m);
	m->has_type = true;
	m->type = (Foil__Conf__ResourceType)r->type;
	m->name = (char *)(uintptr_t)r->name; /* packed, not changed */
	m->field = (char *)(uintptr_t)r->field;
	m->reason = (char *)(uintptr_t)r->reason;
}

static void answer_rejected(struct agent_link *l, uint64_t now_us)
{
	Foil__Conf__Rejection messages[SNAP_REJECTIONS_MAX + 1], *list[SNAP_REJECTIONS_MAX + 1];
	struct snap_rejection more = {0};
	size_t n, n_more;
	const struct snap_rejection *r = snap_rejections(l->p.snap, &n, &n_more);
	for (size_t i = 0; i < n; i++) {
		const char *word = r[i].type == FOIL__CONF__RESOURCE_TYPE__RESOURCE_NONE ? "update" : "resource";
		log_line(LOG_LEVEL_WARNING, "config.rejected", "version %s: %s %s: %s%s%s", l->version, word, r[i].name, r[i].field,
			 r[i].field[0] ? ": " : "", r[i].reason);
		fill_rejection(&messages[i], &r[i]);
		list[i] = &messages[i];
	}
	if (n_more > 0) {
		(void)snprintf(more.reason, sizeof(more.reason), "and %zu more", n_more);
		fill_rejection(&messages[n], &more);
		list[n] = &messages[n];
		n++;
	}
	count(l, SNAP_CTR_UPDATES_REJECTED, 1);
	answer(l, false, list, n, now_us);
}

static void answer_refused(struct agent_link *l, const char *reason, uint64_t now_us)
{
	struct snap_rejection r = {0};
	Foil__Conf__Rejection m, *list[] = {&m};
	(void)snprintf(r.reason, sizeof(r.reason), "%s", reason);
	fill_rejection(&m, &r);
	log_line(LOG_LEVEL_WARNING, "config.rejected", "version %s: %s", l->version, reason);
	count(l, SNAP_CTR_UPDATES_REJECTED, 1);
	answer(l, false, list, 1, now_us);
}

/* ---- updates */

static bool convert(const struct ring_update *from, struct snap_update *to)
{
	struct snap_resource *list = calloc(from->n_resources + 1, sizeof(*list));
	if (!list)
		return false;
	for (size_t i = 0; i < from->n_resources; i++) {
		const struct ring_update_resource *r = &from->resources[i];
		list[i] = (struct snap_resource){.type = r->type, .name = foil_slice_str(r->name), .removed = r->removed,
						 .body = foil_slice_of(r->bytes, r->n_bytes)};
	}
	*to = (struct snap_update){.version = foil_slice_str(from->version), .full = from->full, .resources = list, .n_resources = from->n_resources};
	return true;
}

static void apply(struct agent_link *l, const struct ring_update *update, uint64_t now_us)
{
	struct snap_update u;
	if (!convert(update, &u)) {
		answer_refused(l, "the data plane has no memory for the update", now_us);
		return;
	}
	enum snap_result r = snap_apply(l->p.snap, &u);
	free((void *)(uintptr_t)u.resources);
	switch (r) {
	case SNAP_APPLIED:
		l->owed = OWED_ADOPTION;
		l->said_late = false;
		count(l, SNAP_CTR_UPDATES_APPLIED, 1);
		l->p.wake(l->p.arg);
		l->p.applied(l->p.arg);
		return;
	case SNAP_UNCHANGED:
		count(l, SNAP_CTR_UPDATES_UNCHANGED, 1);
		log_line(LOG_LEVEL_NOTICE, "config.unchanged", "version %s is what runs already", l->version);
		answer(l, true, NULL, 0, now_us);
		return;
	case SNAP_REJECTED:
		answer_rejected(l, now_us);
		return;
	}
	FOIL_UNREACHABLE();
}

static void await_adoption(struct agent_link *l, uint64_t now_us)
{
	struct snap_status st;
	if (l->owed != OWED_ADOPTION)
		return;
	if (mesh_config_is_adopted(l->p.mesh)) {
		snap_status(l->p.snap, &st);
		log_line(LOG_LEVEL_NOTICE, "config.applied", "version %s in %llu us: %zu listeners, %zu route tables, %zu clusters, %zu endpoints, %zu KiB",
			 l->version, (unsigned long long)(now_us - l->began_us), st.n_listeners, st.n_routes, st.n_clusters, st.n_endpoints,
			 st.n_bytes / 1024);
		answer(l, true, NULL, 0, now_us);
	} else if (!l->said_late && now_us - l->began_us > LATE_US) {
		log_line(LOG_LEVEL_ERROR, "config.late", "a worker has not taken over version %s for %u s", l->version, LATE_US / 1000000);
		l->said_late = true;
	}
}

static void protocol_error(struct agent_link *l, const char *reason)
{
	log_line(LOG_LEVEL_ERROR, "agent.protocol", "%s; the channel is closed, the running snapshot stays", reason);
	count(l, SNAP_CTR_AGENT_PROTOCOL_ERRORS, 1);
	drop(l);
}

/* ---- names that requests bring */

static bool take_name_answer(struct agent_link *l, const uint8_t *payload, uint32_t n)
{
	struct ring_name_answer from;
	struct mesh_name_answer to = {.outcome = MESH_NAME_FAILED};
	if (!ring_name_answer_read(payload, n, &from)) {
		protocol_error(l, "a NameAnswer that cannot be read");
		return false;
	}
	_Static_assert(sizeof(to.name) == sizeof(from.name) && sizeof(to.ip) == sizeof(from.ip), "the channel's limits are the mesh's");
	memcpy(to.name, from.name, sizeof(to.name));
	memcpy(to.ip, from.ip, sizeof(to.ip));
	to.n_addresses = from.n_addresses;
	to.ttl_s = from.ttl_s;
	if (from.outcome == FOIL__CONF__NAME_OUTCOME__NAME_FOUND)
		to.outcome = MESH_NAME_FOUND;
	else if (from.outcome == FOIL__CONF__NAME_OUTCOME__NAME_NONE)
		to.outcome = MESH_NAME_NONE;
	mesh_names_answer(l->p.mesh, &to);
	l->must_wake = true;
	return true;
}

/* Without an agent, or with one that answers none, questions are lost: who asked asks again, and gives up in time. */
static void send_questions(struct agent_link *l)
{
	char name[MESH_NAME_BYTES];
	for (unsigned int i = 0; i < FRAMES_A_TURN && mesh_names_question(l->p.mesh, name); i++) {
		Foil__Conf__NameQuestion m = FOIL__CONF__NAME_QUESTION__INIT;
		m.name = name;
		if (l->channel && ring_receiver_agent_resolves(l->receiver))
			(void)send(l->channel, RING_FRAME_NAME_QUESTION, &m.base); /* a full ring loses it */
	}
}

/* False: the channel is gone, or there is nothing more to do now. */
static bool take_frame(struct agent_link *l, uint64_t now_us)
{
	struct ring_channel *ch = l->channel;
	uint16_t type;
	const uint8_t *payload;
	uint32_t n;
	struct ring_update update;
	char reason[RING_REASON_BYTES];
	enum ring_result r = ring_channel_recv(ch, &type, &payload, &n);
	if (r == RING_EMPTY)
		return false;
	if (r != RING_OK) {
		protocol_error(l, ch->reason);
		return false;
	}
	if (type == RING_FRAME_UPDATE_BEGIN) {
		l->began_us = now_us;
		l->asker_is_gone = false;
	}
	if (type == RING_FRAME_NAME_ANSWER)
		return take_name_answer(l, payload, n);
	enum ring_receive got = ring_receiver_frame(l->receiver, type, payload, n, &update, reason);
	if (got == RING_RECEIVE_UPDATE || got == RING_RECEIVE_REFUSED)
		(void)snprintf(l->version, sizeof(l->version), "%s", ring_receiver_version(l->receiver)); /* as long at most */
	switch (got) {
	case RING_RECEIVE_MORE: return true;
	case RING_RECEIVE_HELLO:
		log_line(LOG_LEVEL_NOTICE, "agent.hello", "foil-agent %s", ring_receiver_agent_version(l->receiver));
		return true;
	case RING_RECEIVE_UPDATE: apply(l, &update, now_us); return l->owed == OWED_NOTHING;
	case RING_RECEIVE_REFUSED: answer_refused(l, reason, now_us); return l->owed == OWED_NOTHING;
	case RING_RECEIVE_PROTOCOL: protocol_error(l, reason); return false;
	}
	FOIL_UNREACHABLE();
}

static void connected(struct agent_link *l)
{
	ring_receiver_reset(l->receiver);
	count(l, SNAP_CTR_AGENT_CONNECTIONS, 1);
	log_line(LOG_LEVEL_NOTICE, "agent.connected", "an agent is connected");
	if (!send_hello(l, l->channel))
		protocol_error(l, "the ring takes no hello");
}

static void publish_gauges(struct agent_link *l)
{
	struct snap_status st;
	snap_status(l->p.snap, &st);
	gauge(l, SNAP_CTR_RESOURCES, st.n_resources);
	gauge(l, SNAP_CTR_SNAPSHOT_BYTES, st.n_bytes);
	gauge(l, SNAP_CTR_MEMORY_BYTES, st.n_bytes_in_memory);
	gauge(l, SNAP_CTR_OLD_SNAPSHOTS, st.n_old);
	gauge(l, SNAP_CTR_AGENT_CONNECTED, l->channel != NULL);
}

void agent_link_turn(struct agent_link *l, uint64_t now_us)
{
	bool is_new;
	char reason[RING_REASON_BYTES];
	if (!l->is_started)
		return;
	bool had = l->channel != NULL;
	l->channel = ring_server_turn(l->server, &is_new, reason);
	if (reason[0] && had && (!l->channel || is_new)) {
		log_line(LOG_LEVEL_WARNING, "agent.gone", "%s; the running snapshot stays", reason);
	} else if (reason[0]) {
		log_line(LOG_LEVEL_WARNING, "agent.refused", "%s", reason);
		count(l, SNAP_CTR_AGENTS_REFUSED, 1);
	}
	if (!l->channel || is_new)
		l->asker_is_gone = true; /* whoever waits for an answer */
	if (is_new)
		connected(l);
	await_adoption(l, now_us);
	flush_answer(l);
	l->more_frames = l->channel != NULL && l->owed == OWED_NOTHING;
	for (unsigned int i = 0; l->more_frames && i < FRAMES_A_TURN; i++)
		l->more_frames = take_frame(l, now_us);
	if (mesh_names_are_wanted(l->p.mesh))
		send_questions(l);
	if (l->must_wake)
		l->p.wake(l->p.arg);
	l->must_wake = false;
	publish_gauges(l);
}
