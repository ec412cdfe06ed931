/* The origin: every request gets the same answer, made once. */
#include <errno.h>
#include <stdlib.h>

#include "perf/load/load.h"

int load_origin_init(struct load *l)
{
	size_t n = 0;
	FILE *f = open_memstream(&l->answer, &n);

	if (!f)
		return -ENOMEM;
	(void)fprintf(f, "HTTP/1.1 200 OK\r\nserver: foil-load\r\ncontent-type: text/plain\r\ncontent-length: %u\r\n\r\n", l->conf->body_bytes);
	for (uint32_t i = 0; i < l->conf->body_bytes; i++)
		(void)fputc('x', f);
	if (fclose(f))
		return -ENOMEM;
	l->n_answer = (uint32_t)n;
	return 0;
}

/* As head_gather in engine.c: how many bytes of data are used up, -1 for nonsense; s->n_partial stays while the head is not whole. */
static int64_t gather(struct load_served *s, const char *data, uint32_t n_bytes, struct load_head *h)
{
	uint32_t before = s->n_partial, n = FOIL_MIN(n_bytes, LOAD_HEAD_BYTES_MAX - before);

	if (!s->partial && !(s->partial = malloc(LOAD_HEAD_BYTES_MAX)))
		abort();
	memcpy(s->partial + before, data, n);
	s->n_partial += n;
	load_head_scan(s->partial, s->n_partial, h);
	if (h->n_bytes == 0)
		return s->n_partial < LOAD_HEAD_BYTES_MAX ? (int64_t)n : -1;
	s->n_partial = 0;
	return (int64_t)h->n_bytes - before;
}

static int plain_bytes(struct load *l, struct load_served *s, const char *data, uint32_t n_bytes)
{
	int n_answers = 0;

	while (n_bytes > 0) {
		if (s->body_left == 0) {
			struct load_head h = {0};
			if (s->n_partial == 0)
				load_head_scan(data, n_bytes, &h);
			int64_t used = h.n_bytes;
			if (used == 0)
				used = gather(s, data, n_bytes, &h);
			if (used < 0)
				return -1;
			data += used;
			n_bytes -= (uint32_t)used;
			if (h.n_bytes == 0)
				return n_answers;
			s->body_left = h.content_length;
		}
		uint32_t n = (uint32_t)FOIL_MIN((uint64_t)n_bytes, s->body_left);
		data += n;
		n_bytes -= n;
		s->body_left -= n;
		if (s->body_left == 0) {
			n_answers++;
			l->n_origin_requests++;
		}
	}
	return n_answers;
}

static void out_add(struct load_served *s, const char *data, uint32_t n_bytes)
{
	if (s->n_out + n_bytes > s->out_cap) {
		s->out_cap = FOIL_MAX(2 * s->out_cap, s->n_out + n_bytes + 4096);
		s->out = realloc(s->out, s->out_cap);
		if (!s->out)
			abort();
	}
	memcpy(s->out + s->n_out, data, n_bytes);
	s->n_out += n_bytes;
}

static void layered_write(struct load_served *s, const char *data, uint32_t n_bytes)
{
	if (s->secure)
		load_secure_write(s->secure, data, n_bytes);
	else
		out_add(s, data, n_bytes);
}

/* Plain bytes where TLS or HTTP/2 is in between. */
static bool layered_bytes(struct load *l, struct load_served *s, const char *data, uint32_t n_bytes)
{
	if (!s->h2) {
		int n = plain_bytes(l, s, data, n_bytes);
		for (int i = 0; i < n; i++)
			layered_write(s, l->answer, l->n_answer);
		return n >= 0;
	}
	const char *out;
	bool fine = load_h2_bytes(s->h2, data, n_bytes);
	uint32_t n = load_h2_pending(s->h2, &out);
	layered_write(s, out, n);
	load_h2_taken(s->h2);
	return fine;
}

static bool secure_bytes(struct load *l, struct load_served *s, const char *data, uint32_t n_bytes)
{
	char plain[16384];
	int n = -1;

	load_secure_feed(s->secure, data, n_bytes);
	int rc = load_secure_handshake(l, s->secure);
	while (rc == 1 && (n = load_secure_read(s->secure, plain, sizeof(plain))) > 0)
		if (!layered_bytes(l, s, plain, (uint32_t)n))
			return false;
	const char *out;
	uint32_t n_out = load_secure_pending(s->secure, &out);
	out_add(s, out, n_out);
	load_secure_taken(s->secure);
	return rc == 0 || n == 0;
}

int load_origin_bytes(struct load *l, struct load_served *s, const char *data, uint32_t n_bytes)
{
	if (l->conf->work == LOAD_TCP)
		return 0;
	if (!l->conf->origin_tls && !l->conf->origin_http2)
		return plain_bytes(l, s, data, n_bytes);
	if (l->conf->origin_tls && !s->secure)
		s->secure = load_secure_new(l, false);
	if (l->conf->origin_http2 && !s->h2)
		s->h2 = load_h2_new(l, NULL);
	return (s->secure ? secure_bytes(l, s, data, n_bytes) : layered_bytes(l, s, data, n_bytes)) ? 0 : -1;
}

void load_served_free(struct load_served *s)
{
	load_secure_free(s->secure);
	load_h2_free(s->h2);
	free(s->out);
	s->secure = NULL;
	s->h2 = NULL;
	s->out = NULL;
	free(s->partial);
	s->partial = NULL;
}
