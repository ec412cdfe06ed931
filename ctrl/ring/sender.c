/* Sends sets of resources to the data plane, see sender.h. One update is under way at a time: what was sent is compared with what the data plane said it
 * applied, so that a delta is always one against the truth. Invariant: has holds the resources (names and hashes) of the set last applied on this
 * connection; flight is the set being sent or waiting for its answer; next is the newest set not yet begun. */
#include "ctrl/ring/sender.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RETRY_MS_MIN 100u
#define RETRY_MS_MAX 2000u
#define HANDSHAKE_MS 1000
#define FRAMES_A_TURN 4096u

/* Names and bytes of resources, shared by the sets that have them. */
struct block {
	unsigned int n_refs;
	char bytes[];
};

struct set {
	char *version;
	struct ring_resource *list; /* sorted by type, name; strings and bytes are of the blocks */
	size_t n;
	struct block **blocks;
	size_t n_blocks;
};

enum phase { PHASE_IDLE, PHASE_BEGIN, PHASE_RESOURCES, PHASE_REMOVALS, PHASE_END, PHASE_WAIT };

struct ring_sender {
	struct ring_sender_params p;
	char *socket_path, *agent_version;
	struct ring_channel *channel;
	bool is_greeted, told_disconnected, full;
	uint64_t retry_at_ms, retry_ms;
	struct set *has, *flight, *next;
	enum phase phase;
	size_t at;        /* in flight's list, then in has' list */
	uint32_t n_sent;
	uint8_t *buffer;
	size_t buffer_bytes;
};

static void set_free(struct set *s)
{
	if (!s)
		return;
	for (size_t i = 0; i < s->n_blocks; i++)
		if (--s->blocks[i]->n_refs == 0)
			free(s->blocks[i]);
	free(s->blocks);
	free(s->version);
	free(s->list);
	free(s);
}

static int compare(const void *a, const void *b)
{
	const struct ring_resource *x = a, *y = b;
	if (x->type != y->type)
		return x->type < y->type ? -1 : 1;
	return strcmp(x->name, y->name);
}

/* Room for n resources and n_blocks blocks, none there yet. */
static struct set *set_alloc(const char *version, size_t n, size_t n_blocks)
{
	struct set *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->version = strdup(version);
	s->list = malloc((n + 1) * sizeof(*s->list));
	s->blocks = malloc(n_blocks * sizeof(*s->blocks));
	if (!s->version || !s->list || !s->blocks) {
		set_free(s);
		return NULL;
	}
	return s;
}

/* Copies what from's resources point to; to[i] is from[i] with pointers into the block. */
static struct block *block_new(const struct ring_resource *from, struct ring_resource *to, size_t n)
{
	size_t need = sizeof(struct block) + 1;
	for (size_t i = 0; i < n; i++)
		need += strlen(from[i].name) + 1 + from[i].n_bytes;
	struct block *b = malloc(need);
	if (!b)
		return NULL;
	b->n_refs = 1;
	char *at = b->bytes;
	for (size_t i = 0; i < n; i++) {
		size_t name_bytes = strlen(from[i].name) + 1;
		to[i] = from[i];
		to[i].name = memcpy(at, from[i].name, name_bytes);
		at += name_bytes;
		if (from[i].n_bytes)
			memcpy(at, from[i].bytes, from[i].n_bytes);
		to[i].bytes = (uint8_t *)at;
		at += from[i].n_bytes;
	}
	return b;
}

static struct set *set_new(const char *version, const struct ring_resource *from, size_t n)
{
	struct set *s = set_alloc(version, n, 1);
	struct block *b = s ? block_new(from, s->list, n) : NULL;
	if (!b) {
		set_free(s);
		return NULL;
	}
	s->blocks[s->n_blocks++] = b;
	s->n = n;
	qsort(s->list, n, sizeof(*s->list), compare);
	return s;
}

static const struct ring_resource *set_find(const struct set *s, const struct ring_resource *key)
{
	return s ? bsearch(key, s->list, s->n, sizeof(*s->list), compare) : NULL;
}

/* base with some of its resources replaced. NULL: no memory, or (*is_unknown) one that base does not have. */
static struct set *set_changed(const char *version, const struct set *base, const struct ring_resource *from, size_t n, bool *is_unknown)
{
	struct ring_resource *fresh = malloc((n + 1) * sizeof(*fresh));
	struct block *b = fresh ? block_new(from, fresh, n) : NULL;
	struct set *s = b ? set_alloc(version, base->n, base->n_blocks + 1) : NULL;
	*is_unknown = false;
	if (!s) {
		free(fresh);
		free(b);
		return NULL;
	}
	memcpy(s->list, base->list, base->n * sizeof(*s->list));
	s->n = base->n;
	for (; s->n_blocks < base->n_blocks; s->n_blocks++) {
		s->blocks[s->n_blocks] = base->blocks[s->n_blocks];
		s->blocks[s->n_blocks]->n_refs++;
	}
	s->blocks[s->n_blocks++] = b;
	for (size_t i = 0; i < n && !*is_unknown; i++) {
		const struct ring_resource *old = set_find(s, &fresh[i]);
		*is_unknown = old == NULL;
		if (old)
			s->list[old - s->list] = fresh[i];
	}
	free(fresh);
	if (!*is_unknown)
		return s;
	set_free(s);
	return NULL;
}

struct ring_sender *ring_sender_new(const struct ring_sender_params *p)
{
	struct ring_sender *s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->p = *p;
	s->socket_path = strdup(p->socket_path);
	s->agent_version = strdup(p->agent_version);
	s->retry_ms = RETRY_MS_MIN;
	if (!s->socket_path || !s->agent_version) {
		ring_sender_free(s);
		return NULL;
	}
	return s;
}

void ring_sender_free(struct ring_sender *s)
{
	if (!s)
		return;
	ring_channel_free(s->channel);
	set_free(s->has);
	set_free(s->flight);
	set_free(s->next);
	free(s->socket_path);
	free(s->agent_version);
	free(s->buffer);
	free(s);
}

int ring_sender_set(struct ring_sender *s, const char *version, const struct ring_resource *resources, size_t n_resources)
{
	struct set *set = set_new(version, resources, n_resources);
	if (!set)
		return -ENOMEM;
	set_free(s->next);
	s->next = set;
	return 0;
}

int ring_sender_change(struct ring_sender *s, const char *version, const struct ring_resource *resources, size_t n_resources)
{
	const struct set *newest = s->next ? s->next : s->flight ? s->flight : s->has;
	bool is_unknown = true;
	struct set *set = newest ? set_changed(version, newest, resources, n_resources, &is_unknown) : NULL;
	if (!set)
		return is_unknown ? -ENOENT : -ENOMEM;
	set_free(s->next);
	s->next = set;
	return 0;
}

bool ring_sender_is_connected(const struct ring_sender *s)
{
	return s->channel && s->is_greeted;
}

unsigned int ring_sender_fds(const struct ring_sender *s, struct pollfd out[2])
{
	return s->channel ? ring_channel_fds(s->channel, out) : 0;
}

/* ---- frames */

static enum ring_result send_message(struct ring_sender *s, uint16_t type, const ProtobufCMessage *m)
{
	size_t n = protobuf_c_message_get_packed_size(m);
	if (n > RING_FRAME_BYTES_MAX)
		return RING_TOO_LARGE;
	if (n > s->buffer_bytes) {
		uint8_t *bigger = realloc(s->buffer, n);
		if (!bigger)
			return RING_FULL; /* again at the next turn */
		s->buffer = bigger;
		s->buffer_bytes = n;
	}
	(void)protobuf_c_message_pack(m, s->buffer); /* n again */
	return ring_channel_send(s->channel, type, s->buffer, (uint32_t)n);
}

static enum ring_result send_hello(struct ring_sender *s)
{
	Foil__Conf__AgentHello m = FOIL__CONF__AGENT_HELLO__INIT;
	m.agent_version = s->agent_version;
	m.has_abi = true;
	m.abi = RING_ABI;
	m.has_resolves_names = true;
	m.resolves_names = s->p.question != NULL;
	return send_message(s, RING_FRAME_AGENT_HELLO, &m.base);
}

static enum ring_result send_begin(struct ring_sender *s)
{
	Foil__Conf__UpdateBegin m = FOIL__CONF__UPDATE_BEGIN__INIT;
	m.version = s->flight->version;
	m.has_full = true;
	m.full = s->full;
	return send_message(s, RING_FRAME_UPDATE_BEGIN, &m.base);
}

static enum ring_result send_resource(struct ring_sender *s, const struct ring_resource *r, bool removed)
{
	Foil__Conf__UpdateResource m = FOIL__CONF__UPDATE_RESOURCE__INIT;
	m.has_type = true;
	m.type = (Foil__Conf__ResourceType)r->type;
	m.name = (char *)(uintptr_t)r->name; /* packed, not changed */
	m.has_removed = true;
	m.removed = removed;
	m.has_body = !removed;
	m.body = (ProtobufCBinaryData){.len = r->n_bytes, .data = (uint8_t *)(uintptr_t)r->bytes};
	return send_message(s, RING_FRAME_UPDATE_RESOURCE, &m.base);
}

static enum ring_result send_end(struct ring_sender *s)
{
	Foil__Conf__UpdateEnd m = FOIL__CONF__UPDATE_END__INIT;
	m.version = s->flight->version;
	m.has_n_resources = true;
	m.n_resources = s->n_sent;
	return send_message(s, RING_FRAME_UPDATE_END, &m.base);
}

/* ---- the connection */

static void disconnect(struct ring_sender *s, const char *why, uint64_t now_ms)
{
	char copy[RING_REASON_BYTES];
	(void)snprintf(copy, sizeof(copy), "%s", why); /* why may lie in the channel */
	ring_channel_free(s->channel);
	s->channel = NULL;
	s->is_greeted = false;
	s->phase = PHASE_IDLE;
	if (!s->next) { /* the newest set must be sent again, whatever stood of it */
		struct set **newest = s->flight ? &s->flight : &s->has;
		s->next = *newest;
		*newest = NULL;
	}
	set_free(s->has);
	s->has = NULL;
	s->retry_at_ms = now_ms + s->retry_ms;
	if (!s->told_disconnected)
		s->p.disconnected(s->p.arg, copy);
	s->told_disconnected = true;
}

static void try_connect(struct ring_sender *s, uint64_t now_ms)
{
	char reason[RING_REASON_BYTES];
	if (now_ms < s->retry_at_ms)
		return;
	s->channel = ring_client_connect(s->socket_path, HANDSHAKE_MS, reason);
	if (!s->channel) {
		disconnect(s, reason, now_ms);
		s->retry_ms = s->retry_ms * 2 < RETRY_MS_MAX ? s->retry_ms * 2 : RETRY_MS_MAX;
		return;
	}
	s->retry_ms = RETRY_MS_MIN;
	s->told_disconnected = false;
	s->full = true;
	if (send_hello(s) != RING_OK)
		disconnect(s, "the ring takes no hello", now_ms);
}

static bool on_result(struct ring_sender *s, const uint8_t *payload, uint32_t n)
{
	Foil__Conf__UpdateResult *m = foil__conf__update_result__unpack(NULL, n, payload);
	if (!m)
		return false;
	bool ours = s->phase == PHASE_WAIT && m->version && strcmp(m->version, s->flight->version) == 0;
	if (ours && m->applied) {
		set_free(s->has);
		s->has = s->flight;
		s->full = false;
	}
	if (ours && !m->applied)
		set_free(s->flight); /* a rejected set is not sent again until the sources change or the connection does */
	if (ours) {
		s->flight = NULL;
		s->phase = PHASE_IDLE;
	}
	s->p.result(s->p.arg, m);
	foil__conf__update_result__free_unpacked(m, NULL);
	return true;
}

static bool on_frame(struct ring_sender *s, uint16_t type, const uint8_t *payload, uint32_t n)
{
	if (type == RING_FRAME_NODE_HELLO) {
		Foil__Conf__NodeHello *m = foil__conf__node_hello__unpack(NULL, n, payload);
		if (!m)
			return false;
		s->is_greeted = true;
		s->p.node(s->p.arg, m);
		foil__conf__node_hello__free_unpacked(m, NULL);
		return true;
	}
	if (type == RING_FRAME_UPDATE_RESULT)
		return on_result(s, payload, n);
	if (type == RING_FRAME_EVENT) {
		Foil__Conf__Event *m = foil__conf__event__unpack(NULL, n, payload);
		if (m && s->p.event)
			s->p.event(s->p.arg, m);
		bool good = m != NULL;
		foil__conf__event__free_unpacked(m, NULL);
		return good;
	}
	if (type == RING_FRAME_NAME_QUESTION && s->p.question) {
		char name[RING_NAME_BYTES];
		bool is_good = ring_name_question_read(payload, n, name);
		if (is_good)
			s->p.question(s->p.arg, name);
		return is_good;
	}
	return false;
}

static void receive(struct ring_sender *s, uint64_t now_ms)
{
	for (unsigned int i = 0; s->channel && i < FRAMES_A_TURN; i++) {
		uint16_t type;
		const uint8_t *payload;
		uint32_t n;
		enum ring_result r = ring_channel_recv(s->channel, &type, &payload, &n);
		if (r == RING_EMPTY)
			return;
		if (r != RING_OK)
			disconnect(s, s->channel->reason, now_ms);
		else if (!on_frame(s, type, payload, n))
			disconnect(s, "the data plane sent a message that we cannot read", now_ms);
	}
}

/* One step of the update under way. RING_OK: go on. */
static enum ring_result step(struct ring_sender *s)
{
	enum ring_result r = RING_OK;
	switch (s->phase) {
	case PHASE_IDLE:
	case PHASE_WAIT:
		return RING_EMPTY;
	case PHASE_BEGIN:
		r = send_begin(s);
		if (r == RING_OK)
			s->phase = PHASE_RESOURCES;
		s->at = 0;
		s->n_sent = 0;
		return r;
	case PHASE_RESOURCES:
		if (s->at == s->flight->n) {
			s->phase = PHASE_REMOVALS;
			s->at = 0;
			return RING_OK;
		}
		const struct ring_resource *now = &s->flight->list[s->at], *before = s->full ? NULL : set_find(s->has, now);
		bool same = before && before->hash == now->hash && before->n_bytes == now->n_bytes;
		r = same ? RING_OK : send_resource(s, now, false);
		s->at += r == RING_OK;
		s->n_sent += r == RING_OK && !same;
		return r;
	case PHASE_REMOVALS:
		if (s->full || !s->has || s->at == s->has->n) {
			s->phase = PHASE_END;
			return RING_OK;
		}
		const struct ring_resource *old = &s->has->list[s->at];
		bool stays = set_find(s->flight, old) != NULL;
		r = stays ? RING_OK : send_resource(s, old, true);
		s->at += r == RING_OK;
		s->n_sent += r == RING_OK && !stays;
		return r;
	case PHASE_END:
		r = send_end(s);
		if (r == RING_OK)
			s->phase = PHASE_WAIT;
		return r;
	}
	return RING_EMPTY;
}

/* A resource that fits no frame: the set can never be sent. The half-sent update dies with the connection. */
static void give_up_large(struct ring_sender *s, uint64_t now_ms)
{
	Foil__Conf__Rejection why = FOIL__CONF__REJECTION__INIT, *list[] = {&why};
	Foil__Conf__UpdateResult m = FOIL__CONF__UPDATE_RESULT__INIT;
	const struct ring_resource *r = s->phase == PHASE_RESOURCES ? &s->flight->list[s->at] : NULL;
	why.has_type = r != NULL;
	why.type = r ? (Foil__Conf__ResourceType)r->type : FOIL__CONF__RESOURCE_TYPE__RESOURCE_NONE;
	why.name = r ? (char *)(uintptr_t)r->name : s->flight->version;
	why.reason = (char *)(uintptr_t)"larger than a frame of the ring (24 MiB); split the resource";
	m.version = s->flight->version;
	m.has_applied = true;
	m.rejections = list;
	m.n_rejections = 1;
	s->p.result(s->p.arg, &m);
	set_free(s->flight);
	s->flight = NULL;
	disconnect(s, "the update under way cannot be finished", now_ms);
}

static void transmit(struct ring_sender *s, uint64_t now_ms)
{
	if (s->phase == PHASE_IDLE && s->next) {
		set_free(s->flight);
		s->flight = s->next;
		s->next = NULL;
		s->phase = PHASE_BEGIN;
	}
	enum ring_result r;
	while ((r = step(s)) == RING_OK)
		continue;
	if (r == RING_TOO_LARGE)
		give_up_large(s, now_ms);
	else if (r != RING_EMPTY && r != RING_FULL)
		disconnect(s, s->channel->reason, now_ms);
}

void ring_sender_answer(struct ring_sender *s, const struct ring_name_answer *a)
{
	if (s->channel && s->is_greeted)
		(void)ring_name_answer_send(s->channel, a); /* lost, as the header says; a channel that broke is seen at the next turn */
}

void ring_sender_turn(struct ring_sender *s, uint64_t now_ms)
{
	if (!s->channel)
		try_connect(s, now_ms);
	if (!s->channel)
		return;
	receive(s, now_ms);
	if (s->channel && s->is_greeted)
		transmit(s, now_ms);
	if (!s->channel)
		return;
	ring_channel_turn(s->channel);
	if (s->channel->is_broken)
		disconnect(s, s->channel->reason, now_ms);
}
