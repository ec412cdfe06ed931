/* Puts an update together, see receiver.h. Messages of the channel are small and flat; each is unpacked by protobuf-c, copied and freed at once, so that
 * the memory of an update is what is counted here. Invariant: n_bytes is the sum of all that is kept of the current update, and at most bytes_max. */
#include "ctrl/ring/receiver.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.pb-c.h"

#define VERSION_BYTES 128
#define RESOURCES_MAX (4u << 20)

struct ring_receiver {
	size_t bytes_max, n_bytes;
	bool in_update, is_whole, full;
	const char *refusal; /* a literal: why the update that arrives is refused; the rest of it is thrown away */
	char version[VERSION_BYTES], agent_version[VERSION_BYTES];
	bool agent_resolves;
	struct ring_update_resource *list;
	size_t n, cap;
};

struct ring_receiver *ring_receiver_new(size_t bytes_max)
{
	struct ring_receiver *r = calloc(1, sizeof(*r));
	if (r)
		r->bytes_max = bytes_max ? bytes_max : RING_UPDATE_BYTES_MAX;
	return r;
}

static void forget(struct ring_receiver *r)
{
	for (size_t i = 0; i < r->n; i++)
		free((void *)(uintptr_t)r->list[i].name); /* name and bytes are one block */
	r->n = 0;
	r->n_bytes = 0;
	r->in_update = r->is_whole = false;
}

void ring_receiver_reset(struct ring_receiver *r)
{
	forget(r);
	r->refusal = NULL;
	r->version[0] = r->agent_version[0] = 0;
	r->agent_resolves = false;
}

void ring_receiver_free(struct ring_receiver *r)
{
	if (!r)
		return;
	forget(r);
	free(r->list);
	free(r);
}

const char *ring_receiver_version(const struct ring_receiver *r)
{
	return r->version;
}

const char *ring_receiver_agent_version(const struct ring_receiver *r)
{
	return r->agent_version;
}

bool ring_receiver_agent_resolves(const struct ring_receiver *r)
{
	return r->agent_resolves;
}

static enum ring_receive protocol(char reason[RING_REASON_BYTES], const char *what)
{
	(void)snprintf(reason, RING_REASON_BYTES, "%s", what); /* literals fit */
	return RING_RECEIVE_PROTOCOL;
}

/* Told when the update ends, so that each update has one answer. */
static enum ring_receive refuse(struct ring_receiver *r, const char *what)
{
	forget(r);
	r->in_update = true;
	r->refusal = what;
	return RING_RECEIVE_MORE;
}

static void keep_text(char *to, const char *from)
{
	(void)snprintf(to, VERSION_BYTES, "%s", from ? from : ""); /* a longer one is cut: it is only compared and shown */
}

static enum ring_receive on_hello(struct ring_receiver *r, const uint8_t *payload, uint32_t n, char reason[RING_REASON_BYTES])
{
	Foil__Conf__AgentHello *m = foil__conf__agent_hello__unpack(NULL, n, payload);
	if (!m)
		return protocol(reason, "an AgentHello that does not unpack");
	keep_text(r->agent_version, m->agent_version);
	r->agent_resolves = m->resolves_names;
	foil__conf__agent_hello__free_unpacked(m, NULL);
	return RING_RECEIVE_HELLO;
}

static enum ring_receive on_begin(struct ring_receiver *r, const uint8_t *payload, uint32_t n, char reason[RING_REASON_BYTES])
{
	Foil__Conf__UpdateBegin *m = foil__conf__update_begin__unpack(NULL, n, payload);
	if (!m)
		return protocol(reason, "an UpdateBegin that does not unpack");
	bool nested = r->in_update;
	forget(r);
	r->in_update = true;
	r->refusal = NULL;
	r->full = m->full;
	keep_text(r->version, m->version);
	foil__conf__update_begin__free_unpacked(m, NULL);
	return nested ? protocol(reason, "an UpdateBegin inside an update") : RING_RECEIVE_MORE;
}

static bool room_in_list(struct ring_receiver *r)
{
	if (r->n < r->cap)
		return true;
	size_t cap = r->cap ? 2 * r->cap : 64;
	struct ring_update_resource *bigger = reallocarray(r->list, cap, sizeof(*bigger));
	if (!bigger)
		return false;
	r->list = bigger;
	r->cap = cap;
	return true;
}

static enum ring_receive keep_resource(struct ring_receiver *r, const Foil__Conf__UpdateResource *m)
{
	size_t name_bytes = strlen(m->name) + 1, need = name_bytes + m->body.len + sizeof(struct ring_update_resource);
	if (need > r->bytes_max - r->n_bytes || r->n >= RESOURCES_MAX)
		return refuse(r, "the snapshot is larger than the data plane's budget for one");
	char *block = malloc(name_bytes + m->body.len);
	if (!block || !room_in_list(r)) {
		free(block);
		return refuse(r, "the data plane has no memory for the snapshot");
	}
	memcpy(block, m->name, name_bytes);
	if (m->body.len)
		memcpy(block + name_bytes, m->body.data, m->body.len);
	r->list[r->n++] = (struct ring_update_resource){.type = (uint32_t)m->type, .name = block, .removed = m->removed,
							.bytes = (const uint8_t *)block + name_bytes, .n_bytes = m->body.len};
	r->n_bytes += need;
	return RING_RECEIVE_MORE;
}

static enum ring_receive on_resource(struct ring_receiver *r, const uint8_t *payload, uint32_t n, char reason[RING_REASON_BYTES])
{
	if (!r->in_update)
		return protocol(reason, "an UpdateResource outside an update");
	if (r->refusal)
		return RING_RECEIVE_MORE;
	Foil__Conf__UpdateResource *m = foil__conf__update_resource__unpack(NULL, n, payload);
	if (!m)
		return protocol(reason, "an UpdateResource that does not unpack");
	enum ring_receive rc = m->name ? keep_resource(r, m) : protocol(reason, "an UpdateResource without a name");
	foil__conf__update_resource__free_unpacked(m, NULL);
	return rc;
}

static enum ring_receive on_end(struct ring_receiver *r, const uint8_t *payload, uint32_t n, struct ring_update *out, char reason[RING_REASON_BYTES])
{
	if (!r->in_update)
		return protocol(reason, "an UpdateEnd outside an update");
	r->in_update = false;
	if (r->refusal) {
		(void)snprintf(reason, RING_REASON_BYTES, "%s", r->refusal); /* literals fit */
		r->refusal = NULL;
		return RING_RECEIVE_REFUSED;
	}
	Foil__Conf__UpdateEnd *m = foil__conf__update_end__unpack(NULL, n, payload);
	if (!m)
		return protocol(reason, "an UpdateEnd that does not unpack");
	bool counts = m->n_resources == r->n;
	foil__conf__update_end__free_unpacked(m, NULL);
	if (!counts)
		return protocol(reason, "an UpdateEnd whose count is not that of its resources");
	r->is_whole = true;
	*out = (struct ring_update){.version = r->version, .full = r->full, .resources = r->list, .n_resources = r->n};
	return RING_RECEIVE_UPDATE;
}

enum ring_receive ring_receiver_frame(struct ring_receiver *r, uint16_t type, const uint8_t *payload, uint32_t n_bytes, struct ring_update *out,
				      char reason[RING_REASON_BYTES])
{
	reason[0] = 0;
	if (r->is_whole)
		forget(r);
	switch (type) {
	case RING_FRAME_AGENT_HELLO: return on_hello(r, payload, n_bytes, reason);
	case RING_FRAME_UPDATE_BEGIN: return on_begin(r, payload, n_bytes, reason);
	case RING_FRAME_UPDATE_RESOURCE: return on_resource(r, payload, n_bytes, reason);
	case RING_FRAME_UPDATE_END: return on_end(r, payload, n_bytes, out, reason);
	default: return protocol(reason, "a frame of unknown type");
	}
}
