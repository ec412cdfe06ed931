/* A whole server-side connection: bytes from the input, cut in two ways, must come to the same, in bursts or not; and what is decoded, once encoded for the
 * next hop, must be decoded there to the same request. No mbuf, chunk or exchange may be left over.
 *
 * With the highest option bit the user closes, resets, pauses and answers as it likes in the second run.
 *
 * Input: [options] [seed of the cuts] then the client's bytes. */
#include <stdlib.h>

#include "tests/unit/http/h1_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h1_side side, hop_out, hop_in;
static char text[2][sizeof(side.text)], tx[2][sizeof(side.tx)];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void drop_all(char *from, const char *what)
{
	size_t n = strlen(what);

	for (char *at = from; (at = strstr(at, what));)
		memmove(at, at + n, strlen(at + n) + 1);
}

/* A request that was let in goes out as one that the next server reads alike. */
static void check_next_hop(struct foil_worker *worker, struct h1_side *from, const struct http_head *head)
{
	struct http_limits limits = {.accept_http10 = true, .headers_max = 1000};
	struct http_head out = *head;

	if (head->has_several_hosts || head->authority.n_bytes == 0)
		return;
	out.body = HTTP_BODY_NONE;
	side_client(worker, &hop_out, NULL, true);
	hop_out.hs = http_client_start(worker, hop_out.c, &hop_out.arena, &side_stream_events, &hop_out);
	if (http_send_head(worker, hop_out.hs, &out, true) != 0)
		abort();
	(void)side_tx(&hop_out);
	side_server(worker, &hop_in, &limits);
	side_feed(worker, &hop_in, hop_out.tx);
	if (hop_in.n_heads != 1 || hop_in.n_bad || strcmp(hop_in.line, from->line) != 0) {
		fprintf(stderr, "let in: %s\nsent on: %s\nread there: %s\n", from->line, hop_out.tx, hop_in.line);
		abort();
	}
	if (hop_in.head.is_upgrade != head->is_upgrade || hop_in.head.has_te_trailers != head->has_te_trailers)
		abort();
	http_conn_close(worker, hop_in.c);
	http_conn_close(worker, hop_out.c);
	foil_arena_reset(worker, &hop_out.arena);
	fake_fini(&hop_in.f);
	fake_fini(&hop_out.f);
}

static void run_once(const uint8_t *data, size_t size, uint8_t options, uint32_t seed, int into)
{
	bool is_hasty = seed && (options & 128);
	struct http_limits limits = {
		.accept_http10 = options & 1, .reject_underscores = options & 2, .head_bytes_max = options & 4 ? 200 : 0,
		.headers_max = options & 8 ? 3 : 0, .idle_timeout_us = 1000000, .head_timeout_us = 1000000,
	};

	side.reply = options & 16 ? SIDE_REPLY_AT_HEAD : SIDE_REPLY_AT_END;
	side.takes_trailers = options & 32;
	side.takes_upgrades = options & 64;
	side.closes_in_head = is_hasty && (seed & 1);
	side.resets_in_head = is_hasty && (seed & 2);
	side.closes_in_data = is_hasty && (seed & 4);
	side.pauses_at_head = is_hasty && (seed & 8);
	side.f.holds = false;
	side.head_hook = into == 0 && !(options & 12) ? check_next_hop : NULL;
	side_server(w, &side, &limits);
	for (size_t done = 0; done < size && fake_is_alive(&side.f);) {
		size_t n = size - done;
		if (seed) {
			seed = seed * 1664525u + 1013904223u;
			n = FOIL_MIN(n, (seed >> 24) % ((seed & 1) ? 4 : 200) + 1);
		}
		if (seed & 0x30000)
			http_burst_begin(w);
		fake_feed(w, &side.f, &data[done], (uint32_t)n, 0, false);
		done += n;
		if (seed & 0x40000)
			http_burst_end(w);
		if (is_hasty && side.hs && (seed & 0x100))
			http_stream_pause(w, side.hs, seed & 0x200);
		else if (is_hasty && side.hs && (seed & 0x1c00) == 0 && (seed & 0x2000))
			(void)side_send_status(w, side.hs, 200, HTTP_BODY_CHUNKED, 0, seed & 0x4000);
		else if (is_hasty && side.c && (seed & 0x3c00) == 0x400)
			http_conn_drain(w, side.c);
	}
	if (fake_is_alive(&side.f) && (options & 64))
		fake_eof(w, &side.f);
	http_burst_end(w);
	if (fake_is_alive(&side.f) && !(options & 64))
		t_advance(w, 1100000);
	snprintf(text[into], sizeof(text[into]), "%s sum=%llx", side_text(&side), (unsigned long long)side.body_sum);
	uint32_t n_tx = fake_take_tx(&side.f, tx[into], sizeof(tx[into]) - 1);
	tx[into][n_tx] = 0;
	drop_all(tx[into], "HTTP/1.1 100 Continue\r\n\r\n"); /* whether it is due depends on what has come already */
	if (side.c)
		http_conn_close(w, side.c);
	fake_fini(&side.f);
	t_assert_no_leaks(w);
	if (t_counter(w, HTTP, EXCHANGES) || t_counter(w, HTTP, SERVER_CONNS) || t_counter(w, HTTP, CLIENT_CONNS))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!w) {
		w = t_worker();
		if (http_init(w, &(struct http_params){16, 16}, NULL) != 0)
			abort();
	}
	if (size < 2 || size > 64 * 1024)
		return 0;
	run_once(&data[2], size - 2, data[0], 0, 0);
	run_once(&data[2], size - 2, data[0], data[1] + 1u, 1);
	if (data[0] & 128)
		return 0; /* the second run had a hasty user: that it ends well is all */
	if (strcmp(text[0], text[1]) != 0 || strcmp(tx[0], tx[1]) != 0) {
		fprintf(stderr, "whole:\n%s\n%s\ncut:\n%s\n%s\n", text[0], tx[0], text[1], tx[1]);
		abort();
	}
	return 0;
}
