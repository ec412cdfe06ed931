/* pcapng blocks (pcapng.h), in the byte order of this machine, as the format allows.
 * Invariant: a block is a multiple of 4 bytes long and says its length at both ends. */
#include "programs/pcapng.h"

#include <stdbool.h>
#include <string.h>

enum { BLOCK_INTERFACE = 1, BLOCK_STATISTICS = 5, BLOCK_PACKET = 6, BLOCK_SECTION = 0x0a0d0d0a };
enum { OPT_END = 0, OPT_COMMENT = 1 };
enum { SHB_USERAPPL = 4, IF_NAME = 2, IF_DESCRIPTION = 3, IF_TSRESOL = 9, EPB_FLAGS = 2, ISB_IFRECV = 4, ISB_IFDROP = 5 };
#define BYTE_ORDER_MAGIC 0x1a2b3c4du
#define LINKTYPE_ETHERNET 1u
#define TSRESOL_US 6u

struct block {
	uint8_t *out;
	size_t n_out, n;
	bool is_short;
};

static void put(struct block *b, const void *data, size_t n)
{
	size_t padded = (n + 3) & ~(size_t)3;
	if (b->is_short || padded > b->n_out - b->n) {
		b->is_short = true;
		return;
	}
	if (n)
		memcpy(b->out + b->n, data, n);
	memset(b->out + b->n + n, 0, padded - n);
	b->n += padded;
}

static void put_u32(struct block *b, uint32_t v)
{
	put(b, &v, sizeof(v));
}

static void put_two_u16(struct block *b, uint16_t x, uint16_t y)
{
	uint16_t both[2] = {x, y};
	put(b, both, sizeof(both));
}

static void put_option(struct block *b, uint16_t code, const void *data, size_t n)
{
	put_two_u16(b, code, (uint16_t)n);
	put(b, data, n);
}

static void put_text(struct block *b, uint16_t code, const char *text)
{
	if (text)
		put_option(b, code, text, strnlen(text, PCAPNG_TEXT_BYTES));
}

static void put_time(struct block *b, uint64_t wall_us)
{
	put_u32(b, (uint32_t)(wall_us >> 32));
	put_u32(b, (uint32_t)wall_us);
}

static struct block begin(uint8_t *out, size_t n_out, uint32_t type)
{
	struct block b = {.out = out, .n_out = n_out};
	put_u32(&b, type);
	put_u32(&b, 0); /* the length, when it is known */
	return b;
}

static size_t end(struct block *b)
{
	put_two_u16(b, OPT_END, 0);
	uint32_t n = (uint32_t)b->n + 4;
	put_u32(b, n);
	if (b->is_short)
		return 0;
	memcpy(b->out + 4, &n, sizeof(n));
	return b->n;
}

size_t pcapng_section(uint8_t *out, size_t n_out, const char *application)
{
	struct block b = begin(out, n_out, BLOCK_SECTION);
	uint64_t unknown = UINT64_MAX;
	put_u32(&b, BYTE_ORDER_MAGIC);
	put_two_u16(&b, 1, 0); /* version 1.0 */
	put(&b, &unknown, sizeof(unknown)); /* the section's length */
	put_text(&b, SHB_USERAPPL, application);
	return end(&b);
}

size_t pcapng_interface(uint8_t *out, size_t n_out, const char *name, const char *description, uint32_t snap_bytes)
{
	struct block b = begin(out, n_out, BLOCK_INTERFACE);
	uint8_t resolution = TSRESOL_US;
	put_two_u16(&b, LINKTYPE_ETHERNET, 0);
	put_u32(&b, snap_bytes);
	put_text(&b, IF_NAME, name);
	put_text(&b, IF_DESCRIPTION, description);
	put_option(&b, IF_TSRESOL, &resolution, 1);
	return end(&b);
}

size_t pcapng_packet(uint8_t *out, size_t n_out, const struct pcapng_packet *p)
{
	struct block b = begin(out, n_out, BLOCK_PACKET);
	uint32_t flags = (uint32_t)p->dir; /* the two low bits */
	put_u32(&b, p->interface);
	put_time(&b, p->wall_us);
	put_u32(&b, p->n_bytes);
	put_u32(&b, p->n_bytes_all);
	put(&b, p->data, p->n_bytes);
	put_text(&b, OPT_COMMENT, p->comment);
	put_option(&b, EPB_FLAGS, &flags, sizeof(flags));
	return end(&b);
}

size_t pcapng_statistics(uint8_t *out, size_t n_out, uint32_t interface, uint64_t wall_us, uint64_t n_seen, uint64_t n_lost)
{
	struct block b = begin(out, n_out, BLOCK_STATISTICS);
	put_u32(&b, interface);
	put_time(&b, wall_us);
	put_option(&b, ISB_IFRECV, &n_seen, sizeof(n_seen));
	put_option(&b, ISB_IFDROP, &n_lost, sizeof(n_lost));
	return end(&b);
}
