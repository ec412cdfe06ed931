/* The bridge from upstreams to clients: an upstream's bytes into our client side, what is told sent on by our server side as HTTP/1.1 and as HTTP/2 the
 * way the router does it, and a stranger who has asked reads what comes out: the same heads (1xx, too), fields in order, body, trailers and end, one
 * answer to one request, no byte left over; what was cut short must not look whole to it.
 *
 * Input: [options] [more options, and the seed of the cuts] then the upstream's bytes, or with bits 0 and 1 a script of HTTP/2 (bridge.h). */
#include <stdlib.h>

#include "tests/fuzz/bridge.h"
#include "tests/unit/support.h"

enum {
	IS_H2 = 1,            /* the upstream speaks HTTP/2: SETTINGS are put before what it says */
	IS_SCRIPT = 2,
	ASKS_HEAD = 4,
	ASKS_UPGRADE = 8,     /* and no HEAD */
	ASKS_AS_HTTP10 = 16,  /* the client of HTTP/1.1 */
	PASSES_TRAILERS = 32, /* as the router over HTTP/2 alone */
	ENDS_IN_RESET = 64,   /* the upstream; else in order */
};

struct client {
	struct fake_stream f;
	struct http_conn *c;
	struct http_stream *hs;       /* NULL: over */
	struct message meant[MESSAGES_MAX];
	unsigned int n;
	bool has_continued;
};

static struct foil_worker *w;
static uint8_t options;
static struct client clients[TO_COUNT];
static struct fake_stream upstream;
static struct http_conn *upstream_conn;
static struct http_stream *up;
static struct foil_arena up_arena;
static struct heard heard[TO_COUNT];
static struct stranger_h2 *stranger;
static bool is_tunnel, has_ended, is_final, is_bodyless;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static bool asks_upgrade(void)
{
	return (options & ASKS_UPGRADE) && !(options & ASKS_HEAD);
}

static bool is_http10(enum bridge_to to)
{
	return to == TO_H1 && (options & ASKS_AS_HTTP10) && !asks_upgrade();
}

/* ---- the clients' side of us ---- */
static void down_head(struct foil_worker *worker, struct http_stream *hs, struct http_head *head, bool end)
{
	struct client *k = http_conn_data(hs->conn);

	(void)worker;
	(void)head;
	(void)end;
	k->hs = hs;
}

static void down_data(struct foil_worker *worker, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	(void)worker;
	(void)hs;
	(void)end;
	foil_chain_clear(own_data);
}

static void down_complete(struct foil_worker *worker, struct http_stream *hs)
{
	(void)worker;
	((struct client *)http_conn_data(hs->conn))->hs = NULL;
}

static void down_reset(struct foil_worker *worker, struct http_stream *hs, const struct http_reset_info *info)
{
	(void)info;
	down_complete(worker, hs);
}

static const struct http_stream_events down_events = {.head = down_head, .data = down_data, .complete = down_complete, .reset = down_reset};

static const struct http_stream_events *stream_new(struct foil_worker *worker, struct http_conn *c, struct http_stream *hs)
{
	(void)worker;
	(void)c;
	(void)hs;
	return &down_events;
}

static void bad_request(struct foil_worker *worker, struct http_stream *hs, struct http_head *head, uint16_t status, enum http_reason reason)
{
	(void)worker;
	(void)hs;
	(void)head;
	(void)status;
	(void)reason;
	abort(); /* they ask well */
}

static void client_closed(struct foil_worker *worker, struct http_conn *c, enum stream_end why)
{
	(void)worker;
	(void)why;
	((struct client *)http_conn_data(c))->c = NULL;
}

static const struct http_server_events server_events = {.stream_new = stream_new, .bad_request = bad_request, .closed = client_closed};

/* ---- on it goes ---- */
static void give_up(void)
{
	for (enum bridge_to to = TO_H1; to < TO_COUNT; to++) {
		struct http_stream *hs = clients[to].hs;
		clients[to].hs = NULL;
		if (hs)
			http_stream_reset(w, hs);
	}
}

static struct message *meant_new(struct client *k)
{
	return k->n < MESSAGES_MAX ? &k->meant[k->n++] : NULL;
}

static void head_on(enum bridge_to to, const struct http_head *head, bool end)
{
	struct client *k = &clients[to];
	struct http_head copy = *head;
	struct message *m;
	int rc;

	if (!k->hs)
		return;
	copy.version = HTTP_VERSION_11; /* as exchange.c's mesh_exchange_respond_on */
	copy.wants_close = false;
	if (copy.body == HTTP_BODY_UNTIL_CLOSE)
		copy.body = HTTP_BODY_CHUNKED;
	bool is_dropped = head->status < 200 && (is_http10(to) || (head->status == 100 && k->has_continued)); /* RFC 9110 15.2; one is enough */
	k->has_continued |= head->status == 100;
	struct http_stream *hs = k->hs;
	if (!is_dropped && (m = meant_new(k)) != NULL) { /* before it is sent: the exchange may be over then */
		bridge_meant_head(m, &copy, to);
		m->is_whole = head->status < 200 && head->status != 101;
	}
	rc = http_send_head(w, hs, &copy, end);
	if (rc != 0 && !t_reason(w, HTTP, OUT_OF_MEMORY))
		bridge_die("a head that may go does not", NULL, NULL);
}

static void up_informational(struct foil_worker *worker, struct http_stream *hs, struct http_head *head)
{
	(void)worker;
	(void)hs;
	head_on(TO_H1, head, false);
	head_on(TO_H2, head, false);
}

/* The upstream refuses the upgrade: 4xx and 5xx pass, others without their body (router.c's upgrade_answered). */
static bool refuse_upgrade(struct foil_worker *worker, struct http_stream *hs, struct http_head *head)
{
	struct foil_chain none = {0};

	http_send_data(worker, hs, &none, true);
	if (clients[TO_H1].c)
		http_conn_drain(worker, clients[TO_H1].c);
	return head->status < 400;
}

static void up_head(struct foil_worker *worker, struct http_stream *hs, struct http_head *head, bool end)
{
	is_final = true;
	is_tunnel = head->status == 101;
	is_bodyless = (options & ASKS_HEAD) || head->status == 204 || head->status == 304;
	if (asks_upgrade() && !is_tunnel && refuse_upgrade(worker, hs, head)) {
		head->body = HTTP_BODY_NONE;
		has_ended = true;
		head_on(TO_H1, head, true);
		head_on(TO_H2, head, true);
		return;
	}
	has_ended = end;
	head_on(TO_H1, head, end);
	head_on(TO_H2, head, end);
}

static void up_data(struct foil_worker *worker, struct http_stream *hs, struct foil_chain *own_data, bool end)
{
	(void)hs;
	if (has_ended) {
		foil_chain_clear(own_data);
		return;
	}
	for (enum bridge_to to = TO_H1; to < TO_COUNT; to++) {
		struct client *k = &clients[to];
		struct foil_chain copy = {0};
		if (k->n)
			bridge_append(&k->meant[k->n - 1].body, own_data);
		if (!k->hs)
			continue;
		if (own_data->n_bytes && foil_chain_share(worker, own_data, 0, own_data->n_bytes, &copy) != 0)
			foil_reason(worker, HTTP, OUT_OF_MEMORY);
		else
			http_send_data(worker, k->hs, &copy, end);
	}
	foil_chain_clear(own_data);
	has_ended = end;
}

static void up_trailers(struct foil_worker *worker, struct http_stream *hs, struct http_headers *trailers)
{
	struct foil_chain none = {0};

	if (!(options & PASSES_TRAILERS) || has_ended || is_tunnel) {
		up_data(worker, hs, &none, true);
		return;
	}
	has_ended = true;
	for (enum bridge_to to = TO_H1; to < TO_COUNT; to++) {
		struct client *k = &clients[to];
		struct message *m = k->n ? &k->meant[k->n - 1] : NULL;
		/* HTTP/1.1 has room for them behind chunks alone, and nobody behind a head that ends it. */
		bool has_room = !is_bodyless && (to == TO_H2 || (!m->n_lengths && !is_http10(TO_H1)));
		if (m && has_room)
			bridge_meant_trailers(m, trailers, to);
		if (k->hs && http_send_trailers(worker, k->hs, trailers) != 0)
			foil_reason(worker, HTTP, OUT_OF_MEMORY);
	}
}

static void up_complete(struct foil_worker *worker, struct http_stream *hs)
{
	(void)worker;
	(void)hs;
	up = NULL;
}

static void up_reset(struct foil_worker *worker, struct http_stream *hs, const struct http_reset_info *info)
{
	(void)info;
	up_complete(worker, hs);
	if (!has_ended)
		give_up();
}

static const struct http_stream_events up_events = {
	.head = up_head, .data = up_data, .trailers = up_trailers, .informational = up_informational, .complete = up_complete, .reset = up_reset,
};

static void upstream_closed(struct foil_worker *worker, struct http_conn *c, enum stream_end why, bool never_opened)
{
	(void)worker;
	(void)c;
	(void)why;
	(void)never_opened;
	upstream_conn = NULL;
}

static const struct http_client_events client_events = {.closed = upstream_closed};

/* ---- the strangers ask ---- */
static void talk_to_h2(struct foil_worker *worker)
{
	struct fake_stream *f = &clients[TO_H2].f;
	bool goes_on = true;

	while (goes_on) {
		struct text bytes = {0};
		const uint8_t *at;
		size_t n;
		goes_on = false;
		bridge_take(f, &bytes);
		if (bytes.n) {
			stranger_h2_take(stranger, bytes.at, bytes.n);
			goes_on = true;
		}
		free(bytes.at);
		while ((n = stranger_h2_give(stranger, &at)) > 0 && fake_is_alive(f)) {
			fake_feed(worker, f, at, (uint32_t)n, 0, false);
			goes_on = true;
		}
	}
}

static void ask(void)
{
	static const struct http_limits limits = {.accept_http10 = true};
	const char *method = options & ASKS_HEAD ? "HEAD" : "GET", *version = is_http10(TO_H1) ? "1.0" : "1.1";
	const char *more = asks_upgrade() ? "connection: upgrade\r\nupgrade: websocket\r\n" : "";
	char text[200];

	for (enum bridge_to to = TO_H1; to < TO_COUNT; to++) {
		struct client *k = &clients[to];
		memset(k, 0, sizeof(*k));
		fake_init(&k->f, true);
		if (http_server_open_as(w, &k->f.s, to == TO_H2 ? HTTP_PROTOCOL_H2 : HTTP_PROTOCOL_H1, &server_events, &limits, k, &k->c) != 0)
			abort();
	}
	int n = snprintf(text, sizeof(text), "%s / HTTP/%s\r\nhost: a.example\r\n%s\r\n", method, version, more);
	fake_feed(w, &clients[TO_H1].f, text, (uint32_t)n, 0, false);
	stranger = stranger_h2_new(&heard[TO_H2], false);
	stranger_h2_ask(stranger, method, asks_upgrade());
	talk_to_h2(w);
	if (!clients[TO_H1].hs || !clients[TO_H2].hs)
		bridge_die("it did not come to a request", NULL, NULL);
}

static void ask_upstream(void)
{
	struct http_header token = {FOIL_SLICE("upgrade"), FOIL_SLICE("websocket"), HTTP_HDR_UPGRADE, false, 0};
	struct http_head head = {
		.method_text = options & ASKS_HEAD ? FOIL_SLICE("HEAD") : FOIL_SLICE("GET"), .scheme = FOIL_SLICE("http"), .authority = FOIL_SLICE("a.example"),
		.path = FOIL_SLICE("/"), .version = HTTP_VERSION_11, .is_upgrade = asks_upgrade(),
	};

	head.method = http_method_of(head.method_text);
	if (head.is_upgrade)
		head.headers = (struct http_headers){.list = &token, .n = 1, .cap = 1};
	fake_init(&upstream, true);
	if (http_client_open_as(w, &upstream.s, options & IS_H2 ? HTTP_PROTOCOL_H2 : HTTP_PROTOCOL_H1, &client_events, NULL, NULL, &upstream_conn) != 0)
		abort();
	up = http_client_start(w, upstream_conn, &up_arena, &up_events, NULL);
	if (!up || http_send_head(w, up, &head, !head.is_upgrade) != 0)
		abort();
}

/* ---- what they heard ---- */
static void check(enum bridge_to to)
{
	struct client *k = &clients[to];
	struct heard *h = &heard[to];

	if (h->fault[0] || h->n != k->n) {
		fprintf(stderr, "%u messages for %u: %s\n", h->n, k->n, h->fault);
		bridge_die("that is no answer", k->n ? &k->meant[k->n - 1] : NULL, h->n ? &h->list[h->n - 1] : NULL);
	}
	for (unsigned int i = 0; i < k->n; i++) {
		bool is_last = i + 1 == k->n && is_final, informs = !is_last;
		const struct bridge_rules rules = {
			.to = to, .has_no_body = informs || is_bodyless || is_tunnel, .may_end_by_close = is_http10(to),
		};
		struct message *meant = &k->meant[i], *m = &h->list[i];
		if (is_last)
			meant->is_whole = has_ended;
		if (is_last && is_tunnel && to == TO_H1) {
			if (!m->is_switched)
				bridge_die("an upgrade that is none", meant, m);
			m->is_whole = k->f.s.tx_shut;
		}
		/* Bodies of HEAD and the like are not sent, and what ends them is the head; so nothing shows that the upstream did not come to an end. */
		if (is_last && is_bodyless) {
			meant->body.n = meant->trailers.n = 0;
			meant->is_whole = m->is_whole;
		}
		bridge_compare(meant, m, &rules);
	}
}

static void check_all(void)
{
	struct client *k = &clients[TO_H1];
	struct text bytes = {0};
	enum h1_stranger what = options & ASKS_HEAD ? H1_ANSWERS_TO_HEAD : H1_ANSWERS;

	bridge_take(&k->f, &bytes);
	stranger_h1(&heard[TO_H1], what, bytes.at, bytes.n, k->f.is_released && !k->f.is_aborted);
	if (heard[TO_H1].fault[0])
		fprintf(stderr, "%.*s\n", (int)bytes.n, bytes.at);
	check(TO_H1);
	check(TO_H2);
	free(bytes.at);
}

/* ---- one run ---- */
static void end(void)
{
	if (fake_is_alive(&upstream)) {
		if (options & ENDS_IN_RESET)
			fake_closed(w, &upstream, STREAM_END_RESET);
		else
			fake_eof(w, &upstream);
	}
	talk_to_h2(w);
	if (up) {
		struct http_stream *hs = up;
		up = NULL;
		http_stream_reset(w, hs);
	}
	if (!has_ended)
		give_up();
	talk_to_h2(w);
	if (!t_reason(w, HTTP, OUT_OF_MEMORY))
		check_all();
	if (upstream_conn)
		http_conn_close(w, upstream_conn);
	for (enum bridge_to to = TO_H1; to < TO_COUNT; to++) {
		struct client *k = &clients[to];
		if (k->c)
			http_conn_close(w, k->c);
		for (unsigned int i = 0; i < k->n; i++)
			message_clear(&k->meant[i]);
		fake_fini(&k->f);
		heard_clear(&heard[to]);
	}
	stranger_h2_free(stranger);
	foil_arena_reset(w, &up_arena);
	fake_fini(&upstream);
	bridge_end(w);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct h2_bytes script;
	struct text bytes = {0};

	if (!bridge_begin(&w, &(struct http_params){16, 64}, size))
		return 0;
	options = data[0];
	is_tunnel = has_ended = is_final = is_bodyless = false;
	ask();
	ask_upstream();
	script.n = 0;
	if (options & IS_H2) {
		hb_frame(&script, H2_SETTINGS, 0, 0, "\0\x08\0\0\0\x01", 6); /* CONNECT with a protocol is welcome */
		if (options & IS_SCRIPT)
			bridge_script(&script, &data[2], size - 2);
	}
	if ((options & (IS_H2 | IS_SCRIPT)) != (IS_H2 | IS_SCRIPT))
		hb_raw(&script, &data[2], (uint32_t)size - 2);
	text_add(&bytes, script.at, script.n);
	bridge_feed(w, &upstream, &bytes, data[1], talk_to_h2);
	free(bytes.at);
	end();
	return 0;
}
