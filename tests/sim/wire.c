/* The checker on the wire: each frame that a host sends is well-formed, checksummed, within the MTU and within the window that its
 * peer has offered. Written against the RFCs, not against the code under test. */
#include <string.h>

#include "tests/sim/sim.h"

static uint16_t be16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

/* From one host to the other, and not to a stranger who has taken the same port. */
static bool is_between_hosts(const struct sim *s, uint8_t from, const uint8_t *frame)
{
	struct net_addr src = sim_addr(s, from), dst = sim_addr(s, !from);

	if (s->v6)
		return memcmp(frame + 22, src.b, 16) == 0 && memcmp(frame + 38, dst.b, 16) == 0;
	return memcmp(frame + 26, src.b + 12, 4) == 0 && memcmp(frame + 30, dst.b + 12, 4) == 0;
}

static struct sim_flow *flow_of(struct sim *s, uint8_t from, const uint8_t *frame, const struct sim_tcp *t, uint8_t *side)
{
	if (!is_between_hosts(s, from, frame))
		return NULL;
	struct sim_flow *last = NULL; /* a port may be used again */
	for (uint32_t i = 0; i < s->n_flows; i++) {
		struct sim_flow *f = &s->flows[i];
		uint16_t other = f->simultaneous ? (uint16_t)(30000 + f->id) : f->remote_port ? f->remote_port : SIM_SERVER_PORT;
		uint8_t x = f->e[0].host == from ? 0 : 1;
		if (!f->is_started || (last && last->start_us > f->start_us))
			continue;
		if (x == 0 ? t->sport == f->port && t->dport == other : t->dport == f->port && t->sport == other) {
			last = f;
			*side = x;
		}
	}
	return last;
}

static bool seq_gt(uint32_t a, uint32_t b)
{
	return (int32_t)(a - b) > 0;
}

static void check_frame(struct sim *s, uint8_t from, const uint8_t *frame, uint16_t n_bytes)
{
	uint16_t type = be16(frame + 12);
	const uint8_t *ip = frame + 14;

	if (n_bytes - 14 > s->mtu)
		sim_fail(s, "host %u sent %u bytes over an MTU of %u", from, n_bytes - 14, s->mtu);
	if (type == 0x0800 && sim_checksum(0, ip, 20) != 0)
		sim_fail(s, "host %u sent a wrong IPv4 checksum", from);
}

static void learn_syn(struct sim_wire_dir *d, const struct sim_tcp *t)
{
	d->has_syn = true;
	d->isn = t->seq;
	d->max_sent = t->seq;
	d->has_wscale = t->wscale >= 0;
	d->wscale = t->wscale > 0 ? (uint8_t)t->wscale : 0;
}

/* One byte may go beyond as a probe, and a FIN takes a number but no room. */
static void check_window(struct sim *s, const struct sim_flow *f, uint8_t side, const struct sim_tcp *t)
{
	const struct sim_wire_dir *d = &f->dir[side];
	uint32_t end = t->seq + t->n_payload;

	if (t->n_payload && d->has_edge && seq_gt(end, d->edge + 1))
		sim_fail(s, "flow %u side %u: sent up to %u, offered were %u", f->id, side, end - d->isn, d->edge - d->isn);
	if (t->n_payload && !d->has_edge)
		sim_fail(s, "flow %u side %u: sent data before a window was offered", f->id, side);
}

static void check_payload(struct sim *s, const struct sim_flow *f, uint8_t side, const struct sim_tcp *t)
{
	const struct sim_wire_dir *d = &f->dir[side];
	uint32_t n_there;
	const uint8_t *want = sim_pattern(f, side, t->seq - d->isn - 1, &n_there);

	if (t->n_payload && d->has_syn && !(t->flags & 2) && t->n_payload <= n_there && memcmp(t->payload, want, t->n_payload) != 0)
		sim_fail(s, "flow %u side %u: a segment at %u has other bytes than were written", f->id, side, t->seq - d->isn);
}

/* Its connection may be gone: late segments are answered by a reset. */
static bool is_over(const struct sim_end *e)
{
	return e->closed || e->gone || (e->s && e->shut && e->s->rx_eof);
}

void sim_pcap(const struct sim *s, const uint8_t *frame, uint16_t n_bytes)
{
	uint32_t h[4] = {(uint32_t)(s->now_us / 1000000), (uint32_t)(s->now_us % 1000000), n_bytes, n_bytes};

	if (!s->pcap)
		return;
	fwrite(h, sizeof(h), 1, s->pcap);
	fwrite(frame, n_bytes, 1, s->pcap);
}

void sim_wire_sent(struct sim *s, uint8_t from, const uint8_t *frame, uint16_t n_bytes)
{
	struct sim_tcp t;
	uint8_t side;

	sim_pcap(s, frame, n_bytes);
	if (s->scenario->raw_input && from == 1)
		return; /* a liar may send what it likes */
	check_frame(s, from, frame, n_bytes);
	if (!sim_tcp_parse(frame, n_bytes, &t))
		return;
	if (sim_checksum(sim_pseudo(frame + 14, t.v4, 6, t.n_tcp), t.tcp, t.n_tcp) != 0)
		sim_fail(s, "host %u sent a wrong TCP checksum", from);
	struct sim_flow *f = flow_of(s, from, frame, &t, &side);
	if ((t.flags & 4) && !s->rst_expected && !(f && is_over(&f->e[side])))
		sim_fail(s, "host %u sent a reset, port %u to %u", from, t.sport, t.dport);
	if (!f)
		return;
	if (t.flags & 2)
		learn_syn(&f->dir[side], &t);
	if (t.flags & 4)
		return;
	check_window(s, f, side, &t);
	check_payload(s, f, side, &t);
	if (seq_gt(t.seq + t.n_payload, f->dir[side].max_sent))
		f->dir[side].max_sent = t.seq + t.n_payload;
}

void sim_wire_arrived(struct sim *s, uint8_t to, const uint8_t *frame, uint16_t n_bytes)
{
	struct sim_tcp t;
	uint8_t side;

	if (!sim_tcp_parse(frame, n_bytes, &t) || sim_checksum(sim_pseudo(frame + 14, t.v4, 6, t.n_tcp), t.tcp, t.n_tcp) != 0)
		return; /* corrupted on the way */
	struct sim_flow *f = flow_of(s, !to, frame, &t, &side);
	if (!f || !(t.flags & 0x10) || (t.flags & 4))
		return;
	struct sim_wire_dir *data = &f->dir[!side], *back = &f->dir[side]; /* this segment offers a window for the other side's data */
	uint32_t scale = t.flags & 2 ? 0 : data->has_wscale && back->has_wscale ? back->wscale : 0;
	uint32_t edge = t.ack + ((uint32_t)t.wnd << scale);
	if (seq_gt(t.ack, data->max_sent + 2)) /* of an older incarnation */
		return;
	if (!data->has_edge || seq_gt(edge, data->edge))
		data->edge = edge;
	data->has_edge = true;
}
