/* See bridge.h. */
#include "tests/fuzz/bridge.h"

#include "tests/unit/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static bool is(struct foil_slice s, const char *what)
{
	return s.n_bytes == strlen(what) && memcmp(s.data, what, s.n_bytes) == 0;
}

/* RFC 9110 7.8 and 15.5.22: Upgrade belongs to this hop, where there is one to write or a list of those that would do. */
static bool writes_upgrade(const struct http_head *head, enum bridge_to to)
{
	if (to == TO_H2)
		return false;
	return head->status ? head->status == 101 || head->status == 426 : head->is_upgrade;
}

/* RFC 9110 7.6.1, RFC 9113 8.2.2: not the next hop's, or written from what the head says. */
static bool stays_here(struct foil_slice name, bool is_answer, bool writes_upgrade_, enum bridge_to to)
{
	static const char *const never[] = {"connection", "keep-alive", "proxy-connection", "transfer-encoding", "content-length", "http2-settings"};

	for (size_t i = 0; i < FOIL_COUNT_OF(never); i++)
		if (is(name, never[i]))
			return true;
	if (is(name, "te"))
		return !is_answer || to == TO_H2;
	if (is(name, "host"))
		return !is_answer;
	return is(name, "upgrade") && !writes_upgrade_;
}

static void meant_start(struct message *m, const struct http_head *head, enum bridge_to to)
{
	struct foil_slice method = head->method_text;
	char status[16];

	if (head->status) {
		unsigned int code = to == TO_H2 && head->status == 101 ? 200 : head->status; /* RFC 8441 5 */
		int n = snprintf(status, sizeof(status), "%u", code);
		text_field(&m->start, to == TO_H2 ? ":status" : "status", to == TO_H2 ? 7 : 6, status, (size_t)n);
		m->status = code;
		return;
	}
	if (to == TO_H1) {
		text_field(&m->start, method.data, method.n_bytes, head->path.data, head->path.n_bytes);
	} else if (head->is_upgrade) {
		struct foil_slice token = http_header_get(&head->headers, HTTP_HDR_UPGRADE)->value;
		text_field(&m->start, ":method", 7, "CONNECT", 7);
		text_field(&m->start, ":protocol", 9, token.data, token.n_bytes);
	} else {
		text_field(&m->start, ":method", 7, method.data, method.n_bytes);
	}
	if (to == TO_H2) {
		text_field(&m->start, ":path", 5, head->path.data, head->path.n_bytes);
		text_field(&m->start, ":scheme", 7, head->scheme.data, head->scheme.n_bytes);
	}
	text_add(&m->authority, head->authority.data, head->authority.n_bytes);
	m->n_hosts = 1;
}

void bridge_meant_head(struct message *m, const struct http_head *head, enum bridge_to to)
{
	bool upgrade = writes_upgrade(head, to), is_named = upgrade && head->status != 426;

	meant_start(m, head, to);
	for (uint16_t i = 0; i < head->headers.n; i++) {
		const struct http_header *h = &head->headers.list[i];
		if (h->is_removed || stays_here(h->name, head->status != 0, upgrade, to))
			continue;
		text_field(&m->fields, h->name.data, h->name.n_bytes, h->value.data, h->value.n_bytes);
		is_named |= upgrade && is(h->name, "upgrade");
	}
	if (head->status == 0 && head->has_te_trailers)
		text_field(&m->fields, "te", 2, "trailers", 8);
	if (is_named)
		text_add(&m->connection, "upgrade", 7);
	m->n_lengths = head->body == HTTP_BODY_LENGTH && !(to == TO_H2 && head->is_upgrade); /* bytes of a tunnel have no number */
	m->length = head->content_length;
}

void bridge_meant_trailers(struct message *m, const struct http_headers *trailers, enum bridge_to to)
{
	for (uint16_t i = 0; i < trailers->n; i++) {
		const struct http_header *h = &trailers->list[i];
		if (!h->is_removed && !stays_here(h->name, false, false, to))
			text_field(&m->trailers, h->name.data, h->name.n_bytes, h->value.data, h->value.n_bytes);
	}
}

void bridge_die(const char *what, const struct message *meant, const struct message *heard)
{
	fprintf(stderr, "bridge: %s\n", what);
	if (meant) {
		fprintf(stderr, "---- meant\n");
		message_print(meant);
	}
	if (heard) {
		fprintf(stderr, "---- heard\n");
		message_print(heard);
	}
	abort();
}

/* Of Connection the next hop reads close, keep-alive, and upgrade where we mean it: anything else would name fields away. */
static bool connection_fits(const struct message *meant, const struct message *heard)
{
	char text[200];
	bool says_upgrade = false;
	char *at = NULL;

	if (heard->n_connections > 1 || heard->connection.n >= sizeof(text))
		return false;
	if (heard->connection.n)
		memcpy(text, heard->connection.at, heard->connection.n);
	text[heard->connection.n] = 0;
	for (char *word = strtok_r(text, ", ", &at); word; word = strtok_r(NULL, ", ", &at)) {
		if (strcasecmp(word, "upgrade") == 0)
			says_upgrade = true;
		else if (strcmp(word, "close") != 0 && strcmp(word, "keep-alive") != 0)
			return false;
	}
	return says_upgrade == (meant->connection.n != 0);
}

static const char *framing_fault(const struct message *meant, const struct message *heard, const struct bridge_rules *r)
{
	bool bodyless = r->has_no_body && !r->is_request;

	if (heard->n_lengths + heard->n_codings > 1 || (r->to == TO_H2 && heard->n_codings))
		return "framed twice";
	if (bodyless && heard->n_lengths && (!meant->n_lengths || meant->length != heard->length))
		return "a length that nobody said";
	if (bodyless && heard->n_lengths + heard->n_codings && (meant->status < 200 || meant->status == 204))
		return "framing where no body may be"; /* RFC 9110 8.6, RFC 9112 6.1 */
	if (bodyless || !heard->is_whole || heard->is_switched)
		return NULL;
	if (heard->n_lengths && heard->length != heard->body.n)
		return "a length that is not the body's";
	if (r->to == TO_H1 && !heard->n_lengths && !heard->n_codings && heard->body.n && !r->may_end_by_close)
		return "a body without framing";
	return NULL;
}

void bridge_compare(const struct message *meant, const struct message *heard, const struct bridge_rules *r)
{
	const struct text *body = heard->is_switched ? &heard->after : &heard->body;
	const char *why;

	if (!text_same(&meant->start, &heard->start))
		bridge_die("the start differs", meant, heard);
	if (!text_same(&meant->authority, &heard->authority) || (r->is_request ? heard->n_hosts != 1 : heard->n_hosts != 0))
		bridge_die("the authority differs", meant, heard);
	if (!text_same(&meant->fields, &heard->fields))
		bridge_die("the fields differ", meant, heard);
	if (!connection_fits(meant, heard))
		bridge_die("Connection differs", meant, heard);
	why = framing_fault(meant, heard, r);
	if (why)
		bridge_die(why, meant, heard);
	/* HTTP/1.1 ends a message where its length says, before the end is told (END_STREAM of its own, say); nothing can follow there. */
	bool is_all_there = r->to == TO_H1 && heard->n_lengths && heard->length == meant->body.n;
	if (meant->is_whole != heard->is_whole && !(heard->is_whole && is_all_there))
		bridge_die("one is whole, the other is not", meant, heard);
	if (body->n > meant->body.n || (body->n && memcmp(body->at, meant->body.at, body->n) != 0) || (meant->is_whole && body->n != meant->body.n))
		bridge_die("the bodies differ", meant, heard);
	if (heard->is_switched && heard->body.n)
		bridge_die("a body before another protocol", meant, heard);
	if (meant->is_whole ? !text_same(&meant->trailers, &heard->trailers) : heard->trailers.n != 0)
		bridge_die("the trailers differ", meant, heard);
}

/* ---- scripts ---- */
static uint32_t put_block(uint8_t *block, uint32_t n_room, const uint8_t *p, size_t n)
{
	struct hpack_out o = {.at = block, .end = block + n_room};

	while (n) {
		const uint8_t *stop = memchr(p, 0x1f, n);
		size_t n_pair = stop ? (size_t)(stop - p) : n;
		const uint8_t *equal = n_pair > 1 ? memchr(p + 1, '=', n_pair - 1) : NULL;
		size_t n_name = equal ? (size_t)(equal - p) : n_pair;
		struct foil_slice name = foil_slice_of((const char *)p, n_name);
		struct foil_slice value = equal ? foil_slice_of((const char *)equal + 1, n_pair - n_name - 1) : foil_slice_of("", 0);
		if (hpack_put_bytes_max(name, value) > (size_t)(o.end - o.at))
			break;
		hpack_put(&o, HTTP_HDR_OTHER, name, value);
		p += n_pair + (stop != NULL);
		n -= n_pair + (stop != NULL);
	}
	return (uint32_t)(o.at - block);
}

static void put_head(struct h2_bytes *to, uint8_t kind, uint32_t id, const uint8_t *p, size_t n)
{
	static uint8_t block[48 * 1024];
	uint8_t end = kind == 'E' || kind == 'e' ? H2_END_STREAM : 0, pad = kind == 'p' ? 9 : 0;
	uint32_t n_block, first;

	memset(block, 0, 10);
	block[0] = pad;
	n_block = (pad ? 1 : 0) + put_block(&block[pad ? 1 : 0], 16000, p, n);
	memset(&block[n_block], 0, pad);
	n_block += pad;
	first = kind == 'h' || kind == 'e' ? n_block / 2 : n_block;
	hb_frame(to, H2_HEADERS, (uint8_t)(end | (pad ? H2_PADDED : 0) | (first == n_block ? H2_END_HEADERS : 0)), id, block, first);
	if (first != n_block)
		hb_frame(to, H2_CONTINUATION, H2_END_HEADERS, id, &block[first], n_block - first);
}

static void put_data(struct h2_bytes *to, uint8_t kind, uint32_t id, const uint8_t *p, size_t n)
{
	static uint8_t padded[16384];

	n = FOIL_MIN(n, sizeof(padded) - 8);
	if (kind != 'P') {
		hb_frame(to, H2_DATA, kind == 'F' ? H2_END_STREAM : 0, id, p, (uint32_t)n);
		return;
	}
	padded[0] = 7;
	if (n)
		memcpy(&padded[1], p, n);
	memset(&padded[n + 1], 0, 7);
	hb_frame(to, H2_DATA, H2_PADDED, id, padded, (uint32_t)n + 8);
}

void bridge_script(struct h2_bytes *to, const uint8_t *data, size_t n)
{
	while (n > 2 && to->n < sizeof(to->at) / 2) {
		const uint8_t *stop = memchr(data, 0x1e, n);
		size_t n_frame = stop ? (size_t)(stop - data) : n;
		if (n_frame >= 2) {
			uint32_t id = (uint32_t)((data[1] - '0') & 0x3f) | 1;
			switch (data[0]) {
			case 'H': case 'E': case 'h': case 'e': case 'p': put_head(to, data[0], id, &data[2], n_frame - 2); break;
			case 'R': hb_u32(to, H2_RST_STREAM, id, 8); break;
			default: put_data(to, data[0], id, &data[2], n_frame - 2); break;
			}
		}
		data += n_frame + (stop != NULL);
		n -= n_frame + (stop != NULL);
	}
}

/* ---- bytes ---- */
void bridge_append(struct text *t, const struct foil_chain *chain)
{
	char some[2048];

	for (uint32_t at = 0; at < chain->n_bytes;) {
		uint32_t n = FOIL_MIN(chain->n_bytes - at, (uint32_t)sizeof(some));
		foil_chain_copy_out(chain, at, some, n);
		text_add(t, some, n);
		at += n;
	}
}

void bridge_take(struct fake_stream *f, struct text *to)
{
	bridge_append(to, &f->tx);
	foil_chain_clear(&f->tx);
}

void bridge_feed(struct foil_worker *w, struct fake_stream *f, const struct text *bytes, uint32_t seed, void (*turn)(struct foil_worker *w))
{
	for (size_t done = 0; done < bytes->n && fake_is_alive(f);) {
		size_t n = bytes->n - done;
		if (seed) {
			seed = seed * 1664525u + 1013904223u;
			n = FOIL_MIN(n, (size_t)(seed >> 24) % ((seed & 1) ? 4 : 200) + 1);
		}
		fake_feed(w, f, &bytes->at[done], (uint32_t)n, 0, false);
		done += n;
		turn(w);
	}
}

#define INPUT_BYTES_MAX (32u * 1024)

bool bridge_begin(struct foil_worker **w, const struct http_params *p, size_t n_bytes)
{
	if (!*w) {
		*w = t_worker(.n_mbufs = 16383, .n_indirect = 16383, .n_chunks = 1023, .n_large_chunks = 63);
		if (http_init(*w, p, NULL) != 0)
			abort();
	}
	t_reason(*w, HTTP, OUT_OF_MEMORY) = 0;
	return n_bytes >= 2 && n_bytes <= INPUT_BYTES_MAX;
}

void bridge_end(struct foil_worker *w)
{
	t_assert_no_leaks(w);
	if (t_counter(w, HTTP, EXCHANGES) || t_counter(w, HTTP, SERVER_CONNS) || t_counter(w, HTTP, CLIENT_CONNS) || t_counter(w, HTTP, H2_CONNS))
		abort();
}
