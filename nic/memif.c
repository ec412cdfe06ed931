/* The rules of a memif control connection, message by message, both roles. DPDK's driver (22.11) believes what it is told: any message in any
 * order, rings outside their region, regions larger than their file, a file that can shrink, rings that were never named. Each of them is
 * a read or a write somewhere else for the worker; none of them gets past nic_memif_check.
 * Invariant: behind a CONNECT every ring that a worker will look at lies in memory that is as large as was said and stays so.
 * What it cannot see is what the peer writes into rings and descriptors afterwards (docs/threat-model.md). */
#include "nic/memif.h"

#include "dataplane/core/cursor.h"

#define RING_HEAD_BYTES 128u /* before the first descriptor */
#define RING_DESC_BYTES 16u
#define LOG2_RING_SIZE_MAX 14u
#define NAME_BYTES 32u
#define SECRET_BYTES 24u
#define REASON_BYTES 96u
#define FLAG_TOWARDS_SERVER 1u
#define ACKS_MAX (2u + NIC_MEMIF_REGIONS_MAX + 2u * NIC_WORKERS_MAX)

enum message { MSG_ACK = 1, MSG_HELLO, MSG_INIT, MSG_ADD_REGION, MSG_ADD_RING, MSG_CONNECT, MSG_CONNECTED, MSG_DISCONNECT };

/* The protocol stays in one machine and has its byte order; this one is little-endian. */
static uint64_t cur_le(struct foil_cur *c, unsigned int n_bytes)
{
	uint64_t v = 0;

	for (unsigned int i = 0; i < n_bytes; i++)
		v |= (uint64_t)cur_u8(c) << 8 * i;
	return v;
}

/* The driver copies until a zero. */
static bool text_ends(struct foil_cur *c, size_t n_bytes)
{
	const uint8_t *text = cur_bytes(c, n_bytes);

	return text && memchr(text, 0, n_bytes);
}

bool nic_memif_init_id(const void *message, size_t n_bytes, uint32_t *id)
{
	struct foil_cur c = cur_of(message, n_bytes);
	uint64_t type = cur_le(&c, 2);

	(void)cur_skip(&c, 2); /* version: the driver's */
	uint32_t v = (uint32_t)cur_le(&c, 4);
	if (type != MSG_INIT || c.short_read)
		return false;
	*id = v;
	return true;
}

static const char *hello(struct nic_memif_talk *t, struct foil_cur *c)
{
	bool named = text_ends(c, NAME_BYTES);

	(void)cur_skip(c, 6); /* versions: the driver compares them; regions: we bring few */
	uint64_t n_towards = cur_le(c, 2) + 1, n_from = cur_le(c, 2) + 1, log2_ring_size = cur_le(c, 1);
	if (t->server || t->state != NIC_MEMIF_FRESH)
		return "it said HELLO out of turn";
	if (!named)
		return "its name has no end";
	if (n_towards < t->n_queues || n_from < t->n_queues)
		return "it takes fewer rings than this port has queues, which are as many as workers";
	if (log2_ring_size == 0)
		return "its rings have no room";
	t->state = NIC_MEMIF_TALKS;
	return NULL;
}

static const char *init(struct nic_memif_talk *t, struct foil_cur *c)
{
	(void)cur_skip(c, 2 + 4 + 1 + SECRET_BYTES); /* the driver's: version, interface, mode, secret */
	if (!t->server || t->state != NIC_MEMIF_FRESH)
		return "it said INIT out of turn";
	if (!text_ends(c, NAME_BYTES))
		return "its name has no end";
	t->state = NIC_MEMIF_TALKS;
	return NULL;
}

static const char *add_region(struct nic_memif_talk *t, struct foil_cur *c, const struct nic_memif_files *files)
{
	uint64_t index = cur_le(c, 2), n_bytes = cur_le(c, 8);

	if (!t->server || t->state != NIC_MEMIF_TALKS)
		return "it brought memory out of turn";
	if (index != t->n_regions || index >= NIC_MEMIF_REGIONS_MAX)
		return "its memory has another number than the next";
	if (files->n != 1 || !files->is_memory)
		return "its memory is no file";
	if (n_bytes == 0 || n_bytes > files->n_bytes)
		return "its memory is smaller than it says";
	if (!files->is_sealed && !t->unsealed)
		return "its memory may shrink while we read it (no F_SEAL_SHRINK); unsealed=yes in the port's URI takes it all the same";
	t->region_bytes[t->n_regions++] = n_bytes;
	return NULL;
}

static const char *add_ring(struct nic_memif_talk *t, struct foil_cur *c, const struct nic_memif_files *files)
{
	uint64_t flags = cur_le(c, 2), index = cur_le(c, 2), region = cur_le(c, 2), offset = cur_le(c, 4), log2_size = cur_le(c, 1);
	uint64_t *given = &t->rings[flags & FLAG_TOWARDS_SERVER], n_bytes;

	if (!t->server || t->state != NIC_MEMIF_TALKS)
		return "it named a ring out of turn";
	if (index >= t->n_queues)
		return "it has more rings than this port has queues, which are as many as workers";
	if (*given & 1ull << index)
		return "it named a ring twice";
	if (files->n != 1)
		return "it named a ring without a descriptor to wake by";
	if (region >= t->n_regions || log2_size == 0 || log2_size > LOG2_RING_SIZE_MAX)
		return "it named a ring in memory that it did not bring, or of a size that is none";
	n_bytes = RING_HEAD_BYTES + (RING_DESC_BYTES << log2_size);
	if (offset % 4 || offset > t->region_bytes[region] || n_bytes > t->region_bytes[region] - offset)
		return "it named a ring that does not lie in its memory";
	*given |= 1ull << index;
	t->n_rings++;
	return NULL;
}

static const char *connect(struct nic_memif_talk *t, struct foil_cur *c, bool is_answer)
{
	if (t->state != NIC_MEMIF_TALKS || t->server == is_answer)
		return "it connected out of turn";
	if (!text_ends(c, NAME_BYTES))
		return "its interface's name has no end";
	if (t->server && t->n_rings != 2u * t->n_queues)
		return "it has fewer rings than this port has queues, which are as many as workers";
	t->state = NIC_MEMIF_CONNECTED;
	return NULL;
}

static const char *disconnect(struct foil_cur *c)
{
	(void)cur_skip(c, 4);
	return text_ends(c, REASON_BYTES) ? NULL : "its reason has no end";
}

const char *nic_memif_check(struct nic_memif_talk *t, const void *message, size_t n_bytes, const struct nic_memif_files *files)
{
	struct foil_cur c = cur_of(message, n_bytes);
	uint64_t type = cur_le(&c, 2);

	if (n_bytes != NIC_MEMIF_MESSAGE_BYTES)
		return "its message has another length than memif's";
	if (files->n && type != MSG_ADD_REGION && type != MSG_ADD_RING)
		return "it sent a descriptor that nobody asked for"; /* the driver would never close it */
	switch (type) {
	case MSG_ACK:
		return t->server || t->state != NIC_MEMIF_TALKS || ++t->n_acks > ACKS_MAX ? "it acknowledged out of turn" : NULL;
	case MSG_HELLO:
		return hello(t, &c);
	case MSG_INIT:
		return init(t, &c);
	case MSG_ADD_REGION:
		return add_region(t, &c, files);
	case MSG_ADD_RING:
		return add_ring(t, &c, files);
	case MSG_CONNECT:
		return connect(t, &c, false);
	case MSG_CONNECTED:
		return connect(t, &c, true);
	case MSG_DISCONNECT:
		return disconnect(&c);
	default:
		return "it said something that memif does not know";
	}
}
