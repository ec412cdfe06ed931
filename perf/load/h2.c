/* HTTP/2 for foil-load, by nghttp2: a client whose requests are streams of one connection, and an origin that answers each with the same body.
 * Who calls brings bytes in and takes bytes out, and ends the connection: nothing is freed under nghttp2's feet. */
#include <stdlib.h>

#include <nghttp2/nghttp2.h>

#include "perf/load/load.h"

#define WINDOW_BYTES (16 << 20)

struct load_h2 {
	nghttp2_session *session;
	struct load *load;
	struct load_conn *c; /* NULL: an origin's */
	bool failed;
	char *out;
	uint32_t n_out, cap;
};

/* A request of the client's. */
struct asked {
	uint64_t due_ns, n_body;
	bool is_200;
};

static void out_add(struct load_h2 *h, const uint8_t *data, size_t n)
{
	if (h->n_out + n > h->cap) {
		h->cap = (uint32_t)FOIL_MAX(2 * (size_t)h->cap, h->n_out + n + 4096);
		h->out = realloc(h->out, h->cap);
		if (!h->out)
			abort();
	}
	memcpy(h->out + h->n_out, data, n);
	h->n_out += (uint32_t)n;
}

static void send_all(struct load_h2 *h)
{
	const uint8_t *data;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(h->session, &data)) > 0)
		out_add(h, data, (size_t)n);
	h->failed |= n < 0;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name, size_t n_name, const uint8_t *value, size_t n_value,
		     uint8_t flags, void *arg)
{
	struct asked *a = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);

	if (a && n_name == 7 && memcmp(name, ":status", 7) == 0)
		a->is_200 = n_value == 3 && memcmp(value, "200", 3) == 0;
	return 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *arg)
{
	struct load_h2 *h = arg;
	struct asked *a = nghttp2_session_get_stream_user_data(session, id);

	if (a)
		a->n_body += n;
	h->load->n_bytes += h->c ? n : 0;
	return 0;
}

static int on_stream_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
	struct load_h2 *h = arg;
	struct asked *a = nghttp2_session_get_stream_user_data(session, id);

	if (!a)
		return 0;
	struct asked done = *a;
	free(a);
	if (code)
		h->load->n_errors[LOAD_ERR_PROTOCOL]++;
	else if (!done.is_200)
		h->load->n_errors[LOAD_ERR_STATUS]++;
	else if (done.n_body != h->load->conf->body_bytes)
		h->load->n_errors[LOAD_ERR_LENGTH]++;
	load_answered_at(h->load, h->c, done.due_ns, !code && done.is_200);
	return 0;
}

static ssize_t body_read(nghttp2_session *session, int32_t id, uint8_t *buf, size_t n_max, uint32_t *flags, nghttp2_data_source *source, void *arg)
{
	const struct load_h2 *h = arg;
	uint64_t at = (uint64_t)(uintptr_t)nghttp2_session_get_stream_user_data(session, id), n_all = h->load->conf->body_bytes;
	size_t n = (size_t)FOIL_MIN((uint64_t)n_max, n_all - at);

	memset(buf, 'x', n);
	if (at + n == n_all)
		*flags |= NGHTTP2_DATA_FLAG_EOF;
	(void)nghttp2_session_set_stream_user_data(session, id, (void *)(uintptr_t)(at + n)); /* the stream is there: it asks */
	return (ssize_t)n;
}

#define FIELD(N, V) {(uint8_t *)(uintptr_t)(N), (uint8_t *)(uintptr_t)(V), strlen(N), strlen(V), NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE}

/* Of a request that is whole. */
static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
	struct load_h2 *h = arg;
	const nghttp2_data_provider body = {.read_callback = body_read};
	bool is_last = (frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) && frame->hd.flags & NGHTTP2_FLAG_END_STREAM;

	if (h->c || !is_last)
		return 0;
	char length[16];
	snprintf(length, sizeof(length), "%u", h->load->conf->body_bytes);
	const nghttp2_nv head[] = {FIELD(":status", "200"), FIELD("server", "foil-load"), FIELD("content-type", "text/plain"),
				   {(uint8_t *)(uintptr_t) "content-length", (uint8_t *)length, 14, strlen(length), NGHTTP2_NV_FLAG_NO_COPY_NAME}};
	h->load->n_origin_requests++;
	return nghttp2_submit_response(session, frame->hd.stream_id, head, FOIL_COUNT_OF(head), &body);
}

struct load_h2 *load_h2_new(struct load *l, struct load_conn *c)
{
	const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, 1000}, {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, WINDOW_BYTES}};
	struct load_h2 *h = calloc(1, sizeof(*h));
	nghttp2_session_callbacks *k;

	if (!h || nghttp2_session_callbacks_new(&k))
		abort();
	h->load = l;
	h->c = c;
	nghttp2_session_callbacks_set_on_header_callback(k, on_header);
	nghttp2_session_callbacks_set_on_data_chunk_recv_callback(k, on_data);
	nghttp2_session_callbacks_set_on_frame_recv_callback(k, on_frame);
	if (c)
		nghttp2_session_callbacks_set_on_stream_close_callback(k, on_stream_close);
	if (c ? nghttp2_session_client_new(&h->session, k, h) : nghttp2_session_server_new(&h->session, k, h))
		abort();
	nghttp2_session_callbacks_del(k);
	h->failed = nghttp2_submit_settings(h->session, NGHTTP2_FLAG_NONE, settings, FOIL_COUNT_OF(settings)) ||
		    nghttp2_session_set_local_window_size(h->session, NGHTTP2_FLAG_NONE, 0, WINDOW_BYTES);
	return h;
}

void load_h2_free(struct load_h2 *h)
{
	if (!h)
		return;
	for (int32_t id = 1; h->c && id <= (int32_t)nghttp2_session_get_next_stream_id(h->session); id += 2)
		free(nghttp2_session_get_stream_user_data(h->session, id)); /* NULL when the stream is over */
	nghttp2_session_del(h->session);
	free(h->out);
	free(h);
}

void load_h2_request(struct load_h2 *h, uint64_t due_ns)
{
	const struct load_conf *k = h->load->conf;
	const nghttp2_nv head[] = {FIELD(":method", "GET"), FIELD(":scheme", k->tls ? "https" : "http"), FIELD(":authority", k->host), FIELD(":path", k->path),
				   FIELD("user-agent", "foil-load"), FIELD("accept", "*/*")};
	struct asked *a = calloc(1, sizeof(*a));

	if (!a)
		abort();
	a->due_ns = due_ns;
	if (nghttp2_submit_request(h->session, NULL, head, FOIL_COUNT_OF(head), NULL, a) < 0) {
		free(a);
		h->failed = true;
	}
}

bool load_h2_bytes(struct load_h2 *h, const void *data, uint32_t n_bytes)
{
	if (nghttp2_session_mem_recv(h->session, data, n_bytes) != (ssize_t)n_bytes)
		h->failed = true;
	h->failed |= !nghttp2_session_want_read(h->session); /* what came is no HTTP/2, or the peer is going */
	return !h->failed;
}

uint32_t load_h2_pending(struct load_h2 *h, const char **out)
{
	send_all(h);
	*out = h->out;
	return h->n_out;
}

void load_h2_taken(struct load_h2 *h)
{
	h->n_out = 0;
}
