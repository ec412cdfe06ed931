/* A whole client-side connection of HTTP/2 with six requests under way: a server's bytes, whole and cut. Streams that were not reset must have been
 * told the same both times; no mbuf, chunk, stream or connection may be left over.
 *
 * Input: [options] [seed of the cuts] then the server's bytes; with bit 0 SETTINGS are put before them. */
#include <stdlib.h>

#include "tests/unit/http/h2_side.h"
#include "tests/unit/support.h"

#define N_REQUESTS 6u

static struct foil_worker *w;
static struct h2_side side;
static struct h2_bytes b;
static char whole[N_REQUESTS][sizeof(side.rec[0].text)];
static bool was_alive;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void feed_cut(uint32_t seed, bool is_hasty)
{
	for (uint32_t done = 0; done < b.n && fake_is_alive(&side.f);) {
		uint32_t n = b.n - done;
		if (seed) {
			seed = seed * 1664525u + 1013904223u;
			n = FOIL_MIN(n, (seed >> 24) % ((seed & 1) ? 4 : 200) + 1);
		}
		fake_feed(w, &side.f, &b.at[done], n, 0, false);
		done += n;
		struct h2_rec *r = &side.rec[(seed >> 16) % side.n_rec];
		if (!is_hasty || !side.c)
			continue;
		if (r->hs && (seed & 0x300) == 0x100) {
			http_stream_pause(w, r->hs, seed & 0x400);
		} else if (r->hs && (seed & 0x300) == 0x200) {
			http_stream_reset(w, r->hs);
			r->hs = NULL;
		} else if (r->hs && (seed & 0x300) == 0x300) {
			h2side_send(w, r->hs, (seed >> 8) & 0x3fff, seed & 0x1000);
		} else if (http_conn_capacity(side.c) && side.n_rec < 100) {
			(void)h2side_request(w, &side, "GET", "/more", true); /* it may be refused for memory */
		}
	}
}

static void compare(bool is_first)
{
	bool is_alive = fake_is_alive(&side.f);

	for (uint32_t i = 0; i < N_REQUESTS; i++) {
		if (is_first) {
			snprintf(whole[i], sizeof(whole[i]), "%s", side.rec[i].is_reset ? "" : side.rec[i].text);
		} else if (is_alive && was_alive && whole[i][0] && !side.rec[i].is_reset && strcmp(whole[i], side.rec[i].text) != 0) {
			fprintf(stderr, "whole: %s\ncut: %s\n", whole[i], side.rec[i].text);
			abort();
		}
	}
	if (is_first)
		was_alive = is_alive;
}

static void run_once(const uint8_t *data, size_t size, uint8_t options, uint32_t seed)
{
	bool is_hasty = options & 64;
	struct http_limits limits = {.head_bytes_max = options & 2 ? 300 : 0, .headers_max = options & 4 ? 3 : 0, .idle_timeout_us = 1000000};

	side.resets_in_data = is_hasty && (seed & 3) == 3;
	side.closes_in_head = is_hasty && (seed & 3) == 2;
	h2side_client(w, &side, &limits, !(options & 8));
	for (uint32_t i = 0; i < N_REQUESTS; i++)
		if (!h2side_request(w, &side, i == 1 ? "HEAD" : "GET", "/", i != 2))
			abort();
	if (options & 8)
		fake_opened(w, &side.f);
	b.n = 0;
	if (options & 1)
		hb_hello(&b, false);
	hb_raw(&b, data, (uint32_t)size);
	feed_cut(seed, is_hasty);
	if (!is_hasty)
		compare(seed == 0);
	if (fake_is_alive(&side.f)) {
		if (options & 16)
			fake_eof(w, &side.f);
		else if (options & 32)
			fake_closed(w, &side.f, STREAM_END_RESET);
	}
	h2side_fini(w, &side);
	t_assert_no_leaks(w);
	if (t_counter(w, HTTP, EXCHANGES) || t_counter(w, HTTP, CLIENT_CONNS) || t_counter(w, HTTP, H2_CONNS))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!w) {
		w = t_worker(.n_mbufs = 8191, .n_indirect = 8191);
		if (http_init(w, &(struct http_params){16, 256}, NULL) != 0)
			abort();
	}
	if (size < 2 || size > 32 * 1024)
		return 0;
	run_once(&data[2], size - 2, data[0], 0);
	run_once(&data[2], size - 2, data[0], data[1] + 1u);
	return 0;
}
