/* TCP on a kernel interface for Linux to talk to: what tcp_echo.py drives.
 *   tcp_echo URI SECONDS IDLE_MODE N_WORKERS BACKEND ADDRESS/LEN...
 * Ports:   7 echo          8 echo that reads 16 KiB every 20 ms     9 sink: counts, answers the count in decimal after FIN
 *         10 relay to BACKEND port 7000, both ways with half-close  11 closes at once    12 aborts at the first byte
 *         19 source: reads one line with a number, sends so many bytes of the pattern, closes
 * The pattern's byte at i is (i * 131 + i / 251) mod 256, i counted modulo 251 * 256. */
#include <stdlib.h>

#include <rte_malloc.h>

#include "dataplane/tcp/tcp.h"
#include "tests/lab/rig.h"

#define PATTERN_PERIOD (251u * 256u)
#define PIECE_BYTES 8192u
#define SLOW_BYTES 16384u
#define SLOW_US 20000u

enum role { ECHO, SLOW, SINK, RELAY, CLOSER, ABORTER, SOURCE, N_ROLES };
static const uint16_t role_ports[N_ROLES] = {7, 8, 9, 10, 11, 12, 19};

struct conn {
	enum role role;
	struct stream *s, *peer; /* peer: RELAY's other side */
	struct conn *other;
	uint64_t n_bytes, left; /* SINK's count, SOURCE's rest */
	bool started, shut;
	struct foil_timer timer;
};

static struct net_addr backend;
static uint8_t pattern[PATTERN_PERIOD + PIECE_BYTES];
static const struct stream_user user;

static void conn_free(struct foil_worker *w, struct conn *c)
{
	foil_timer_cancel(w, &c->timer);
	if (c->other)
		c->other->other = NULL;
	rte_free(c);
}

static void source_push(struct foil_worker *w, struct conn *c)
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

static void source_again(struct foil_worker *w, struct foil_timer *t)
{
	source_push(w, FOIL_CONTAINER_OF(t, struct conn, timer));
}

static void source_readable(struct foil_worker *w, struct conn *c)
{
	char line[24] = "";
	uint32_t n = FOIL_MIN(c->s->rx.n_bytes, (uint32_t)sizeof(line) - 1);

	foil_chain_copy_out(&c->s->rx, 0, line, n);
	if (c->started || !memchr(line, '\n', n)) {
		if (c->started)
			stream_consume(w, c->s, c->s->rx.n_bytes);
		return;
	}
	c->started = true;
	stream_consume(w, c->s, c->s->rx.n_bytes);
	c->left = strtoull(line, NULL, 10);
	c->timer.fn = source_again;
	source_push(w, c);
}

static void sink_readable(struct foil_worker *w, struct conn *c)
{
	struct foil_chain chain = {0};
	char text[24];

	c->n_bytes += c->s->rx.n_bytes;
	stream_consume(w, c->s, c->s->rx.n_bytes);
	if (!c->s->rx_eof || c->shut)
		return;
	int n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)c->n_bytes);
	if (foil_chain_append(w, &chain, text, (uint32_t)n) == 0)
		stream_write(w, c->s, &chain);
	c->shut = true;
	stream_shutdown(w, c->s);
}

/* As much as to takes, from from; and the FIN behind it. */
static void pass(struct foil_worker *w, struct conn *c, struct stream *from, struct stream *to, uint32_t n_most)
{
	struct foil_chain chain = {0};
	uint32_t n = FOIL_MIN(FOIL_MIN(from->rx.n_bytes, stream_tx_room(to)), n_most);

	if (n) {
		if (stream_take(w, from, n, &chain) == 0)
			stream_write(w, to, &chain);
	}
	if (from->rx_eof && foil_chain_is_empty(&from->rx) && !to->tx_shut)
		stream_shutdown(w, to);
}

static void slow_tick(struct foil_worker *w, struct foil_timer *t)
{
	struct conn *c = FOIL_CONTAINER_OF(t, struct conn, timer);

	foil_timer_arm(w, t, w->now_us + SLOW_US, slow_tick);
	pass(w, c, c->s, c->s, SLOW_BYTES);
}

static void on_readable(struct foil_worker *w, struct stream *s)
{
	struct conn *c = s->user_data;

	switch (c->role) {
	case ECHO:
		pass(w, c, s, s, UINT32_MAX);
		return;
	case SINK:
		sink_readable(w, c);
		return;
	case RELAY:
		if (c->other)
			pass(w, c, s, c->other->s, UINT32_MAX);
		return;
	case ABORTER:
		stream_abort(w, s);
		conn_free(w, c);
		return;
	case SOURCE:
		source_readable(w, c);
		return;
	case SLOW:
	case CLOSER:
	case N_ROLES:
		return;
	}
}

static void on_writable(struct foil_worker *w, struct stream *s)
{
	struct conn *c = s->user_data;

	if (c->role == ECHO)
		pass(w, c, s, s, UINT32_MAX);
	else if (c->role == RELAY && c->other)
		pass(w, c, c->other->s, s, UINT32_MAX);
	else if (c->role == SOURCE && c->started)
		source_push(w, c);
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	struct conn *c = s->user_data;

	if (c->role == RELAY && c->other && why != STREAM_END_FIN) {
		struct conn *other = c->other;
		stream_abort(w, other->s);
		conn_free(w, other);
	}
	conn_free(w, c);
}

static struct conn *conn_new(enum role role, struct stream *s)
{
	struct conn *c = rte_zmalloc(NULL, sizeof(*c), 0);

	if (!c)
		abort();
	c->role = role;
	c->s = s;
	return c;
}

static void relay_open(struct foil_worker *w, struct conn *c)
{
	struct conn *other = conn_new(RELAY, NULL);
	struct tcp_connect_params p = {.remote = backend, .remote_port = 7000, .user = &user, .user_data = other};

	if (tcp_connect(w, &p, &other->s)) {
		rte_free(other);
		return;
	}
	c->other = other;
	other->other = c;
}

static bool on_accept(struct foil_worker *w, struct tcp_listener *l, struct stream *s)
{
	enum role role = (enum role)(uintptr_t)tcp_listener_data(l);

	if (role == CLOSER) {
		s->user = NULL;
		stream_release(w, s);
		return true;
	}
	struct conn *c = conn_new(role, s);
	s->user = &user;
	s->user_data = c;
	if (role == SLOW)
		foil_timer_arm(w, &c->timer, w->now_us + SLOW_US, slow_tick);
	if (role == RELAY)
		relay_open(w, c);
	return role != RELAY || c->other;
}

static const struct stream_user user = {.readable = on_readable, .writable = on_writable, .closed = on_closed};

static int setup(struct foil_worker *w, struct foil_error *err)
{
	const char *cc = getenv("TCP_ECHO_CC"), *msl_ms = getenv("TCP_ECHO_MSL_MS");
	struct tcp_params p = {.conns_max = 4096, .congestion = cc ? cc : "cubic", .msl_us = 1000 * (msl_ms ? rig_number(msl_ms, 1, 60000) : 1000)};
	int rc = tcp_init(w, &p, err);

	for (int i = 0; i < N_ROLES && rc == 0; i++) {
		struct tcp_listen_params lp = {.port = role_ports[i], .accept = on_accept, .user_data = (void *)(uintptr_t)i};
		struct tcp_listener *l;
		rc = tcp_listen(w, &lp, &l);
	}
	return rc;
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

	if (argc < 7 || nic_idle_mode_parse(argv[3], &mode) || net_addr_parse(argv[5], &backend)) {
		fprintf(stderr, "usage: tcp_echo URI SECONDS poll|pause|interrupt N_WORKERS BACKEND ADDRESS/LEN...\n");
		return 2;
	}
	for (uint32_t i = 0; i < sizeof(pattern); i++)
		pattern[i] = (uint8_t)(i % PATTERN_PERIOD * 131 + i % PATTERN_PERIOD / 251);
	struct rig_params p = {
		.program = "tcp-echo", .uri = argv[1], .seconds = rig_number(argv[2], 1, 3600), .mode = mode,
		.n_workers = (uint16_t)rig_number(argv[4], 1, NIC_WORKERS_MAX), .n_mbufs = 32767, .memory_mb = 512,
		.addresses = (const char *const *)argv + 6, .n_addresses = argc - 6,
		.setup = setup, .flush = tcp_flush, .teardown = teardown, .room = &tcp_room_desc,
	};
	return rig_run(&p);
}
