/* HTTP/1.1 heads of a small client, a browser and a browser with cookies: found, read and judged; and written for the next hop. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/http/h1_priv.h"
#include "perf/micro/micro.h"

#define BURST 16

static void make_head(char *out, size_t n_bytes, uint32_t n_fields)
{
	size_t n = (size_t)snprintf(out, n_bytes + 1, "GET /shop/items/1234?page=2 HTTP/1.1\r\nHost: web.example.com\r\nAccept: */*\r\n");
	uint32_t each = n_fields ? (uint32_t)((n_bytes - n - 2) / n_fields) : 0;

	for (uint32_t i = 0; i < n_fields; i++) {
		n += (size_t)snprintf(out + n, n_bytes + 1 - n, "x-field-%02u: ", i);
		size_t end = i + 1 == n_fields ? n_bytes - 4 : n + each - 16;
		for (; n < end; n++)
			out[n] = (char)('a' + n % 26);
		out[n++] = '\r';
		out[n++] = '\n';
	}
	memcpy(out + n, "\r\n", 3);
}

static void read_heads(struct micro *m, const char *name, size_t n_bytes, uint32_t n_fields)
{
	const struct http_limits limits = {.head_bytes_max = 60 * 1024, .headers_max = 100};
	char text[8192];
	struct foil_arena arena = {0};

	make_head(text, n_bytes, n_fields);
	uint32_t n_text = (uint32_t)strlen(text);
	for (int n = 0; n < MICRO_BURSTS; n++) {
		uint64_t before = rig_cycles();
		for (uint32_t i = 0; i < BURST; i++) {
			struct h1_block block = {0};
			struct http_head head;
			uint32_t end;
			if (h1_block_scan(&block, text, n_text, &end) != H1_BLOCK_FOUND ||
			    h1_read_request(&m->rig.w, &arena, foil_slice_of(text, end), block.n_lines, &limits, &head) != HTTP_REASON_OK)
				abort();
			foil_arena_reset(&m->rig.w, &arena);
		}
		rig_note(&m->figures, rig_cycles() - before);
	}
	micro_say(m, name, BURST);
}

static void write_heads(struct micro *m, const char *name, size_t n_bytes, uint32_t n_fields)
{
	const struct http_limits limits = {.head_bytes_max = 60 * 1024, .headers_max = 100};
	struct h1_encode_params p = {.framing = H1_FRAME_NONE};
	struct foil_arena arena = {0};
	struct h1_block block = {0};
	struct http_head head;
	char text[8192];
	uint32_t end;

	make_head(text, n_bytes, n_fields);
	if (h1_block_scan(&block, text, (uint32_t)strlen(text), &end) != H1_BLOCK_FOUND ||
	    h1_read_request(&m->rig.w, &arena, foil_slice_of(text, end), block.n_lines, &limits, &head) != HTTP_REASON_OK)
		abort();
	for (int n = 0; n < MICRO_BURSTS; n++) {
		uint64_t before = rig_cycles();
		for (uint32_t i = 0; i < BURST; i++) {
			struct foil_chain out = {0};
			if (h1_encode_request(&m->rig.w, &head, &p, &out))
				abort();
			foil_chain_clear(&out);
		}
		rig_note(&m->figures, rig_cycles() - before);
	}
	foil_arena_reset(&m->rig.w, &arena);
	micro_say(m, name, BURST);
}

void micro_http(struct micro *m)
{
	read_heads(m, "http.h1_read_128", 128, 1);
	read_heads(m, "http.h1_read_700", 700, 10);
	read_heads(m, "http.h1_read_4k", 4096, 30);
	write_heads(m, "http.h1_write_128", 128, 1);
	write_heads(m, "http.h1_write_700", 700, 10);
}
