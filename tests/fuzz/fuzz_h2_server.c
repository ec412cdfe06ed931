/* A whole server-side connection of HTTP/2: a client's bytes, whole and cut. Streams that were neither reset nor answered must have been told the
 * same both times; no mbuf, chunk, stream or connection may be left over. With bit 6 of the options the user answers, pauses, resets and closes
 * as the seed says, and that it ends well is all.
 *
 * Input: [options] [seed of the cuts] then the client's bytes; with bit 0 preface and SETTINGS are put before them. */
#include <stdlib.h>

#include "tests/unit/http/h2_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h2_side side;
static struct h2_bytes b;
static char whole[64][sizeof(side.rec[0].text)];
static uint64_t whole_sum[64];
static uint32_t n_whole;
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
		struct h2_rec *r = is_hasty && side.n_rec ? &side.rec[(seed >> 16) % side.n_rec] : NULL;
		if (r && r->hs && (seed & 0x100))
			http_stream_pause(w, r->hs, seed & 0x200);
		else if (r && r->hs && (seed & 0xc00) == 0)
			(void)h2side_reply(w, r->hs, 200, HTTP_BODY_CHUNKED, 0, seed & 0x1000);
		else if (r && r->hs && (seed & 0xc00) == 0x400)
			h2side_send(w, r->hs, (seed >> 8) & 0x3fff, seed & 0x1000);
		else if (is_hasty && side.c && (seed & 0x7c00) == 0x800)
			http_conn_drain(w, side.c);
		if (is_hasty && (seed & 0x8000))
			t_advance(w, (seed >> 12) & 0xffff);
	}
}

static void compare(bool is_first)
{
	bool is_alive = fake_is_alive(&side.f);

	if (is_first) {
		was_alive = is_alive;
		n_whole = FOIL_MIN(side.n_rec, 64u);
	} else if (!is_alive || !was_alive) {
		return; /* what was under way when it failed depends on the turn */
	} else if (FOIL_MIN(side.n_rec, 64u) != n_whole) {
		abort();
	}
	for (uint32_t i = 0; i < n_whole; i++) {
		if (is_first) {
			snprintf(whole[i], sizeof(whole[i]), "%s", side.rec[i].is_reset ? "" : side.rec[i].text);
			whole_sum[i] = side.rec[i].body_sum;
		} else if (whole[i][0] && !side.rec[i].is_reset &&
			   (strcmp(whole[i], side.rec[i].text) != 0 || whole_sum[i] != side.rec[i].body_sum)) {
			fprintf(stderr, "whole: %s\ncut: %s\n", whole[i], side.rec[i].text);
			abort();
		}
	}
}

static void run_once(const uint8_t *data, size_t size, uint8_t options, uint32_t seed)
{
	bool is_hasty = options & 64;
	struct http_limits limits = {
		.head_bytes_max = options & 2 ? 300 : 0, .headers_max = options & 4 ? 3 : 0, .idle_timeout_us = 1000000, .head_timeout_us = 1000000,
		.h2_streams_max = options & 8 ? 2 : 60,
	};

	side.reply = is_hasty ? (options & 16 ? H2_REPLY_AT_HEAD : H2_REPLY_AT_END) : H2_REPLY_NONE;
	side.drops_trailers = options & 32;
	side.takes_upgrades = options & 32;
	side.resets_in_head = is_hasty && (seed & 7) == 1;
	side.closes_in_head = is_hasty && (seed & 7) == 2;
	side.resets_in_data = is_hasty && (seed & 7) == 3;
	h2side_server(w, &side, options & 128 ? HTTP_PROTOCOL_AUTO : HTTP_PROTOCOL_H2, &limits);
	b.n = 0;
	if (options & 1)
		hb_hello(&b, true);
	hb_raw(&b, data, (uint32_t)size);
	feed_cut(seed, is_hasty);
	if (!is_hasty)
		compare(seed == 0);
	if (fake_is_alive(&side.f) && (seed & 1))
		fake_eof(w, &side.f);
	else if (fake_is_alive(&side.f))
		t_advance(w, 1100000);
	h2side_fini(w, &side);
	t_assert_no_leaks(w);
	if (t_counter(w, HTTP, EXCHANGES) || t_counter(w, HTTP, SERVER_CONNS) || t_counter(w, HTTP, H2_CONNS))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!w) {
		w = t_worker(.n_mbufs = 8191, .n_indirect = 8191);
		if (http_init(w, &(struct http_params){16, 128}, NULL) != 0)
			abort();
	}
	if (size < 2 || size > 32 * 1024)
		return 0;
	run_once(&data[2], size - 2, data[0], 0);
	run_once(&data[2], size - 2, data[0], data[1] + 1u);
	return 0;
}
