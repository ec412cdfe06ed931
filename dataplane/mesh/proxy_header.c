/* Reading is strict: what is not exactly the header that the protocol describes is refused, since believing it means believing who the client is. A
 * header is looked at through small copies, wherever its bytes lie, again each time that more has come; it is short, or refused for being long. Of version
 * 2's TLVs the lengths must fit, and a CRC-32C must be right; what else they say is not used. */
#include "dataplane/mesh/proxy_header.h"

#include "dataplane/core/crc32c.h"
#include "dataplane/core/cursor.h"
#include "dataplane/mesh/addr_priv.h"

#define V1_BYTES_MAX 107u /* CRLF included */
#define V2_FIXED_BYTES 16u
#define V2_ADDRESSES_V4 12u
#define V2_ADDRESSES_V6 36u
#define V2_ADDRESSES_UNIX 216u
#define TLV_HEADER_BYTES 3u
#define TLV_CRC32C 0x03u

static const uint8_t signature[12] = {'\r', '\n', '\r', '\n', 0, '\r', '\n', 'Q', 'U', 'I', 'T', '\n'};
static const char v1_word[6] = {'P', 'R', 'O', 'X', 'Y', ' '};

static bool is_v4(const struct stream_addr *a)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	return memcmp(a->ip, mapped, sizeof(mapped)) == 0;
}

static void put_v4(struct stream_addr *a, struct foil_slice four)
{
	memset(a->ip, 0, sizeof(a->ip));
	a->ip[10] = a->ip[11] = 0xff;
	memcpy(&a->ip[12], four.data, 4);
}

/* ---- version 1: a line of words ---- */
/* The bytes up to the next space, which is taken too; the last word ends with the line. */
static struct foil_slice next_word(struct foil_cur *c)
{
	size_t n = 0;

	while (n < cur_left(c) && c->at[n] != ' ')
		n++;
	struct foil_slice word = cur_slice(c, n);
	if (cur_left(c))
		(void)cur_u8(c);
	return word;
}

static bool read_port(struct foil_slice s, uint16_t *out)
{
	uint32_t v = 0;

	if (s.n_bytes == 0 || s.n_bytes > 5 || (s.n_bytes > 1 && s.data[0] == '0'))
		return false;
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		if (s.data[i] < '0' || s.data[i] > '9')
			return false;
		v = v * 10 + (uint32_t)(s.data[i] - '0');
	}
	*out = (uint16_t)v;
	return v <= UINT16_MAX;
}

static bool read_address(struct foil_slice s, bool want_v4, struct stream_addr *out)
{
	bool is_v6 = s.n_bytes && memchr(s.data, ':', s.n_bytes);

	return s.n_bytes && is_v6 != want_v4 && mesh_addr_parse(s, out->ip);
}

/* line: without CRLF, "PROXY " taken. */
static enum proxy_header_result read_line(struct foil_cur c, struct proxy_header *out)
{
	struct foil_slice family = next_word(&c);
	bool is_tcp4 = foil_slice_eq(family, FOIL_SLICE("TCP4"));

	if (foil_slice_eq(family, FOIL_SLICE("UNKNOWN")))
		return PROXY_HEADER_READY; /* the rest of the line says nothing */
	if (!is_tcp4 && !foil_slice_eq(family, FOIL_SLICE("TCP6")))
		return PROXY_HEADER_BAD;
	if (!read_address(next_word(&c), is_tcp4, &out->source) || !read_address(next_word(&c), is_tcp4, &out->destination))
		return PROXY_HEADER_BAD;
	if (!read_port(next_word(&c), &out->source.port))
		return PROXY_HEADER_BAD;
	struct foil_slice last = cur_slice(&c, cur_left(&c));
	if (!read_port(last, &out->destination.port))
		return PROXY_HEADER_BAD;
	out->has_addresses = true;
	return PROXY_HEADER_READY;
}

static enum proxy_header_result read_v1(const struct foil_chain *rx, struct proxy_header *out)
{
	char text[V1_BYTES_MAX];
	uint32_t n = FOIL_MIN((uint32_t)sizeof(text), rx->n_bytes);

	foil_chain_copy_out(rx, 0, text, n);
	const char *lf = memchr(text, '\n', n);
	if (!lf)
		return n < sizeof(text) ? PROXY_HEADER_MORE : PROXY_HEADER_BAD;
	size_t n_line = (size_t)(lf - text);
	if (n_line == 0 || text[n_line - 1] != '\r' || memchr(text, '\r', n_line - 1) || memchr(text, 0, n_line) || memchr(text, '\t', n_line))
		return PROXY_HEADER_BAD;
	out->n_bytes = (uint32_t)n_line + 1;
	struct foil_cur c = cur_of(text, n_line - 1);
	(void)cur_skip(&c, sizeof(v1_word)); /* it was compared */
	return read_line(c, out);
}

/* ---- version 2 ---- */
static uint32_t crc_of(const struct foil_chain *rx, uint32_t n_bytes, uint32_t zeroed_at)
{
	uint32_t crc = 0, at = 0;
	uint8_t piece[64];

	while (at < n_bytes) {
		uint32_t n = FOIL_MIN((uint32_t)sizeof(piece), n_bytes - at);
		foil_chain_copy_out(rx, at, piece, n);
		for (uint32_t i = 0; i < n; i++)
			if (at + i - zeroed_at < 4u)
				piece[i] = 0;
		crc = foil_crc32c(crc, piece, n);
		at += n;
	}
	return crc;
}

static bool tlvs_are_good(const struct foil_chain *rx, uint32_t at, uint32_t n_bytes)
{
	while (at < n_bytes) {
		uint8_t head[TLV_HEADER_BYTES], crc[4];
		if (n_bytes - at < sizeof(head))
			return false;
		foil_chain_copy_out(rx, at, head, sizeof(head));
		struct foil_cur c = cur_of(head, sizeof(head));
		uint8_t type = cur_u8(&c);
		uint32_t length = cur_be16(&c);
		at += TLV_HEADER_BYTES;
		if (length > n_bytes - at)
			return false;
		if (type == TLV_CRC32C) {
			if (length != sizeof(crc))
				return false;
			foil_chain_copy_out(rx, at, crc, sizeof(crc));
			struct foil_cur told = cur_of(crc, sizeof(crc));
			if (cur_be32(&told) != crc_of(rx, n_bytes, at))
				return false;
		}
		at += length;
	}
	return true;
}

/* How many bytes the addresses of a family have; UINT32_MAX: no such family. */
static uint32_t address_bytes(uint8_t family)
{
	switch (family >> 4) {
	case 0: return 0;
	case 1: return V2_ADDRESSES_V4;
	case 2: return V2_ADDRESSES_V6;
	case 3: return V2_ADDRESSES_UNIX;
	default: return UINT32_MAX;
	}
}

static void read_addresses(struct foil_cur *c, bool v4, struct proxy_header *out)
{
	struct foil_slice source = cur_slice(c, v4 ? 4 : 16), destination = cur_slice(c, v4 ? 4 : 16);

	FOIL_ASSERT(!c->short_read);
	if (v4) {
		put_v4(&out->source, source);
		put_v4(&out->destination, destination);
	} else {
		memcpy(out->source.ip, source.data, 16);
		memcpy(out->destination.ip, destination.data, 16);
	}
	out->source.port = cur_be16(c);
	out->destination.port = cur_be16(c);
	out->has_addresses = true;
}

static enum proxy_header_result read_v2(const struct foil_chain *rx, struct proxy_header *out)
{
	uint8_t bytes[V2_FIXED_BYTES + V2_ADDRESSES_V6];

	if (rx->n_bytes < V2_FIXED_BYTES)
		return PROXY_HEADER_MORE;
	foil_chain_copy_out(rx, 0, bytes, V2_FIXED_BYTES);
	struct foil_cur c = cur_of(bytes, sizeof(bytes));
	(void)cur_skip(&c, sizeof(signature)); /* it was compared */
	uint8_t command = cur_u8(&c), family = cur_u8(&c);
	uint32_t length = cur_be16(&c), n_addresses = address_bytes(family);
	bool is_local = command == 0x20, is_inet = family >> 4 == 1 || family >> 4 == 2;

	if (command != 0x20 && command != 0x21)
		return PROXY_HEADER_BAD;
	if (length > V2_ADDRESSES_UNIX + PROXY_HEADER_TLV_BYTES_MAX)
		return PROXY_HEADER_BAD;
	if (!is_local && (!is_inet || (family & 15) == 0 || (family & 15) > 2 || length < n_addresses))
		return PROXY_HEADER_BAD; /* as Envoy: no client can be told from it */
	if (rx->n_bytes < V2_FIXED_BYTES + length)
		return PROXY_HEADER_MORE;
	out->n_bytes = V2_FIXED_BYTES + length;
	if (is_local)
		return PROXY_HEADER_READY; /* whatever else it holds is to be ignored */
	foil_chain_copy_out(rx, V2_FIXED_BYTES, &bytes[V2_FIXED_BYTES], n_addresses);
	read_addresses(&c, family >> 4 == 1, out);
	return tlvs_are_good(rx, V2_FIXED_BYTES + n_addresses, out->n_bytes) ? PROXY_HEADER_READY : PROXY_HEADER_BAD;
}

enum proxy_header_result proxy_header_read(const struct foil_chain *rx, struct proxy_header *out)
{
	uint8_t first[sizeof(signature)];
	uint32_t n = FOIL_MIN((uint32_t)sizeof(first), rx->n_bytes);

	*out = (struct proxy_header){0};
	foil_chain_copy_out(rx, 0, first, n);
	if (memcmp(first, signature, n) == 0)
		return n < sizeof(signature) ? PROXY_HEADER_MORE : read_v2(rx, out);
	if (memcmp(first, v1_word, FOIL_MIN(n, (uint32_t)sizeof(v1_word))) == 0)
		return n < sizeof(v1_word) ? PROXY_HEADER_MORE : read_v1(rx, out);
	return PROXY_HEADER_ABSENT;
}

/* ---- writing ---- */
static uint32_t put(uint8_t *out, uint32_t at, const void *data, uint32_t n_bytes)
{
	memcpy(&out[at], data, n_bytes);
	return at + n_bytes;
}

static uint32_t put_slice(uint8_t *out, uint32_t at, struct foil_slice s)
{
	return put(out, at, s.data, s.n_bytes);
}

/* An IPv4 address among IPv6 ones is told in its mapped form. */
static struct foil_slice address_text(const struct stream_addr *a, bool as_v6, char text[ADDR_TEXT_BYTES])
{
	static const char prefix[] = "::ffff:";
	char own[ADDR_TEXT_BYTES];
	struct foil_slice s = mesh_addr_text(a, false, own);
	uint32_t at = 0;

	if (as_v6 && is_v4(a)) {
		memcpy(text, prefix, sizeof(prefix) - 1);
		at = sizeof(prefix) - 1;
	}
	memcpy(&text[at], s.data, s.n_bytes);
	return foil_slice_of(text, at + s.n_bytes);
}

static uint32_t write_v1(const struct stream_addr *source, const struct stream_addr *destination, uint8_t *out)
{
	char text[ADDR_TEXT_BYTES];
	uint32_t n = 0;

	if (!source || !destination)
		return put_slice(out, 0, FOIL_SLICE("PROXY UNKNOWN\r\n"));
	bool v4 = is_v4(source) && is_v4(destination);
	n = put_slice(out, n, v4 ? FOIL_SLICE("PROXY TCP4 ") : FOIL_SLICE("PROXY TCP6 "));
	n = put_slice(out, n, address_text(source, !v4, text));
	n = put_slice(out, n, FOIL_SLICE(" "));
	n = put_slice(out, n, address_text(destination, !v4, text));
	n = put_slice(out, n, FOIL_SLICE(" "));
	n = put_slice(out, n, mesh_addr_number(source->port, text));
	n = put_slice(out, n, FOIL_SLICE(" "));
	n = put_slice(out, n, mesh_addr_number(destination->port, text));
	return put_slice(out, n, FOIL_SLICE("\r\n"));
}

static uint32_t put_be16(uint8_t *out, uint32_t at, uint32_t v)
{
	out[at] = (uint8_t)(v >> 8);
	out[at + 1] = (uint8_t)v;
	return at + 2;
}

static uint32_t write_v2(const struct stream_addr *source, const struct stream_addr *destination, uint8_t *out)
{
	uint32_t n = put(out, 0, signature, sizeof(signature));

	if (!source || !destination) {
		out[n++] = 0x20;
		out[n++] = 0;
		return put_be16(out, n, 0);
	}
	bool v4 = is_v4(source) && is_v4(destination);
	uint32_t skip = v4 ? 12 : 0;
	out[n++] = 0x21;
	out[n++] = v4 ? 0x11 : 0x21;
	n = put_be16(out, n, v4 ? V2_ADDRESSES_V4 : V2_ADDRESSES_V6);
	n = put(out, n, &source->ip[skip], 16 - skip);
	n = put(out, n, &destination->ip[skip], 16 - skip);
	n = put_be16(out, n, source->port);
	return put_be16(out, n, destination->port);
}

uint32_t proxy_header_write(enum proxy_header_version version, const struct stream_addr *source, const struct stream_addr *destination,
			    uint8_t out[PROXY_HEADER_WRITE_BYTES_MAX])
{
	switch (version) {
	case PROXY_HEADER_NONE: return 0;
	case PROXY_HEADER_V1: return write_v1(source, destination, out);
	case PROXY_HEADER_V2: return write_v2(source, destination, out);
	}
	FOIL_UNREACHABLE();
}
