/* A whole client-side connection: an upstream's bytes from the input, cut in two ways, must come to the same, in bursts or not. No mbuf, chunk or exchange
 * may be left over.
 *
 * Input: [options] [seed of the cuts] then the upstream's bytes. */
#include <stdlib.h>

#include "tests/unit/http/h1_side.h"
#include "tests/unit/support.h"

static struct foil_worker *w;
static struct h1_side side;
static char text[2][sizeof(side.text)];

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void drop_all(char *from, const char *what)
{
	size_t n = strlen(what);

	for (char *at = from; (at = strstr(at, what));)
		memmove(at, at + n, strlen(at + n) + 1);
}

static void run_once(const uint8_t *data, size_t size, uint8_t options, uint32_t seed, int into)
{
	struct http_limits limits = {.head_bytes_max = options & 4 ? 200 : 0, .headers_max = options & 8 ? 3 : 0};

	side.takes_trailers = options & 32;
	side_client(w, &side, &limits, !(options & 16));
	side_request(w, &side, options & 1 ? "HEAD" : "GET", "/");
	if (options & 16)
		fake_opened(w, &side.f);
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
	}
	if (fake_is_alive(&side.f)) {
		if (options & 64)
			fake_eof(w, &side.f);
		else
			fake_closed(w, &side.f, STREAM_END_RESET);
	}
	http_burst_end(w);
	snprintf(text[into], sizeof(text[into]), "%s sum=%llx", side_text(&side), (unsigned long long)side.body_sum);
	drop_all(text[into], "ready\n"); /* whether what follows a whole answer has come by then is chance */
	if (side.c)
		http_conn_close(w, side.c);
	foil_arena_reset(w, &side.arena);
	fake_fini(&side.f);
	t_assert_no_leaks(w);
	if (t_counter(w, HTTP, EXCHANGES) || t_counter(w, HTTP, CLIENT_CONNS))
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
	if (strcmp(text[0], text[1]) != 0) {
		fprintf(stderr, "whole:\n%s\ncut:\n%s\n", text[0], text[1]);
		abort();
	}
	return 0;
}
