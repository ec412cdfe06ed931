/* Socket options, TCP_INFO and ioctl of the door. What Linux keeps a socket and our stack keeps a worker (largest segment, user
 * timeout, keepalive, receive buffer) is set for the worker: a script tests one connection. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#define tcp_ca_state linux_tcp_ca_state /* a tag of ours, too */
#include <linux/tcp.h>
#undef tcp_ca_state
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include "dataplane/tcp/tcp_priv.h"
#include "tests/packetdrill/door.h"

/* Linux' numbers of states, in the order of enum tcp_state */
static const uint8_t linux_states[TCP_STATE_COUNT] = {7, 2, 3, 1, 4, 5, 11, 8, 9, 6};
enum { LINUX_LISTEN = 10, LINUX_CLOSE = 7 };

/* A script sets its kernel up by sysctl; run.py puts a sysctl in its path that notes name=value in the file FOIL_DOOR_SYSCTLS, and we
 * are set up by the same words. false: the script says nothing of it. */
static bool sysctl_text(const char *name, char *out, size_t n)
{
	const char *path = getenv("FOIL_DOOR_SYSCTLS");
	FILE *f = path ? fopen(path, "r") : NULL;
	char line[256];
	bool found = false;

	while (f && fgets(line, sizeof(line), f)) {
		char *value = strchr(line, '=');
		if (!value)
			continue;
		*value++ = 0;
		if (strcmp(line, name) != 0)
			continue;
		value[strcspn(value, "\n")] = 0;
		snprintf(out, n, "%s", value);
		found = true; /* the last one counts */
	}
	if (f)
		fclose(f);
	return found;
}

void door_read_sysctls(struct door *d)
{
	char text[64];

	d->tcp.conns_max = d->tcp.time_wait_max = d->tcp.syn_backlog_max = 256;
	d->tcp.rx_window_bytes_max = 15u << 20; /* scale 8, as the scripts expect */
	d->tcp.congestion = sysctl_text("net.ipv4.tcp_congestion_control", text, sizeof(text)) && strcmp(text, "reno") == 0 ? "newreno" : "cubic";
	d->tcp.ecn_request = sysctl_text("net.ipv4.tcp_ecn", text, sizeof(text)) && text[0] == '1';
}

static struct tcp_conn *conn_of(const struct door_sock *k)
{
	return k->s ? tcp_conn_of(k->s) : NULL;
}

uint32_t door_segment_bytes(const struct door_sock *k)
{
	const struct tcp_conn *c = conn_of(k);

	return c->mss_bytes - (c->has_ts ? TCP_OPT_TS_BYTES : 0);
}

void door_apply_options(struct door *d, struct door_sock *k)
{
	struct tcp_conn *c = conn_of(k);
	const struct tcp_cc *cc = k->congestion[0] ? tcp_cc_find(strcmp(k->congestion, "reno") ? k->congestion : "newreno") : NULL;

	if (!c)
		return;
	k->s->tx_high_bytes = k->sndbuf;
	if (cc && cc != c->cc) {
		c->cc = cc;
		if (c->state >= TCP_STATE_ESTABLISHED)
			cc->init(&d->w, c);
	}
	if (k->maxseg && c->mss_bytes > k->maxseg)
		c->mss_bytes = k->maxseg;
	if (k->user_timeout_ms)
		d->w.tcp->p.user_timeout_us = k->user_timeout_ms * 1000ull;
	if (k->keepalive)
		d->w.tcp->p.keepalive_idle_us = (k->keepidle_s ? k->keepidle_s : 7200) * 1000000ull;
	if (k->keepalive && c->state >= TCP_STATE_ESTABLISHED)
		tcp_slow_arm(&d->w, c);
}

static void count_sent(const struct tcp_conn *c, struct tcp_info *i)
{
	for (const struct tcp_node *n = c->sent.next; n != &c->sent; n = n->next) {
		const struct tcp_sent *r = FOIL_CONTAINER_OF(n, const struct tcp_sent, by_seq);
		i->tcpi_unacked++;
		i->tcpi_sacked += !!(r->flags & TCP_SENT_SACKED);
		i->tcpi_lost += !(r->flags & TCP_SENT_SACKED) && (r->flags & (TCP_SENT_LOST | TCP_SENT_RETRANS)); /* sent again: still lost */
		i->tcpi_retrans += (r->flags & (TCP_SENT_RETRANS | TCP_SENT_LOST)) == TCP_SENT_RETRANS;
	}
}

static uint8_t linux_ca_state(const struct tcp_conn *c)
{
	if (c->ca_state == TCP_CA_RECOVERY)
		return TCP_CA_Recovery;
	if (c->ca_state == TCP_CA_LOSS)
		return TCP_CA_Loss;
	return c->n_sacked_bytes || c->n_dup_acks ? TCP_CA_Disorder : TCP_CA_Open;
}

static void fill_info(const struct door *d, const struct tcp_conn *c, struct tcp_info *i)
{
	i->tcpi_state = linux_states[c->state];
	i->tcpi_ca_state = linux_ca_state(c);
	i->tcpi_retransmits = c->n_rto;
	i->tcpi_probes = c->n_persist;
	i->tcpi_backoff = c->rtx_mode == TCP_RTX_PERSIST ? c->n_persist : c->n_rto;
	i->tcpi_options = (uint8_t)(c->has_ts | c->has_sack << 1 | c->has_wscale << 2 | c->has_ecn << 3);
	i->tcpi_snd_wscale = c->snd_wscale & 15;
	i->tcpi_rcv_wscale = c->rcv_wscale & 15;
	i->tcpi_rto = c->rto_us;
	i->tcpi_snd_mss = c->mss_bytes ? c->mss_bytes - (c->has_ts ? TCP_OPT_TS_BYTES : 0) : 0;
	i->tcpi_rcv_mss = c->rcv_mss_bytes;
	i->tcpi_advmss = c->mss_bytes;
	count_sent(c, i);
	i->tcpi_rtt = c->srtt_us;
	i->tcpi_rttvar = c->rttvar_us;
	i->tcpi_min_rtt = c->min_rtt_us;
	i->tcpi_snd_cwnd = c->cwnd / FOIL_MAX(c->mss_bytes, 1u); /* no segment size before the peer's SYN */
	i->tcpi_snd_ssthresh = c->ssthresh >= UINT32_MAX / 4 ? INT32_MAX : c->ssthresh / FOIL_MAX(c->mss_bytes, 1u);
	i->tcpi_reordering = 3;
	i->tcpi_bytes_acked = c->snd_una - c->iss - 1;
	i->tcpi_bytes_received = c->rcv_nxt - c->irs - 1;
	i->tcpi_notsent_bytes = tcp_unsent_bytes(c);
	i->tcpi_last_data_sent = (uint32_t)((d->w.now_us - c->last_tx_us) / 1000);
	i->tcpi_last_data_recv = i->tcpi_last_ack_recv = (uint32_t)((d->w.now_us - c->last_rx_us) / 1000);
	i->tcpi_snd_wnd = c->snd_wnd;
	i->tcpi_rcv_space = c->rcv_buf_bytes;
	i->tcpi_pmtu = c->dst.mtu;
}

static void info_of(const struct door *d, const struct door_sock *k, struct tcp_info *i)
{
	const struct tcp_conn *c = conn_of(k);

	static_assert(sizeof(*i) <= sizeof(k->last_info), "what is kept of a connection that ended");
	memset(i, 0, sizeof(*i));
	if (c)
		fill_info(d, c, i);
	else if (k->had_stream)
		memcpy(i, k->last_info, sizeof(*i));
	if (!c)
		i->tcpi_state = k->l ? LINUX_LISTEN : LINUX_CLOSE;
}

void door_keep_info(struct door_sock *k)
{
	struct tcp_info i;

	info_of(k->d, k, &i);
	memcpy(k->last_info, &i, sizeof(i));
}

static int set_socket_level(struct door *d, struct door_sock *k, int name, int v, const void *value, socklen_t n)
{
	struct linger linger;

	switch (name) {
	case SO_REUSEADDR:
	case SO_REUSEPORT:
	case SO_PRIORITY:
	case SO_MARK:
	case SO_TIMESTAMPING:
		return 0;
	case SO_SNDBUF:
		k->sndbuf = 2u * (uint32_t)FOIL_MAX(v, 2304); /* doubled, as Linux does */
		if (k->s)
			k->s->tx_high_bytes = k->sndbuf;
		return 0;
	case SO_RCVBUF:
		k->rcvbuf = 2u * (uint32_t)FOIL_MAX(v, 1152);
		d->w.tcp->p.rx_window_bytes = FOIL_MIN((uint32_t)FOIL_MAX(v, 1152), d->w.tcp->p.rx_window_bytes_max);
		return 0;
	case SO_KEEPALIVE:
		k->keepalive = v != 0;
		door_apply_options(d, k);
		return 0;
	case SO_LINGER:
		if (n < sizeof(linger))
			return -EINVAL;
		memcpy(&linger, value, sizeof(linger));
		k->has_linger = linger.l_onoff != 0;
		k->linger_s = linger.l_linger;
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int set_tcp_level(struct door *d, struct door_sock *k, int name, int v, const void *value, socklen_t n)
{
	switch (name) {
	case TCP_NODELAY:
		k->nodelay = v != 0;
		if (v)
			door_uncork(d, k);
		return 0;
	case TCP_CORK:
		k->cork = v != 0;
		if (!v)
			door_uncork(d, k);
		return 0;
	case TCP_MAXSEG:
		if (v < (int)TCP_MSS_MIN || v > 32767)
			return -EINVAL;
		k->maxseg = (uint16_t)v;
		d->w.tcp->p.mss_max = k->maxseg;
		return 0;
	case TCP_USER_TIMEOUT:
		k->user_timeout_ms = (uint32_t)v;
		break;
	case TCP_KEEPIDLE:
		k->keepidle_s = (uint32_t)v;
		break;
	case TCP_KEEPINTVL:
		k->keepintvl_s = (uint32_t)v;
		break;
	case TCP_KEEPCNT:
		k->keepcnt = (uint32_t)v;
		break;
	case TCP_CONGESTION:
		memset(k->congestion, 0, sizeof(k->congestion));
		memcpy(k->congestion, value, FOIL_MIN((size_t)n, sizeof(k->congestion) - 1));
		if (!tcp_cc_find(strcmp(k->congestion, "reno") ? k->congestion : "newreno")) {
			k->congestion[0] = 0;
			return -ENOENT;
		}
		break;
	case TCP_QUICKACK:
	case TCP_SYNCNT:
		return 0;
	default:
		return -ENOPROTOOPT;
	}
	door_apply_options(d, k);
	return 0;
}

int door_setsockopt(struct door *d, int fd, int level, int name, const void *value, socklen_t n)
{
	struct door_sock *k = door_sock_of(d, fd);
	int v = 0;

	if (!k || k->kind != DOOR_SOCKET)
		return -EBADF;
	if (!value)
		return -EFAULT;
	if (n >= sizeof(v))
		memcpy(&v, value, sizeof(v));
	else if (level != IPPROTO_IP && level != IPPROTO_IPV6 && !(level == IPPROTO_TCP && name == TCP_CONGESTION))
		return -EINVAL; /* a traffic class may be one byte */
	if (level == SOL_SOCKET)
		return set_socket_level(d, k, name, v, value, n);
	if (level == IPPROTO_TCP)
		return set_tcp_level(d, k, name, v, value, n);
	if (level == IPPROTO_IP || level == IPPROTO_IPV6)
		return 0; /* traffic class and the like: no effect on what is tested */
	return -ENOPROTOOPT;
}

static int put(void *value, socklen_t *n, const void *from, size_t n_bytes)
{
	size_t n_out = FOIL_MIN((size_t)*n, n_bytes);

	memcpy(value, from, n_out);
	*n = (socklen_t)n_out;
	return 0;
}

static int put_int(void *value, socklen_t *n, int v)
{
	return put(value, n, &v, sizeof(v));
}

static int get_socket_level(struct door_sock *k, int name, void *value, socklen_t *n)
{
	int error;

	switch (name) {
	case SO_ERROR:
		error = k->error;
		k->error = 0;
		return put_int(value, n, error);
	case SO_SNDBUF:
		return put_int(value, n, (int)k->sndbuf);
	case SO_RCVBUF:
		return put_int(value, n, (int)(k->rcvbuf ? k->rcvbuf : k->d->w.tcp->p.rx_window_bytes));
	case SO_KEEPALIVE:
		return put_int(value, n, k->keepalive);
	case SO_TYPE:
		return put_int(value, n, SOCK_STREAM);
	case SO_ACCEPTCONN:
		return put_int(value, n, k->l != NULL);
	case SO_MEMINFO:
		memset(value, 0, *n);
		return 0;
	default:
		return -ENOPROTOOPT;
	}
}

static int get_tcp_level(struct door *d, struct door_sock *k, int name, void *value, socklen_t *n)
{
	const struct tcp_conn *c = conn_of(k);
	struct tcp_info info;

	switch (name) {
	case TCP_INFO: /* a caller that knows more members than we reads zeros */
		info_of(d, k, &info);
		memset(value, 0, *n);
		memcpy(value, &info, FOIL_MIN((size_t)*n, sizeof(info)));
		return 0;
	case TCP_CC_INFO:
		*n = 0;
		return 0;
	case TCP_MAXSEG:
		return put_int(value, n, c ? (int)door_segment_bytes(k) : k->maxseg ? k->maxseg : (int)TCP_MSS_DEFAULT_V4);
	case TCP_NODELAY:
		return put_int(value, n, k->nodelay);
	case TCP_CORK:
		return put_int(value, n, k->cork);
	case TCP_USER_TIMEOUT:
		return put_int(value, n, (int)k->user_timeout_ms);
	case TCP_CONGESTION:
		return put(value, n, k->congestion[0] ? k->congestion : d->tcp.congestion, sizeof(k->congestion));
	default:
		return -ENOPROTOOPT;
	}
}

int door_getsockopt(struct door *d, int fd, int level, int name, void *value, socklen_t *n)
{
	struct door_sock *k = door_sock_of(d, fd);

	if (!k || k->kind != DOOR_SOCKET)
		return -EBADF;
	if (!value || !n)
		return -EFAULT;
	if (level == SOL_SOCKET)
		return get_socket_level(k, name, value, n);
	if (level == IPPROTO_TCP)
		return get_tcp_level(d, k, name, value, n);
	return -ENOPROTOOPT;
}

int door_ioctl(struct door *d, int fd, unsigned long request, int *value)
{
	struct door_sock *k = door_sock_of(d, fd);
	const struct tcp_conn *c;

	if (!k || k->kind != DOOR_SOCKET)
		return -EBADF;
	if (!value)
		return -EFAULT;
	c = conn_of(k);
	switch (request) {
	case FIONREAD:
		*value = (int)door_rx_bytes(k);
		return k->l ? -EINVAL : 0;
	case SIOCOUTQ:
		*value = c ? (int)k->s->tx_queued_bytes : 0;
		return 0;
	case SIOCOUTQNSD:
		*value = c ? (int)tcp_unsent_bytes(c) : 0;
		return 0;
	case FIONBIO:
		k->nonblock = *value != 0;
		return 0;
	default:
		return -ENOTTY;
	}
}
