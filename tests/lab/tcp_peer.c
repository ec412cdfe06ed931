/* Our end of the interop matrix (interop.py): takes bytes and says their SHA-256, sends bytes, opens connections when told to.
 *   tcp_peer URI SECONDS IDLE_MODE CONGESTION ADDRESS/LEN...
 * Port 5000. A connection's first line says what it is for:
 *   send N              N bytes of the pattern, then FIN
 *   take                everything up to FIN is taken; the answer is "COUNT SHA256\n"
 *   dial PORT send N    a connection back to who asks, at PORT, on which N bytes are sent
 *   dial PORT take      the same, on which everything is taken and answered
 * The pattern's byte at i is (i * 131 + i / 251) mod 256, i counted modulo 251 * 256. Our SYNs ask for ECN: the other end decides. */
#include <stdlib.h>

#include <openssl/evp.h>
#include <rte_malloc.h>

#include "dataplane/tcp/tcp.h"
#include "tests/lab/rig.h"

#define PORT 5000
#define PATTERN_PERIOD (251u * 256u)
#define PIECE_BYTES 8192u
#define LINE_BYTES 64u
#define CONNS_MAX 1024u

enum role { ASKED, SENDER, TAKER };

struct conn {
	enum role role;
	struct stream *s;
	EVP_MD_CTX *hash;
	uint64_t n_bytes, left;
	bool shut;
	struct foil_timer timer;
};

static uint8_t pattern[PATTERN_PERIOD + PIECE_BYTES];
static const char *congestion;
static const struct stream_user user;

static struct conn *conn_new(enum role role, struct stream *s)
{
	struct conn *c = rte_zmalloc(NULL, sizeof(*c), 0);

	if (!c)
		abort();
	c->role = role;
	c->s = s;
	return c;
}

static void conn_free(struct foil_worker *w, struct conn *c)
{
	foil_timer_cancel(w, &c->timer);
	EVP_MD_CTX_free(c->hash);
	rte_free(c);
}

static void send_on(struct foil_worker *w, struct conn *c)
{
	struct foil_chain chain = {0};

	while (c->left && stream_tx_room(c->s) > 0) {
		uint32_t n = (uint32_t)FOIL_MIN(c->left, (uint64_t)PIECE_BYTES);
		if (foil_chain_append(w, &chain, pattern + c->n_bytes % PATTERN_PERIOD, n)) {
			foil_timer_arm(w, &c->timer, w->now_us + 1000, c->timer.fn); /* mbufs are short: again soon */
			return;
		}
		stream_write(w, c->s, &chain);
		c->n_bytes += n;
		c->left -= n;
	}
	if (!c->left && !c->shut) {
		c->shut = true;
		stream_shutdown(w, c->s);
	}
}

static void send_again(struct foil_worker *w, struct foil_timer *t)
{
	send_on(w, FOIL_CONTAINER_OF(t, struct conn, timer));
}

static void sender_begin(struct conn *c, uint64_t n_bytes)
{
	c->role = SENDER;
	c->left = n_bytes;
	c->timer.fn = send_again;
}

static void taker_begin(struct conn *c)
{
	c->role = TAKER;
	c->hash = EVP_MD_CTX_new();
	if (!c->hash || EVP_DigestInit_ex(c->hash, EVP_sha256(), NULL) != 1)
		abort();
}

static void taker_answer(struct foil_worker *w, struct conn *c)
{
	struct foil_chain chain = {0};
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned int n_sum;
	char text[40 + 2 * EVP_MAX_MD_SIZE];

	if (EVP_DigestFinal_ex(c->hash, sum, &n_sum) != 1)
		abort();
	int n = snprintf(text, sizeof(text), "%llu ", (unsigned long long)c->n_bytes);
	for (unsigned int i = 0; i < n_sum; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%02x", sum[i]);
	n += snprintf(text + n, sizeof(text) - (size_t)n, "\n");
	if (foil_chain_append(w, &chain, text, (uint32_t)n) == 0)
		stream_write(w, c->s, &chain);
	c->shut = true;
	stream_shutdown(w, c->s);
}

static void take(struct foil_worker *w, struct conn *c)
{
	struct foil_chain *rx = &c->s->rx;

	for (const struct rte_mbuf *m = rx->head; m; m = m->next)
		if (EVP_DigestUpdate(c->hash, rte_pktmbuf_mtod(m, const void *), m->data_len) != 1)
			abort();
	c->n_bytes += rx->n_bytes;
	stream_consume(w, c->s, rx->n_bytes);
	if (c->s->rx_eof && !c->shut)
		taker_answer(w, c);
}

/* "send N" or "take"; false: neither. */
static bool role_begin(struct foil_worker *w, struct conn *c, const char *words)
{
	unsigned long long n_bytes;

	if (sscanf(words, "send %llu", &n_bytes) == 1)
		sender_begin(c, n_bytes);
	else if (strcmp(words, "take") == 0)
		taker_begin(c);
	else
		return false;
	return true;
}

static bool dial(struct foil_worker *w, const struct conn *asked, unsigned int port, const char *words)
{
	struct conn *c = conn_new(ASKED, NULL);
	struct tcp_connect_params p = {.remote_port = (uint16_t)port, .user = &user, .user_data = c};

	memcpy(p.remote.b, asked->s->remote.ip, sizeof(p.remote.b));
	if (!role_begin(w, c, words) || tcp_connect(w, &p, &c->s)) {
		conn_free(w, c);
		return false;
	}
	return true;
}

static void hear(struct foil_worker *w, struct conn *c)
{
	char line[LINE_BYTES] = "", *end;
	uint32_t n = FOIL_MIN(c->s->rx.n_bytes, LINE_BYTES - 1);
	unsigned int port;
	int n_words = 0;

	foil_chain_copy_out(&c->s->rx, 0, line, n);
	if (!(end = memchr(line, '\n', n)))
		return;
	*end = 0;
	stream_consume(w, c->s, (uint32_t)(end + 1 - line));
	bool good = sscanf(line, "dial %u %n", &port, &n_words) == 1 && n_words ? dial(w, c, port, line + n_words) : role_begin(w, c, line);
	if (!good) {
		stream_abort(w, c->s);
		conn_free(w, c);
	} else if (c->role == ASKED) {
		stream_shutdown(w, c->s);
	} else if (c->role == SENDER) {
		send_on(w, c);
	} else {
		take(w, c);
	}
}

static void on_readable(struct foil_worker *w, struct stream *s)
{
	struct conn *c = s->user_data;

	switch (c->role) {
	case ASKED:
		hear(w, c);
		return;
	case SENDER:
		stream_consume(w, s, s->rx.n_bytes);
		return;
	case TAKER:
		take(w, c);
		return;
	}
}

static void on_writable(struct foil_worker *w, struct stream *s)
{
	struct conn *c = s->user_data;

	if (c->role == SENDER)
		send_on(w, c);
}

static void on_opened(struct foil_worker *w, struct stream *s)
{
	on_writable(w, s);
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	conn_free(w, s->user_data);
}

static bool on_accept(struct foil_worker *w, struct tcp_listener *l, struct stream *s)
{
	s->user = &user;
	s->user_data = conn_new(ASKED, s);
	return true;
}

static const struct stream_user user = {.readable = on_readable, .writable = on_writable, .opened = on_opened, .closed = on_closed};

static int setup(struct foil_worker *w, struct foil_error *err)
{
	struct tcp_params p = {.conns_max = CONNS_MAX, .congestion = congestion, .ecn_request = true, .msl_us = 1000000};
	struct tcp_listen_params lp = {.port = PORT, .accept = on_accept};
	struct tcp_listener *l;
	int rc = tcp_init(w, &p, err);

	return rc ? rc : tcp_listen(w, &lp, &l);
}

static void teardown(struct foil_worker *w)
{
	struct tcp_stats s;

	tcp_stats_get(w, &s);
	printf("tcp conns %u half_open %u time_wait %u\n", s.n_conns, s.n_half_open, s.n_time_wait);
	tcp_fini(w);
}

int main(int argc, char **argv)
{
	enum nic_idle_mode mode;

	if (argc < 6 || nic_idle_mode_parse(argv[3], &mode)) {
		fprintf(stderr, "usage: tcp_peer URI SECONDS poll|pause|interrupt CONGESTION ADDRESS/LEN...\n");
		return 2;
	}
	congestion = argv[4];
	for (uint32_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i % PATTERN_PERIOD * 131 + i % PATTERN_PERIOD / 251);
	struct rig_params p = {
		.program = "tcp-peer", .uri = argv[1], .seconds = rig_number(argv[2], 1, 36000), .mode = mode, .n_workers = 1, .n_mbufs = 8191,
		.mbuf_data_bytes = 9344, .memory_mb = 256, .addresses = (const char *const *)argv + 5, .n_addresses = argc - 5,
		.setup = setup, .flush = tcp_flush, .teardown = teardown, .room = &tcp_room_desc,
	};
	return rig_run(&p);
}
