/* What a memif peer says on the control socket, in either role, with any files. Whatever nic_memif_check lets pass, the driver believes: so behind a
 * CONNECT each ring of each queue must lie in memory that is there. */
#include <stdlib.h>

#include "dataplane/core/cursor.h"
#include "nic/memif.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void must(bool is_so)
{
	if (!is_so)
		abort();
}

/* What the driver would remember of the messages that it got. */
struct driver {
	struct { uint64_t region_bytes, end; bool given; } rings[2][NIC_WORKERS_MAX];
	uint64_t region_bytes[NIC_MEMIF_REGIONS_MAX];
	uint16_t n_regions;
};

static uint64_t le(const uint8_t *at, size_t n)
{
	uint64_t v = 0;

	while (n-- > 0)
		v = v << 8 | at[n];
	return v;
}

static void driver_hears(struct driver *d, const struct nic_memif_talk *t, const uint8_t *m, const struct nic_memif_files *files)
{
	if (m[0] == 4) {
		must(files->n == 1 && files->is_memory && (files->is_sealed || t->unsealed) && le(m + 4, 8) <= files->n_bytes);
		must(le(m + 2, 2) == d->n_regions && d->n_regions < NIC_MEMIF_REGIONS_MAX);
		d->region_bytes[d->n_regions++] = le(m + 4, 8);
	} else if (m[0] == 5) {
		must(le(m + 4, 2) < t->n_queues && le(m + 6, 2) < d->n_regions && m[12] <= 14);
		d->rings[m[2] & 1][le(m + 4, 2)].region_bytes = d->region_bytes[le(m + 6, 2)];
		d->rings[m[2] & 1][le(m + 4, 2)].end = le(m + 8, 4) + 128 + (16ull << m[12]);
		d->rings[m[2] & 1][le(m + 4, 2)].given = true;
	}
	for (unsigned int way = 0; t->server && t->state == NIC_MEMIF_CONNECTED && way < 2; way++)
		for (uint16_t i = 0; i < t->n_queues; i++)
			must(d->rings[way][i].given && d->rings[way][i].end <= d->rings[way][i].region_bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	struct foil_cur c = cur_of(data, n_bytes);
	struct nic_memif_talk t = {.server = cur_u8(&c) & 1, .unsealed = cur_u8(&c) & 1, .n_queues = (uint16_t)(1 + cur_u8(&c) % NIC_WORKERS_MAX)};
	struct driver d = {0};

	while (cur_left(&c) > 0) {
		uint8_t how = cur_u8(&c);
		struct nic_memif_files files = {.n = how & 3, .is_memory = how & 4, .is_sealed = how & 8, .n_bytes = cur_be24(&c)};
		size_t n = how & 16 ? cur_u8(&c) : NIC_MEMIF_MESSAGE_BYTES;
		uint8_t message[NIC_MEMIF_MESSAGE_BYTES] = {0};
		n = n < cur_left(&c) ? n : cur_left(&c);
		const uint8_t *at = cur_bytes(&c, n);
		uint32_t id;
		(void)nic_memif_init_id(at, n, &id);
		if (n > 0 && n <= sizeof(message))
			memcpy(message, at, n);
		if (how & 32) /* the rest of a short one is zeros: corpora stay small */
			n = sizeof(message);
		if (!nic_memif_check(&t, how & 32 ? message : at, n, &files))
			driver_hears(&d, &t, message, &files);
	}
	return 0;
}
