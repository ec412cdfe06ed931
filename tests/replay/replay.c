/* A capture of two kernels' TCP, with our stack in the place of one of them.
 *   replay [--write] CAPTURE server|client EXPECTED
 * The other side's segments come at the times of the capture; what the replaced side's application wrote and when it closed is read
 * from its recorded segments. Our initial sequence number is the recorded one, so that the other side's ACKs fit.
 * Judged twice: the bytes sent are those of EXPECTED, frame by frame with their times; and whatever those are, the conversation was
 * the recorded one: the same stream in both directions, all of it acknowledged, no reset that was not there. --write makes EXPECTED
 * anew, for a person to look at the difference. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <pcap/pcap.h>
#include <rte_eal.h>

#include "dataplane/core/error.h"
#include "tests/sim/sim.h"

#define PORT 7000
#define FRAMES_MAX 4096
#define STREAM_MAX (1u << 20)

struct frame {
	uint64_t at_us;
	uint32_t n_bytes;
	uint8_t *bytes;
};

struct side { /* of the recorded conversation */
	uint32_t isn, next; /* next: end of what was seen */
	bool fin, rst;
	uint8_t *stream;
	uint32_t n_stream;
};

static struct {
	struct frame in[FRAMES_MAX], out[FRAMES_MAX];
	uint32_t n_in, n_out;
	bool is_client, v6, closed;
	enum stream_end why;
	struct side us, peer;
	uint16_t client_port;
	struct net_addr our_addr, peer_addr;
	uint8_t our_mac[6], peer_mac[6];
	struct foil_worker w;
	struct foil_pools pools;
	struct net_port port;
	struct stream *s;
	uint8_t *got; /* by our application */
	uint32_t n_got;
	struct rte_mbuf *answer;
	uint32_t last_ack;
	bool sent_rst;
	uint32_t n_bad;
} r;

static void bad(const char *what)
{
	fprintf(stderr, "# replay: %s\n", what);
	r.n_bad++;
}

static void load(const char *path, struct frame *out, uint32_t *n)
{
	char err[PCAP_ERRBUF_SIZE];
	struct pcap_pkthdr *h;
	const u_char *data;
	pcap_t *p = pcap_open_offline(path, err);

	if (!p) {
		fprintf(stderr, "replay: %s\n", err);
		exit(2);
	}
	while (pcap_next_ex(p, &h, &data) == 1 && *n < FRAMES_MAX) {
		struct frame *f = &out[(*n)++];
		f->at_us = (uint64_t)h->ts.tv_sec * 1000000 + (uint64_t)h->ts.tv_usec;
		f->n_bytes = h->caplen;
		f->bytes = malloc(h->caplen);
		memcpy(f->bytes, data, h->caplen);
	}
	pcap_close(p);
}

static void save(const char *path)
{
	pcap_t *p = pcap_open_dead(DLT_EN10MB, 65535);
	pcap_dumper_t *d = pcap_dump_open(p, path);

	for (uint32_t i = 0; d && i < r.n_out; i++) {
		struct pcap_pkthdr h = {.caplen = r.out[i].n_bytes, .len = r.out[i].n_bytes};
		h.ts.tv_sec = (time_t)(r.out[i].at_us / 1000000);
		h.ts.tv_usec = (suseconds_t)(r.out[i].at_us % 1000000);
		pcap_dump((u_char *)d, &h, r.out[i].bytes);
	}
	if (d)
		pcap_dump_close(d);
	pcap_close(p);
}

static struct rte_mbuf *mbuf_of(const uint8_t *bytes, uint32_t n_bytes)
{
	struct rte_mbuf *m = rte_pktmbuf_alloc(r.pools.mbuf);

	if (!m)
		abort();
	memcpy(rte_pktmbuf_append(m, (uint16_t)n_bytes), bytes, n_bytes);
	return m;
}

/* Neighbour questions of ours are answered at once, for whoever is asked for: the capture's router or host. */
static void answer(const uint8_t *f, uint32_t n)
{
	uint8_t a[86] = {0};

	if (f[12] == 0x08 && f[13] == 0x06 && f[21] == 1 && memcmp(f + 28, f + 38, 4) != 0) {
		memcpy(a, f, 42);
		memcpy(a, f + 6, 6);
		memcpy(a + 6, r.peer_mac, 6);
		a[21] = 2;
		memcpy(a + 22, r.peer_mac, 6);
		memcpy(a + 28, f + 38, 4);
		memcpy(a + 32, f + 22, 10);
		r.answer = mbuf_of(a, 42);
	} else if (f[12] == 0x86 && n >= 86 && f[54] == 135) {
		memcpy(a, f + 6, 6);
		memcpy(a + 6, r.peer_mac, 6);
		memcpy(a + 12, (uint8_t[]){0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, 58, 255}, 10);
		memcpy(a + 22, f + 62, 16);
		memcpy(a + 38, f + 22, 16);
		a[54] = 136;
		a[58] = 0x60;
		memcpy(a + 62, f + 62, 16);
		a[78] = 2;
		a[79] = 1;
		memcpy(a + 80, r.peer_mac, 6);
		uint16_t sum = sim_checksum(sim_pseudo(a + 14, false, 58, 32), a + 54, 32);
		memcpy(a + 56, &sum, 2);
		r.answer = mbuf_of(a, 86);
	}
}

static uint16_t no_rx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **pkts, uint16_t n_pkts)
{
	return 0;
}

static uint16_t tx(struct foil_worker *w, struct net_port *p, struct rte_mbuf **own_pkts, uint16_t n_pkts)
{
	for (uint16_t i = 0; i < n_pkts; i++) {
		uint32_t n = own_pkts[i]->pkt_len;
		struct frame *f = &r.out[r.n_out++];
		struct sim_tcp t;
		if (r.n_out == FRAMES_MAX)
			exit(2);
		f->at_us = w->now_us;
		f->n_bytes = n;
		f->bytes = malloc(n);
		const void *at = rte_pktmbuf_read(own_pkts[i], 0, n, f->bytes);
		if (at != f->bytes)
			memcpy(f->bytes, at, n);
		answer(f->bytes, n);
		if (sim_tcp_parse(f->bytes, (uint16_t)n, &t)) {
			r.last_ack = t.ack;
			r.sent_rst |= t.flags & 4;
		}
		rte_pktmbuf_free(own_pkts[i]);
	}
	return n_pkts;
}

static void on_readable(struct foil_worker *w, struct stream *s)
{
	uint32_t n = s->rx.n_bytes;

	if (r.n_got + n > STREAM_MAX)
		exit(2);
	foil_chain_copy_out(&s->rx, 0, r.got + r.n_got, n);
	r.n_got += n;
	stream_consume(w, s, n);
}

static void on_closed(struct foil_worker *w, struct stream *s, enum stream_end why)
{
	r.closed = true;
	r.why = why;
	r.s = NULL;
}

static const struct stream_user user = {.readable = on_readable, .closed = on_closed};

static bool on_accept(struct foil_worker *w, struct tcp_listener *l, struct stream *s)
{
	r.s = s;
	s->user = &user;
	return true;
}

static void turn(void)
{
	for (int i = 0; i < 4; i++) {
		(void)foil_wheel_advance(&r.w, 64);
		tcp_flush(&r.w);
		net_flush(&r.w);
		if (!r.answer)
			return;
		struct rte_mbuf *m = r.answer;
		r.answer = NULL;
		net_input_burst(&r.w, &r.port, &m, 1);
	}
}

static void wait_until(uint64_t at_us)
{
	while (r.w.now_us < at_us) {
		uint64_t next = foil_wheel_next_us(&r.w);
		r.w.now_us = FOIL_MIN(at_us, FOIL_MAX(next, r.w.now_us + 1));
		turn();
	}
}

static bool is_ours(const struct sim_tcp *t)
{
	return r.is_client ? t->dport == PORT : t->sport == PORT;
}

static void take_addresses(const uint8_t *f)
{
	bool v4 = f[12] == 0x08;

	r.v6 = !v4;
	memcpy(r.our_mac, f + 6, 6);
	memcpy(r.peer_mac, f, 6);
	if (v4) {
		rte_be32_t ip;
		memcpy(&ip, f + 26, 4);
		r.our_addr = net_addr_v4(ip);
		memcpy(&ip, f + 30, 4);
		r.peer_addr = net_addr_v4(ip);
	} else {
		memcpy(r.our_addr.b, f + 22, 16);
		memcpy(r.peer_addr.b, f + 38, 16);
	}
}

/* The streams and numbers of both recorded sides. */
static void study(void)
{
	struct sim_tcp t;

	for (uint32_t i = 0; i < r.n_in; i++) {
		const struct frame *f = &r.in[i];
		if (!sim_tcp_parse(f->bytes, (uint16_t)f->n_bytes, &t))
			continue;
		struct side *s = is_ours(&t) ? &r.us : &r.peer;
		if (is_ours(&t))
			take_addresses(f->bytes);
		r.client_port = t.dport == PORT ? t.sport : t.dport;
		if (t.flags & 2)
			s->isn = t.seq;
		uint32_t at = t.seq - s->isn - 1;
		if (t.n_payload && at + t.n_payload <= STREAM_MAX) {
			memcpy(s->stream + at, t.payload, t.n_payload);
			s->n_stream = FOIL_MAX(s->n_stream, at + t.n_payload);
		}
		s->fin |= t.flags & 1;
		s->rst |= t.flags & 4;
	}
}

static void start(void)
{
	struct foil_error err = {0};
	struct foil_pools_params pp = {.prefix = "replay", .n_mbufs = 4095, .n_indirect = 4095, .n_chunks = 15, .n_large_chunks = 1, .socket_id = -1};
	struct net_local_conf local = {.prefix = {r.our_addr, r.v6 ? 64 : 120}};
	struct net_route_conf route = {.prefix = {r.v6 ? (struct net_addr){{0}} : net_addr_v4(0), r.v6 ? 0 : 96}}; /* all on link: answer() */
	struct net_params np = {.ports = {&r.port}, .n_ports = 1, .locals = &local, .n_locals = 1, .routes = &route, .n_routes = 1};
	struct tcp_params tp = {.has_fixed_isn = true, .fixed_isn = r.us.isn, .conns_max = 16, .time_wait_max = 16, .syn_backlog_max = 16};
	struct tcp_listen_params lp = {.port = PORT, .accept = on_accept};
	struct tcp_listener *l;

	if (foil_pools_new(&r.pools, &pp, &err)) {
		fprintf(stderr, "replay: %s\n", err.text);
		exit(2);
	}
	struct foil_worker_params wp = {.n_workers = 1, .seed = 1, .now_us = 1000000, .mbuf_pool = r.pools.mbuf, .indirect_pool = r.pools.indirect,
					.chunk_pool = r.pools.chunk, .large_chunk_pool = r.pools.large_chunk};
	r.port = (struct net_port){.rx_burst = no_rx, .tx_burst = tx, .mtu = 1500, .tx_multi_seg = true};
	memcpy(r.port.mac.addr_bytes, r.our_mac, 6);
	if (foil_worker_init(&r.w, &wp) || net_init(&r.w, &np, &err) || tcp_init(&r.w, &tp, &err) || tcp_listen(&r.w, &lp, &l)) {
		fprintf(stderr, "replay: %s\n", err.text);
		exit(2);
	}
	foil_worker_set_current(&r.w);
}

static void open_ours(void)
{
	struct tcp_connect_params p = {.remote = r.peer_addr, .remote_port = PORT, .local_port = r.client_port, .user = &user};

	if (tcp_connect(&r.w, &p, &r.s))
		bad("tcp_connect fails");
}

/* The replaced side sent this: what its application had done. */
static void act(const struct sim_tcp *t)
{
	struct foil_chain chain = {0};
	uint32_t end = t->seq + t->n_payload - r.us.isn - 1;

	if ((t->flags & 2) && r.is_client && !r.s)
		open_ours();
	if (t->n_payload && (int32_t)(end - r.us.next) > 0) {
		if (!r.s || foil_chain_append(&r.w, &chain, r.us.stream + r.us.next, end - r.us.next)) {
			bad("there is no stream to write to");
			return;
		}
		stream_write(&r.w, r.s, &chain);
		r.us.next = end;
	}
	if ((t->flags & 1) && r.s && !r.s->tx_shut)
		stream_shutdown(&r.w, r.s);
	if ((t->flags & 4) && r.s) {
		stream_abort(&r.w, r.s);
		r.s = NULL;
	}
}

static void play(void)
{
	uint64_t first_us = r.in[0].at_us;
	struct sim_tcp t;

	for (uint32_t i = 0; i < r.n_in; i++) {
		const struct frame *f = &r.in[i];
		if (!sim_tcp_parse(f->bytes, (uint16_t)f->n_bytes, &t))
			continue;
		wait_until(1000000 + f->at_us - first_us);
		if (is_ours(&t)) {
			act(&t);
		} else {
			struct rte_mbuf *m = mbuf_of(f->bytes, f->n_bytes);
			net_input_burst(&r.w, &r.port, &m, 1);
		}
		turn();
	}
	wait_until(r.w.now_us + 100000);
}

static void judge_meaning(void)
{
	uint32_t all = r.peer.isn + 1 + r.peer.n_stream + r.peer.fin;

	if (r.n_got != r.peer.n_stream || memcmp(r.got, r.peer.stream, r.n_got) != 0)
		bad("our application did not get the recorded stream");
	if (r.us.next != r.us.n_stream)
		bad("not all of the recorded stream was written");
	if (!r.peer.rst && r.last_ack != all)
		bad("not everything that came is acknowledged");
	if (r.sent_rst && !r.us.rst)
		bad("we sent a reset and the recorded side did not");
	if (r.closed && !r.peer.rst && r.why != STREAM_END_FIN)
		bad("the stream did not end in order");
	if (!r.closed && r.us.fin && r.peer.fin)
		bad("both ended and our application was not told");
	if (r.w.why[FOIL_ROOM_TCP][TCP_REASON_BAD_ACK])
		bad("an ACK of the recorded side was not believed");
}

static void judge_bytes(const char *path)
{
	static struct frame want[FRAMES_MAX];
	uint32_t n_want = 0;
	char text[160];

	load(path, want, &n_want);
	for (uint32_t i = 0; i < FOIL_MIN(n_want, r.n_out); i++) {
		if (want[i].at_us == r.out[i].at_us && want[i].n_bytes == r.out[i].n_bytes && memcmp(want[i].bytes, r.out[i].bytes, want[i].n_bytes) == 0)
			continue;
		snprintf(text, sizeof(text), "frame %u at %llu us differs from the expected one", i + 1, (unsigned long long)r.out[i].at_us);
		bad(text);
		return;
	}
	snprintf(text, sizeof(text), "%u frames were sent, %u were expected", r.n_out, n_want);
	if (n_want != r.n_out)
		bad(text);
}

static void start_eal(void)
{
	char *argv[] = {(char[]){"replay"}, (char[]){"--no-huge"}, (char[]){"--no-pci"}, (char[]){"--no-shconf"}, (char[]){"-m"}, (char[]){"64"},
			(char[]){"--no-telemetry"}, (char[]){"-l"}, (char[]){"0"}, (char[]){"--log-level=3"}, NULL};

	if (rte_eal_init((int)FOIL_COUNT_OF(argv) - 1, argv) < 0)
		exit(2);
}

int main(int argc, char **argv)
{
	bool write = argc > 1 && strcmp(argv[1], "--write") == 0;

	argv += write;
	argc -= write;
	if (argc != 4) {
		fprintf(stderr, "usage: replay [--write] CAPTURE server|client EXPECTED\n");
		return 2;
	}
	start_eal();
	r.is_client = strcmp(argv[2], "client") == 0;
	r.us.stream = calloc(1, STREAM_MAX);
	r.peer.stream = calloc(1, STREAM_MAX);
	r.got = calloc(1, STREAM_MAX);
	load(argv[1], r.in, &r.n_in);
	study();
	start();
	play();
	judge_meaning();
	if (write)
		save(argv[3]);
	else
		judge_bytes(argv[3]);
	tcp_fini(&r.w);
	net_fini(&r.w);
	if (rte_mempool_avail_count(r.pools.mbuf) != 4095 || rte_mempool_avail_count(r.pools.indirect) != 4095)
		bad("not every mbuf came home");
	const char *name = strrchr(argv[1], '/');
	printf("%sok 1 - %s as %s\n1..1\n", r.n_bad ? "not " : "", name ? name + 1 : argv[1], argv[2]);
	return r.n_bad ? 1 : 0;
}
