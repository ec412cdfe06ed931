/* The bridge from clients to upstreams: a client's bytes into our server side, each request that is told sent on by our client side as HTTP/1.1 and as
 * HTTP/2 the way the router does it, and a stranger reads what comes out. It must have been asked what was meant and nothing else: the same method, target,
 * authority, fields in order, body, trailers and end, one message a request, no byte left over; what was cut short must not look whole to it.
 *
 * Input: [options] [seed of the cuts] then the client's bytes, or with bits 0 and 1 a script of HTTP/2 (bridge.h). */
#include <stdlib.h>

#include "tests/fuzz/bridge.h"
#include "tests/unit/support.h"

#define REQUESTS_MAX 40u

enum {
	IS_H2 = 1,           /* the client speaks HTTP/2: preface and SETTINGS are put before what it says */
	IS_SCRIPT = 2,
	TAKES_HTTP10 = 4,
	TAKES_UPGRADES = 8,  /* upstreams do; else they answer 404 */
	PASSES_TRAILERS = 16,/* as the router over HTTP/2 alone; else they are dropped, as with HTTP/1.1 on either side */
	ENDS_IN_FIN = 32,
};

struct request {
	struct http_stream *down; /* NULL: over */
	struct fake_stream f;     /* to the upstream of HTTP/1.1, one for each request */
	struct http_conn *c;
	struct foil_arena arena;
	struct http_stream *up[TO_COUNT];
	struct message meant[TO_COUNT];
	bool was_sent[TO_COUNT], has_answer[TO_COUNT];
	unsigned int at_h2;       /* which of the messages there */
	bool is_upgrade, is_tunnel, is_answered, ended, has_waited_for_end;
	struct foil_chain waiting; /* a tunnel's bytes before the tunnel */
};

static struct foil_worker *w;
static struct request requests[REQUESTS_MAX];
static unsigned int n_requests;
static uint8_t options;
static struct fake_stream client, shared;
static struct http_conn *client_conn, *shared_conn;
static struct heard at_h2;
static struct stranger_h2 *stranger;
static unsigned int n_at_h2;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- the upstreams' side of us ---- */
static enum bridge_to leg_of(const struct request *r, const struct http_stream *hs)
{
	return r->up[TO_H1] == hs ? TO_H1 : TO_H2;
}

static void up_head(struct foil_worker *worker, struct http_stream *hs, struct http_head *head, bool end)
{
	struct request *r = hs->user_data;
	struct foil_chain none = {0};

	(void)end;
	r->has_answer[leg_of(r, hs)] = true;
	if (r->is_upgrade && head->status != 101)
		http_send_data(worker, hs, &none, true); /* refused: there will be no bytes */
}

static void up_data(struct foil_worker *worker, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	(void)worker;
	(void)hs;
	(void)end;
	foil_chain_clear(own_data);
}

static void up_complete(struct foil_worker *worker, struct http_stream *hs)
{
	struct request *r = hs->user_data;

	(void)worker;
	r->up[leg_of(r, hs)] = NULL;
}

static void up_reset(struct foil_worker *worker, struct http_stream *hs, const struct http_reset_info *info)
{
	(void)info;
	up_complete(worker, hs);
}

static const struct http_stream_events up_events = {.head = up_head, .data = up_data, .complete = up_complete, .reset = up_reset};

static void request_conn_closed(struct foil_worker *worker, struct http_conn *c, enum stream_end why, bool never_opened)
{
	(void)worker;
	(void)why;
	(void)never_opened;
	*(struct http_conn **)http_conn_data(c) = NULL;
}

static const struct http_client_events conn_events = {.closed = request_conn_closed};

/* ---- on it goes ---- */
static bool must_be_refused(const struct http_head *head)
{
	return head->has_several_hosts;
}

static void send_on(struct request *r, enum bridge_to to, const struct http_head *head, bool end)
{
	struct http_head copy = *head;

	copy.version = HTTP_VERSION_11; /* as router.c's try_connected and forwarding.c's put_proto */
	copy.wants_close = false;
	copy.was_absolute_form = false;
	copy.scheme = FOIL_SLICE("http");
	if (end && copy.body != HTTP_BODY_LENGTH)
		copy.body = HTTP_BODY_NONE;
	if (to == TO_H1) {
		fake_init(&r->f, true);
		if (http_client_open(w, &r->f.s, &conn_events, NULL, &r->c, &r->c) != 0)
			return;
	}
	/* libnghttp2 wants an authority in each request; RFC 9113 8.3.1 has none where there is none to say, as in HTTP/1.1's empty Host. */
	if (to == TO_H2 && (copy.authority.n_bytes == 0 || !shared_conn || http_conn_capacity(shared_conn) == 0))
		return;
	r->up[to] = http_client_start(w, to == TO_H1 ? r->c : shared_conn, &r->arena, &up_events, r);
	if (!r->up[to])
		return;
	int rc = http_send_head(w, r->up[to], &copy, end);
	if ((rc != 0) != must_be_refused(head) && !t_reason(w, HTTP, OUT_OF_MEMORY))
		bridge_die(rc ? "a head that may go does not" : "a head that may not go does", NULL, NULL);
	if (rc != 0) {
		struct http_stream *hs = r->up[to];
		r->up[to] = NULL;
		http_stream_reset(w, hs);
		return;
	}
	r->was_sent[to] = true;
	if (to == TO_H2)
		r->at_h2 = n_at_h2++;
	bridge_meant_head(&r->meant[to], &copy, to);
}

static void data_on(struct request *r, struct foil_chain *own_data, bool end)
{
	for (enum bridge_to to = TO_H1; to < TO_COUNT; to++) {
		struct foil_chain copy = {0};
		bridge_append(&r->meant[to].body, own_data);
		if (!r->up[to])
			continue;
		if (own_data->n_bytes && foil_chain_share(w, own_data, 0, own_data->n_bytes, &copy) != 0) {
			foil_reason(w, HTTP, OUT_OF_MEMORY);
			continue;
		}
		http_send_data(w, r->up[to], &copy, end);
	}
	foil_chain_clear(own_data);
}

/* ---- the client's side of us ---- */
static const struct http_header websocket = {FOIL_SLICE("upgrade"), FOIL_SLICE("websocket"), HTTP_HDR_UPGRADE, false, 0};

static void answer(struct http_stream *hs, uint16_t status)
{
	const struct http_head ok = {.status = status, .body = HTTP_BODY_LENGTH};

	if (http_send_head(w, hs, &ok, true) != 0)
		http_stream_reset(w, hs);
}

static bool is_websocket(const struct http_head *head)
{
	unsigned int n = 0;

	for (uint16_t i = 0; i < head->headers.n; i++) {
		const struct http_header *h = &head->headers.list[i];
		if (h->is_removed || h->id != HTTP_HDR_UPGRADE)
			continue;
		if (!foil_slice_eq_nocase(h->value, FOIL_SLICE("websocket")))
			return false;
		n++;
	}
	return n == 1;
}

static void request_ended(struct request *r)
{
	r->ended = true;
	if (!r->is_upgrade && r->down)
		answer(r->down, 200);
}

static void down_head(struct foil_worker *worker, struct http_stream *hs, struct http_head *head, bool end)
{
	struct request *r = hs->user_data;

	(void)worker;
	if (!r)
		return;
	if (head->method == HTTP_METHOD_CONNECT || (head->is_upgrade && !is_websocket(head))) { /* no route takes the one, and no filter the other */
		r->down = NULL;
		hs->user_data = NULL;
		if (!(options & IS_H2))
			http_conn_drain(w, client_conn);
		answer(hs, 404);
		return;
	}
	r->is_upgrade = head->is_upgrade;
	send_on(r, TO_H1, head, end);
	send_on(r, TO_H2, head, end);
	if (end)
		request_ended(r);
}

static void down_data(struct foil_worker *worker, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	struct request *r = hs->user_data;

	(void)worker;
	if (!r) {
		foil_chain_clear(own_data);
		return;
	}
	if (r->is_upgrade && !r->is_tunnel) {
		foil_chain_move(&r->waiting, own_data);
		r->has_waited_for_end |= end;
		return;
	}
	data_on(r, own_data, end);
	if (end)
		request_ended(r);
}

static void down_trailers(struct foil_worker *worker, struct http_stream *hs, struct http_headers *trailers)
{
	struct request *r = hs->user_data;
	struct foil_chain none = {0};

	if (!r || r->is_upgrade || !(options & PASSES_TRAILERS)) {
		down_data(worker, hs, &none, true);
		return;
	}
	for (enum bridge_to to = TO_H1; to < TO_COUNT; to++) {
		/* HTTP/1.1 has room for them behind chunks, not behind a length. */
		if (r->up[to] && http_send_trailers(w, r->up[to], trailers) == 0 && (to == TO_H2 || !r->meant[to].n_lengths))
			bridge_meant_trailers(&r->meant[to], trailers, to);
	}
	request_ended(r);
}

static void down_complete(struct foil_worker *worker, struct http_stream *hs)
{
	struct request *r = hs->user_data;

	(void)worker;
	if (r)
		r->down = NULL;
}

static void down_reset(struct foil_worker *worker, struct http_stream *hs, const struct http_reset_info *info)
{
	struct request *r = hs->user_data;

	(void)info;
	if (!r)
		return;
	r->down = NULL;
	for (enum bridge_to to = TO_H1; to < TO_COUNT; to++) {
		struct http_stream *up = r->up[to];
		r->up[to] = NULL;
		if (up)
			http_stream_reset(worker, up);
	}
}

static const struct http_stream_events down_events = {
	.head = down_head, .data = down_data, .trailers = down_trailers, .complete = down_complete, .reset = down_reset,
};

static const struct http_stream_events *stream_new(struct foil_worker *worker, struct http_conn *c, struct http_stream *hs)
{
	(void)worker;
	(void)c;
	hs->user_data = NULL;
	if (n_requests < REQUESTS_MAX) {
		struct request *r = &requests[n_requests++];
		memset(r, 0, sizeof(*r));
		r->down = hs;
		hs->user_data = r;
	}
	return &down_events;
}

static void bad_request(struct foil_worker *worker, struct http_stream *hs, struct http_head *head, uint16_t status, enum http_reason reason)
{
	struct request *r = hs->user_data;

	(void)worker;
	(void)head;
	(void)reason;
	if (r)
		r->down = NULL;
	hs->user_data = NULL;
	answer(hs, status);
}

static void client_closed(struct foil_worker *worker, struct http_conn *c, enum stream_end why)
{
	(void)worker;
	(void)c;
	(void)why;
	client_conn = NULL;
}

static const struct http_server_events server_events = {.stream_new = stream_new, .bad_request = bad_request, .closed = client_closed};

/* ---- the upstreams ---- */
static void talk_to_h2(void)
{
	bool goes_on = true;

	while (goes_on) {
		struct text bytes = {0};
		const uint8_t *at;
		size_t n;
		goes_on = false;
		bridge_take(&shared, &bytes);
		if (bytes.n) {
			stranger_h2_take(stranger, bytes.at, bytes.n);
			goes_on = true;
		}
		free(bytes.at);
		while ((n = stranger_h2_give(stranger, &at)) > 0 && fake_is_alive(&shared)) {
			fake_feed(w, &shared, at, (uint32_t)n, 0, false);
			goes_on = true;
		}
	}
}

static void ask_upstreams(struct request *r)
{
	static const char switching[] = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
	static const char refusal[] = "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n";
	bool takes = options & TAKES_UPGRADES;

	r->is_answered = true;
	if (r->up[TO_H1] && fake_is_alive(&r->f))
		fake_feed(w, &r->f, takes ? switching : refusal, takes ? sizeof(switching) - 1 : sizeof(refusal) - 1, 0, false);
	if (r->up[TO_H2])
		stranger_h2_answer(stranger, r->at_h2, takes ? "200" : "404", !takes);
	talk_to_h2();
}

static void tunnel_opens(struct request *r)
{
	struct http_header token = websocket;
	const struct http_head head = {.status = 101, .is_upgrade = true, .headers = {.list = &token, .n = 1, .cap = 1}};
	struct foil_chain data = {0};

	if (http_send_head(w, r->down, &head, false) != 0) {
		struct http_stream *hs = r->down;
		hs->user_data = r;
		http_stream_reset(w, hs);
		down_reset(w, hs, NULL);
		return;
	}
	r->is_tunnel = true;
	if (!r->waiting.n_bytes && !r->has_waited_for_end)
		return;
	foil_chain_move(&data, &r->waiting);
	data_on(r, &data, r->has_waited_for_end);
	if (r->has_waited_for_end)
		request_ended(r);
}

/* Outside of all callbacks. */
static void turn(struct foil_worker *worker)
{
	(void)worker;
	talk_to_h2();
	for (unsigned int i = 0; i < n_requests; i++) {
		struct request *r = &requests[i];
		if (!r->is_upgrade || r->is_answered || !r->down)
			continue;
		ask_upstreams(r);
		if (!r->down)
			continue;
		if (options & TAKES_UPGRADES) {
			tunnel_opens(r);
		} else {
			foil_chain_clear(&r->waiting);
			if (!(options & IS_H2) && client_conn)
				http_conn_drain(w, client_conn);
			if (r->down)
				answer(r->down, 404);
		}
	}
	talk_to_h2();
}

/* ---- what they heard ---- */
static void check_h1(struct request *r)
{
	struct bridge_rules rules = {.to = TO_H1, .is_request = true};
	static struct heard heard;
	struct text bytes = {0};

	bridge_take(&r->f, &bytes);
	if (!r->was_sent[TO_H1]) {
		if (bytes.n)
			bridge_die("bytes of a request that was not sent", NULL, NULL);
		return;
	}
	stranger_h1(&heard, H1_REQUESTS, bytes.at, bytes.n, false);
	struct message *m = &heard.list[0];
	if (heard.fault[0] || heard.n != 1) {
		fprintf(stderr, "%u messages, %s\n%.*s\n", heard.n, heard.fault, (int)bytes.n, bytes.at);
		bridge_die("the bytes are not one request", &r->meant[TO_H1], heard.n ? m : NULL);
	}
	if (r->is_upgrade) {
		if (!m->is_switched)
			bridge_die("an upgrade that is none", &r->meant[TO_H1], m);
		m->is_whole = r->is_tunnel ? r->f.s.tx_shut : r->meant[TO_H1].is_whole;
	}
	bridge_compare(&r->meant[TO_H1], m, &rules);
	heard_clear(&heard);
	free(bytes.at);
}

static void check_all(void)
{
	static const struct bridge_rules rules = {.to = TO_H2, .is_request = true};

	if (at_h2.fault[0] || at_h2.n != n_at_h2) {
		fprintf(stderr, "%u requests for %u: %s\n", at_h2.n, n_at_h2, at_h2.fault);
		bridge_die("the stranger of HTTP/2 does not like it", n_requests ? &requests[n_requests - 1].meant[TO_H2] : NULL, NULL);
	}
	for (unsigned int i = 0; i < n_requests; i++) {
		struct request *r = &requests[i];
		for (enum bridge_to to = TO_H1; to < TO_COUNT; to++)
			r->meant[to].is_whole = r->ended;
		if (r->c || r->was_sent[TO_H1])
			check_h1(r);
		if (r->was_sent[TO_H2]) {
			struct message *m = &at_h2.list[r->at_h2];
			if (r->is_upgrade && !r->is_tunnel)
				m->is_whole = r->meant[TO_H2].is_whole; /* refused: its end says nothing */
			bridge_compare(&r->meant[TO_H2], m, &rules);
		}
	}
}

/* ---- one run ---- */
static void begin(void)
{
	const struct http_limits limits = {.accept_http10 = options & TAKES_HTTP10};

	n_requests = n_at_h2 = 0;
	fake_init(&shared, true);
	stranger = stranger_h2_new(&at_h2, true);
	if (http_client_open_as(w, &shared.s, HTTP_PROTOCOL_H2, &conn_events, NULL, &shared_conn, &shared_conn) != 0)
		abort();
	talk_to_h2();
	fake_init(&client, true);
	if (http_server_open_as(w, &client.s, options & IS_H2 ? HTTP_PROTOCOL_H2 : HTTP_PROTOCOL_H1, &server_events, &limits, NULL, &client_conn) != 0)
		abort();
}

static void end(void)
{
	if (fake_is_alive(&client) && (options & ENDS_IN_FIN))
		fake_eof(w, &client);
	turn(w);
	if (client_conn)
		http_conn_close(w, client_conn);
	talk_to_h2();
	if (!t_reason(w, HTTP, OUT_OF_MEMORY))
		check_all();
	for (unsigned int i = 0; i < n_requests; i++) {
		struct request *r = &requests[i];
		if (r->c)
			http_conn_close(w, r->c);
		foil_chain_clear(&r->waiting);
		fake_fini(&r->f);
		message_clear(&r->meant[TO_H1]);
		message_clear(&r->meant[TO_H2]);
	}
	if (shared_conn)
		http_conn_close(w, shared_conn);
	for (unsigned int i = 0; i < n_requests; i++)
		foil_arena_reset(w, &requests[i].arena);
	stranger_h2_free(stranger);
	heard_clear(&at_h2);
	fake_fini(&client);
	fake_fini(&shared);
	bridge_end(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct h2_bytes script;
	struct text bytes = {0};

	if (!bridge_begin(&w, &(struct http_params){64, 256}, size))
		return 0;
	options = data[0];
	begin();
	script.n = 0;
	if (options & IS_H2)
		hb_hello(&script, true);
	if ((options & (IS_H2 | IS_SCRIPT)) == (IS_H2 | IS_SCRIPT))
		bridge_script(&script, &data[2], size - 2);
	else
		hb_raw(&script, &data[2], (uint32_t)size - 2);
	text_add(&bytes, script.at, script.n);
	bridge_feed(w, &client, &bytes, data[1], turn);
	free(bytes.at);
	end();
	return 0;
}
