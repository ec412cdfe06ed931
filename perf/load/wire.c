/* foil-load over our own net/ and tcp/: one worker with up to two ports, the client's and the origin's.
 * Invariant: a client's conn->io is its stream from connect to close; a server's struct is its stream's user_data until closed. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>

#include <rte_launch.h>
#include <rte_malloc.h>
#include <rte_pause.h>

#include "dataplane/tcp/tcp.h"
#include "perf/load/load.h"

#define LINK_LIMIT_S 10
#define SHARE_BYTES 4096u /* an answer beyond this goes by reference */

struct served_conn {
	struct served_conn *next, **pprev; /* of all */
	struct wire *wire;
	struct stream *s;
	struct load_served served;
	uint32_t n_owed; /* answers for which there was no room */
};

struct wire {
	struct load *load;
	struct foil_worker *w;
	struct foil_pools pools;
	struct nic_port *ports[2];
	struct net_port net_ports[2];
	struct nic_idle idle;
	uint16_t n_ports;
	struct net_addr locals[LOAD_ADDRESSES_MAX];
	uint32_t n_locals, next_local;
	struct foil_chain answer; /* large: made once, shared */
	struct tcp_listener *listener;
	struct served_conn *served; /* all */
};

static volatile sig_atomic_t stop;
static struct wire the_wire;

static void on_signal(int sig)
{
	stop = 1;
}

static void notice(void *arg, const char *text)
{
	fprintf(stderr, "foil-load: %s\n", text);
}

/* ---- client */

static void client_opened(struct foil_worker *w, struct stream *s)
{
	load_opened(the_wire.load, s->user_data);
}

static void client_readable(struct foil_worker *w, struct stream *s)
{
	struct load_conn *c = s->user_data;
	struct load *l = the_wire.load;
	uint32_t n_all = s->rx.n_bytes;

	for (const struct rte_mbuf *m = s->rx.head; m; m = m->next)
		if (!load_bytes(l, c, rte_pktmbuf_mtod(m, const char *), m->data_len))
			return;
	if (n_all)
		stream_consume(w, s, n_all);
	if (s->rx_eof) {
		load_closed(l, c);
		stream_release(w, s);
	}
}

static void client_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	load_closed(the_wire.load, s->user_data);
}

static const struct stream_user client = {.opened = client_opened, .readable = client_readable, .closed = client_closed};

static int wire_connect(struct load *l, struct load_conn *c)
{
	struct wire *x = &the_wire;
	struct tcp_connect_params p = {.remote = l->conf->target, .remote_port = l->conf->target_port, .user = &client, .user_data = c};
	struct stream *s;

	p.local = x->locals[x->next_local++ % x->n_locals];
	int rc = tcp_connect(x->w, &p, &s);
	if (rc == 0)
		c->io = s;
	return rc;
}

static void wire_write(struct load *l, struct load_conn *c, const void *data, uint32_t n_bytes)
{
	struct foil_chain chain = {0};

	if (foil_chain_append(the_wire.w, &chain, data, n_bytes) == 0)
		stream_write(the_wire.w, c->io, &chain);
	else
		l->n_errors[LOAD_ERR_CONNECT]++; /* no mbufs: foil-load was given too little memory */
}

static void wire_close(struct load *l, struct load_conn *c)
{
	stream_release(the_wire.w, c->io);
}

static const struct load_io wire_io = {.connect = wire_connect, .write = wire_write, .close = wire_close};

/* ---- origin */

static void answer(struct foil_worker *w, struct served_conn *c)
{
	struct wire *x = c->wire;

	while (c->n_owed && stream_tx_room(c->s)) {
		struct foil_chain chain = {0};
		int rc = x->answer.head ? foil_chain_share(w, &x->answer, 0, x->answer.n_bytes, &chain)
					: foil_chain_append(w, &chain, x->load->answer, x->load->n_answer);
		if (rc) {
			x->load->n_origin_errors++;
			return;
		}
		stream_write(w, c->s, &chain);
		c->n_owed--;
	}
}

static void served_free(struct served_conn *c)
{
	*c->pprev = c->next;
	if (c->next)
		c->next->pprev = c->pprev;
	load_served_free(&c->served);
	rte_free(c);
}

static void echo(struct foil_worker *w, struct stream *s)
{
	struct foil_chain chain = {0};

	if (s->rx.n_bytes && stream_take(w, s, s->rx.n_bytes, &chain) == 0)
		stream_write(w, s, &chain);
}

/* What TLS or HTTP/2 made, all of it: the stream keeps what the window does not take. */
static void send_made(struct foil_worker *w, struct served_conn *c)
{
	struct foil_chain chain = {0};

	if (foil_chain_append(w, &chain, c->served.out, c->served.n_out) == 0)
		stream_write(w, c->s, &chain);
	else
		c->wire->load->n_origin_errors++; /* no mbufs */
	c->served.n_out = 0;
}

static void served_readable(struct foil_worker *w, struct stream *s)
{
	struct served_conn *c = s->user_data;
	struct load *l = c->wire->load;
	int n_answers = 0;

	if (l->conf->work == LOAD_TCP)
		echo(w, s);
	for (const struct rte_mbuf *m = s->rx.head; m && n_answers >= 0; m = m->next) {
		int n = load_origin_bytes(l, &c->served, rte_pktmbuf_mtod(m, const char *), m->data_len);
		n_answers = n < 0 ? n : n_answers + n;
	}
	if (n_answers < 0) {
		l->n_origin_errors++;
		stream_abort(w, s);
		served_free(c);
		return;
	}
	if (s->rx.n_bytes)
		stream_consume(w, s, s->rx.n_bytes);
	if (c->served.n_out)
		send_made(w, c);
	c->n_owed += (uint32_t)n_answers;
	answer(w, c);
	if (s->rx_eof) {
		stream_release(w, s);
		served_free(c);
	}
}

static void served_writable(struct foil_worker *w, struct stream *s)
{
	answer(w, s->user_data);
}

static void served_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	served_free(s->user_data);
}

static const struct stream_user server = {.readable = served_readable, .writable = served_writable, .closed = served_closed};

static bool on_accept(struct foil_worker *w, struct tcp_listener *listener, struct stream *s)
{
	struct served_conn *c = rte_zmalloc(NULL, sizeof(*c), 0);

	if (!c)
		return false;
	c->wire = tcp_listener_data(listener);
	c->wire->load->n_origin_conns++;
	c->s = s;
	c->next = c->wire->served;
	c->pprev = &c->wire->served;
	c->wire->served = c;
	if (c->next)
		c->next->pprev = &c->next;
	s->user = &server;
	s->user_data = c;
	return true;
}

/* ---- set-up and loop */

static int worker_make(struct wire *x, const struct load_conf *k, struct foil_error *err)
{
	struct foil_worker_params wp = {.n_workers = 1, .seed = 1, .now_us = nic_clock_us(), .wall_us = nic_wall_us()};
	uint32_t data_bytes = FOIL_MAX(2048u, (k->mtu + 191u) & ~63u), n_mbufs = k->memory_mb * 1024u / 2 * 1024u / (data_bytes + 1024u);
	struct foil_pools_params pp = {.prefix = "load", .mbuf_data_bytes = data_bytes, .n_mbufs = n_mbufs, .n_indirect = n_mbufs, .n_chunks = 63,
				       .n_large_chunks = 3};
	int rc = foil_pools_new(&x->pools, &pp, err);

	if (rc)
		return rc;
	wp.mbuf_pool = x->pools.mbuf;
	wp.indirect_pool = x->pools.indirect;
	wp.chunk_pool = x->pools.chunk;
	wp.large_chunk_pool = x->pools.large_chunk;
	x->w = rte_zmalloc(NULL, sizeof(*x->w), 64);
	if (!x->w || foil_worker_init(x->w, &wp))
		return foil_error_set(err, -ENOMEM, "no memory for the worker");
	return 0;
}

static int port_add(struct wire *x, const struct load_conf *k, const char *uri, struct foil_error *err)
{
	char name[8];
	struct nic_port_params p = {.uri = uri, .index = x->n_ports, .n_workers = 1, .rx_pools = &x->pools.mbuf, .mtu = k->mtu, .notice = notice};

	snprintf(name, sizeof(name), "l%u", x->n_ports);
	p.name = name;
	int rc = nic_port_open(&p, &x->ports[x->n_ports], err);
	if (rc)
		return rc;
	nic_port_queue(x->ports[x->n_ports], 0, &x->net_ports[x->n_ports]);
	x->n_ports++;
	return 0;
}

static int locals_add(struct net_local_conf *locals, uint16_t *n, uint16_t port, const char *const *texts, int n_texts, struct foil_error *err)
{
	for (int i = 0; i < n_texts; i++) {
		if (net_prefix_parse(texts[i], &locals[*n].prefix))
			return foil_error_set(err, -EINVAL, "'%s' is no address with a prefix length, as 198.18.0.2/24", texts[i]);
		locals[(*n)++].port = port;
	}
	return 0;
}

static int net_up(struct wire *x, const struct load_conf *k, struct foil_error *err)
{
	struct net_local_conf locals[2 * LOAD_ADDRESSES_MAX] = {0};
	struct net_params np = {.locals = locals};
	struct tcp_params tp = {.conns_max = 2 * k->connections + 4096, .time_wait_max = 65536, .msl_us = 1000};
	uint16_t n = 0, origin_port = k->client_uri ? 1 : 0;
	int rc = locals_add(locals, &n, 0, k->client_addresses, k->n_client_addresses, err);

	for (uint16_t i = 0; i < n; i++)
		x->locals[x->n_locals++] = locals[i].prefix.addr;
	rc = rc ? rc : locals_add(locals, &n, origin_port, k->origin_addresses, k->n_origin_addresses, err);
	if (rc)
		return rc;
	for (uint16_t i = 0; i < x->n_ports; i++)
		np.ports[i] = &x->net_ports[i];
	np.n_ports = x->n_ports;
	np.n_locals = n;
	nic_ports_hooks(x->ports, x->n_ports, &np);
	rc = net_init(x->w, &np, err);
	rc = rc ? rc : tcp_init(x->w, &tp, err);
	if (rc || !k->origin_port)
		return rc;
	struct tcp_listen_params lp = {.port = k->origin_port, .backlog_max = 65535, .accept = on_accept, .user_data = x};
	return tcp_listen(x->w, &lp, &x->listener);
}

static bool links_up(const struct wire *x)
{
	for (uint16_t i = 0; i < x->n_ports; i++) {
		struct nic_port_status s;
		nic_port_status(x->ports[i], &s);
		if (!s.link_up)
			return false;
	}
	return true;
}

/* The proxy is not left with connections to nobody. */
static void hang_up(struct wire *x)
{
	struct load *l = x->load;

	for (uint32_t i = 0; i < l->conf->connections; i++)
		if (l->conns[i].state != LOAD_CLOSED)
			stream_abort(x->w, l->conns[i].io);
	while (x->served) {
		struct served_conn *c = x->served;
		stream_abort(x->w, c->s);
		served_free(c);
	}
	for (int i = 0; i < 1000; i++) { /* what the ports' queues do not take at once */
		tcp_flush(x->w);
		net_flush(x->w);
		(void)net_poll(x->w);
	}
}

static int loop(void *arg)
{
	struct wire *x = arg;
	struct foil_worker *w = x->w;
	struct load *l = x->load;
	bool had_work = false, go_on = true;
	uint64_t before_ns = load_now_ns();

	foil_worker_set_current(w);
	while (go_on && !stop) {
		w->now_us = nic_clock_us();
		w->wall_us = w->now_us;
		uint64_t n_done = l->n_done;
		bool work = net_poll(w) > 0;
		work |= foil_wheel_advance(w, 64) > 0;
		go_on = load_turn(l);
		tcp_flush(w);
		net_flush(w);
		if (had_work)
			l->busy_ns += l->now_ns - before_ns;
		before_ns = l->now_ns;
		had_work = work || l->n_done != n_done;
		nic_idle_turn(&x->idle, had_work || l->interval_ns > 0, foil_wheel_next_us(w));
		if (!had_work)
			rte_pause();
	}
	hang_up(x);
	return 0;
}

static int wire_open(struct wire *x, const struct load_conf *k, struct foil_error *err)
{
	uint16_t cpu = (uint16_t)k->cpu;
	const char *uris[2];
	uint16_t n_uris = 0;

	if (k->client_uri)
		uris[n_uris++] = k->client_uri;
	if (k->origin_uri)
		uris[n_uris++] = k->origin_uri;
	struct nic_eal_params ep = {.program = "foil-load", .n_workers = 1, .worker_cpus = k->cpu >= 0 ? &cpu : NULL, .main_cpu = k->cpu,
				    .memory_mb = k->memory_mb, .file_prefix = "foil-load", .uris = uris, .n_uris = n_uris, .notice = notice};
	int rc = nic_eal_start(&ep, err);
	rc = rc ? rc : worker_make(x, k, err);
	for (uint16_t i = 0; rc == 0 && i < n_uris; i++)
		rc = port_add(x, k, uris[i], err);
	rc = rc ? rc : net_up(x, k, err);
	if (rc)
		return rc;
	for (int i = 0; i < LINK_LIMIT_S * 100 && !links_up(x) && !stop; i++)
		(void)nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL); /* shorter is as good */
	if (!links_up(x))
		return foil_error_set(err, -ENOTCONN, "no link after %d s: is the other end of the ports there?", LINK_LIMIT_S);
	return nic_idle_init(&x->idle, x->w, k->idle, x->ports, x->n_ports, notice, NULL, err);
}

int load_run_wire(struct load *l, const struct load_conf *k)
{
	struct wire *x = &the_wire;
	struct foil_error err = {0};

	x->load = l;
	(void)signal(SIGTERM, on_signal); /* fails for signals that do not exist */
	(void)signal(SIGINT, on_signal);
	int rc = wire_open(x, k, &err);
	if (rc == 0)
		rc = load_init(l, k, &wire_io);
	if (rc == 0 && l->n_answer > SHARE_BYTES)
		rc = foil_chain_append(x->w, &x->answer, l->answer, l->n_answer);
	if (rc) {
		fprintf(stderr, "foil-load: %s\n", err.text[0] ? err.text : strerror(-rc));
		return rc;
	}
	(void)rte_eal_remote_launch(loop, x, nic_worker_lcore(0)); /* the lcore is idle: it takes it */
	while (rte_eal_get_lcore_state(nic_worker_lcore(0)) == RUNNING)
		(void)nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL); /* rte_eal_wait_lcore would spin */
	rte_eal_mp_wait_lcore();
	rc = load_report(l);
	nic_idle_fini(&x->idle);
	tcp_fini(x->w);
	net_fini(x->w);
	nic_ports_close(x->ports, x->n_ports);
	return rc;
}
