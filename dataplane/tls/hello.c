/* The ClientHello, looked at before a handshake begins: RFC 8446 4.1.2, RFC 5246 7.4.1.2, RFC 6066 3 (server_name), RFC 7301 (ALPN). It answers who is
 * asked for and which protocols are offered; it judges nothing else: a hello that it cannot read goes to OpenSSL, which knows the alert.
 * Invariant: no byte past the message is read, and each byte of the records is looked at a bounded number of times: scan->offset only grows. */
#include "dataplane/core/cursor.h"
#include "dataplane/tls/tls_priv.h"

#define RECORD_HEADER_BYTES 5u
#define RECORD_HANDSHAKE 22
#define CLIENT_HELLO 1
#define MESSAGE_HEADER_BYTES 4u
#define EXT_SERVER_NAME 0
#define EXT_ALPN 16
#define EXT_SUPPORTED_VERSIONS 43
#define SNI_BYTES_MAX 255u

/* RFC 6066: a list of names of which one may be a host name. */
static bool parse_server_name(struct foil_slice ext, struct tls_hello *out)
{
	struct foil_cur c = cur_of(ext.data, ext.n_bytes);
	struct foil_slice list = cur_slice(&c, cur_be16(&c));

	if (c.short_read || cur_left(&c) || !list.n_bytes)
		return false;
	c = cur_of(list.data, list.n_bytes);
	while (cur_left(&c)) {
		uint8_t type = cur_u8(&c);
		struct foil_slice name = cur_slice(&c, cur_be16(&c));
		if (c.short_read)
			return false;
		if (type != 0)
			continue;
		if (out->sni.n_bytes || !name.n_bytes || name.n_bytes > SNI_BYTES_MAX || memchr(name.data, 0, name.n_bytes))
			return false;
		out->sni = name;
	}
	return true;
}

static bool parse_alpn(struct foil_slice ext, struct tls_hello *out)
{
	struct foil_cur c = cur_of(ext.data, ext.n_bytes);
	struct foil_slice list = cur_slice(&c, cur_be16(&c));

	if (c.short_read || cur_left(&c) || !list.n_bytes)
		return false;
	c = cur_of(list.data, list.n_bytes);
	while (cur_left(&c)) {
		struct foil_slice name = cur_slice(&c, cur_u8(&c));
		if (c.short_read || !name.n_bytes)
			return false;
	}
	out->alpn = list;
	return true;
}

static bool parse_versions(struct foil_slice ext, struct tls_hello *out)
{
	struct foil_cur c = cur_of(ext.data, ext.n_bytes);
	struct foil_slice list = cur_slice(&c, cur_u8(&c));

	if (c.short_read || cur_left(&c) || !list.n_bytes || list.n_bytes % 2)
		return false;
	c = cur_of(list.data, list.n_bytes);
	while (cur_left(&c)) {
		uint16_t v = cur_be16(&c);
		if (v >> 8 == 3 && v > out->version_max) /* GREASE and drafts are not versions */
			out->version_max = v;
		out->has_tls13 |= v == 0x0304;
	}
	return true;
}

static bool parse_extension(uint16_t type, struct foil_slice body, uint32_t *seen, struct tls_hello *out)
{
	uint32_t bit = type == EXT_SERVER_NAME ? 1u : type == EXT_ALPN ? 2u : type == EXT_SUPPORTED_VERSIONS ? 4u : 0u;

	if (*seen & bit)
		return false; /* RFC 8446 4.2: not two of one type */
	*seen |= bit;
	switch (bit) {
	case 1: return parse_server_name(body, out);
	case 2: return parse_alpn(body, out);
	case 4: return parse_versions(body, out);
	default: return true;
	}
}

enum tls_hello_result tls_hello_parse(struct foil_slice message, struct tls_hello *out)
{
	struct foil_cur c = cur_of(message.data, message.n_bytes);
	struct tls_hello h = {.sni = {NULL, 0}};
	uint32_t seen = 0;

	if (cur_u8(&c) != CLIENT_HELLO || cur_be24(&c) != cur_left(&c))
		return TLS_HELLO_BAD;
	h.version_max = cur_be16(&c);
	(void)cur_skip(&c, 32);         /* random; a short read shows below */
	(void)cur_slice(&c, cur_u8(&c)); /* session id */
	struct foil_slice suites = cur_slice(&c, cur_be16(&c));
	struct foil_slice compressions = cur_slice(&c, cur_u8(&c));
	if (c.short_read || suites.n_bytes < 2 || suites.n_bytes % 2 || !compressions.n_bytes)
		return TLS_HELLO_BAD;
	if (cur_left(&c)) { /* TLS 1.2 may have none */
		struct foil_slice list = cur_slice(&c, cur_be16(&c));
		if (c.short_read || cur_left(&c))
			return TLS_HELLO_BAD;
		c = cur_of(list.data, list.n_bytes);
		while (cur_left(&c)) {
			uint16_t type = cur_be16(&c);
			struct foil_slice body = cur_slice(&c, cur_be16(&c));
			if (c.short_read || !parse_extension(type, body, &seen, &h))
				return TLS_HELLO_BAD;
		}
	}
	*out = h;
	return TLS_HELLO_READY;
}

/* ---- over records ---- */
/* Steps over whole records from scan->offset. MORE: wanted_bytes is set; READY: the message is all there. */
static enum tls_hello_result scan_records(const struct foil_chain *rx, struct tls_hello_scan *scan)
{
	while (!scan->message_bytes || scan->n_message_bytes < scan->message_bytes) {
		uint8_t head[RECORD_HEADER_BYTES];
		uint32_t left = rx->n_bytes - scan->offset, have = FOIL_MIN(left, RECORD_HEADER_BYTES);
		foil_chain_copy_out(rx, scan->offset, head, have);
		if ((have >= 1 && head[0] != RECORD_HANDSHAKE) || (have >= 2 && head[1] != 3))
			return scan->offset ? TLS_HELLO_BAD : TLS_HELLO_NOT_TLS;
		if (have < RECORD_HEADER_BYTES) {
			scan->wanted_bytes = scan->offset + have + 1u; /* each byte of a header can tell that it is none */
			return TLS_HELLO_MORE;
		}
		uint32_t n = (uint32_t)head[3] << 8 | head[4];
		if (n == 0 || n > TLS_RECORD_BYTES_MAX || scan->offset + RECORD_HEADER_BYTES + n > TLS_HELLO_WIRE_BYTES_MAX)
			return TLS_HELLO_BAD;
		if (left < RECORD_HEADER_BYTES + n) {
			scan->wanted_bytes = scan->offset + RECORD_HEADER_BYTES + n;
			return TLS_HELLO_MORE;
		}
		uint32_t room = TLS_HELLO_BYTES_MAX - scan->n_message_bytes;
		uint32_t take = FOIL_MIN(n, room);
		scan->n_message_bytes += take;
		scan->offset += RECORD_HEADER_BYTES + n;
		if (!scan->message_bytes && scan->n_message_bytes >= MESSAGE_HEADER_BYTES)
			return TLS_HELLO_READY; /* the caller learns the length */
		if (take < n)
			return TLS_HELLO_BAD;
	}
	return TLS_HELLO_READY;
}

/* The first n bytes of the message, out of its records. */
static void gather(const struct foil_chain *rx, uint8_t *to, uint32_t n)
{
	uint32_t at = 0, offset = 0;

	while (at < n) {
		uint8_t head[RECORD_HEADER_BYTES];
		foil_chain_copy_out(rx, offset, head, RECORD_HEADER_BYTES);
		uint32_t in_record = (uint32_t)head[3] << 8 | head[4], take = FOIL_MIN(in_record, n - at);
		foil_chain_copy_out(rx, offset + RECORD_HEADER_BYTES, to + at, take);
		at += take;
		offset += RECORD_HEADER_BYTES + in_record;
	}
}

enum tls_hello_result tls_hello_peek(struct foil_worker *w, const struct foil_chain *rx, struct tls_hello_scan *scan, struct tls_hello *out)
{
	struct tls_ctx *t = w->tls;

	if (rx->n_bytes < scan->wanted_bytes)
		return TLS_HELLO_MORE;
	for (;;) {
		enum tls_hello_result r = scan_records(rx, scan);
		if (r != TLS_HELLO_READY)
			return r;
		if (scan->message_bytes)
			break;
		uint8_t head[MESSAGE_HEADER_BYTES];
		gather(rx, head, sizeof(head));
		scan->message_bytes = MESSAGE_HEADER_BYTES + ((uint32_t)head[1] << 16 | (uint32_t)head[2] << 8 | head[3]);
		if (head[0] != CLIENT_HELLO || scan->message_bytes > TLS_HELLO_BYTES_MAX)
			return TLS_HELLO_BAD;
	}
	gather(rx, t->scratch, scan->message_bytes);
	return tls_hello_parse(foil_slice_of(t->scratch, scan->message_bytes), out);
}
