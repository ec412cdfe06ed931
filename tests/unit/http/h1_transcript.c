/* What the codec makes of byte streams, for differential.py: reads records of "side(1: Q request, R response) n_bytes(4, little-endian)
 * bytes" from stdin, and writes for each "n_bytes(4) the transcript of h1_side.h". */
#include <stdlib.h>

#include "tests/unit/http/h1_side.h"
#include "tests/unit/support.h"

static struct h1_side side;

static void one(struct foil_worker *w, bool is_request, const char *data, uint32_t n_bytes)
{
	side.reply = SIDE_REPLY_AT_END;
	side.takes_trailers = false;
	if (is_request) {
		side_server(w, &side, NULL);
	} else {
		side_client(w, &side, NULL, true);
		side_request(w, &side, "GET", "/");
	}
	fake_feed(w, &side.f, data, n_bytes, 1460, false);
	if (!is_request && fake_is_alive(&side.f))
		fake_eof(w, &side.f);
	for (unsigned int shift = 0; shift < 32; shift += 8)
		putchar((int)(side.n_text >> shift & 0xff));
	(void)fwrite(side.text, side.n_text, 1, stdout); /* a short write shows at the reader */
	side_fini(w, &side);
}

int main(void)
{
	static char data[1 << 20];
	struct foil_worker *w = t_worker();
	uint8_t head[5];

	if (http_init(w, &(struct http_params){16, 16}, NULL) != 0)
		return 1;
	while (fread(head, sizeof(head), 1, stdin) == 1) {
		uint32_t n_bytes = head[1] | (uint32_t)head[2] << 8 | (uint32_t)head[3] << 16 | (uint32_t)head[4] << 24;
		if (n_bytes > sizeof(data) || fread(data, 1, n_bytes, stdin) != n_bytes)
			return 1;
		one(w, head[0] == 'Q', data, n_bytes);
	}
	http_fini(w);
	t_worker_free(w);
	return 0;
}
