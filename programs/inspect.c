/* See inspect.h. A session reads one line, is then a listing or a capture, and ends when all was written or its asker went away.
 * What a worker writes into (the scan, the captures) belongs to struct inspect, not to a session: it is given back before another gets it, whatever became
 * of who asked. Invariant: `scanner` and `capturer` are the sessions that these work for, or NULL. */
#include "programs/inspect.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "programs/local_socket.h"
#include "programs/pcapng.h"

#define REQUEST_BYTES_MAX 1024u
#define OUT_BYTES (1u << 20)
#define PACKET_ROOM (NET_CAPTURE_BYTES_MAX + PCAPNG_BLOCK_BYTES)
#define RING_BYTES (2u << 20) /* a worker's: 1,300 full packets */
#define PACKETS_A_TURN 4096u
#define INFO_BYTES 1024u      /* of a connection as JSON, at most */

enum phase { PHASE_FREE, PHASE_REQUEST, PHASE_LIST, PHASE_CAPTURE_STARTS, PHASE_CAPTURE, PHASE_CAPTURE_ENDS, PHASE_FLUSH };

struct session {
	enum phase phase;
	int fd;
	bool is_shut; /* the asker sends nothing any more */
	char request[REQUEST_BYTES_MAX];
	size_t n_request;
	uint8_t *out; /* OUT_BYTES */
	size_t n_out, n_written;
};

struct inspect {
	int listen_fd;
	struct node *node; /* NULL: not yet up */
	char *path;
	struct session sessions[INSPECT_SESSIONS_MAX];
	/* listing */
	struct session *scanner;
	struct tcp_scan scan;
	uint16_t scan_worker;
	bool scan_runs;
	/* capture */
	struct session *capturer;
	struct net_capture_filter filter;
	struct net_capture *captures[NODE_WORKERS_MAX];
	uint64_t n_left, n_seen[NODE_PORTS_MAX]; /* packets still wanted; packets written, by port */
	bool capture_runs;
};

static const struct foil_room_desc *const rooms[] = {&nic_room_desc, &net_room_desc, &tcp_room_desc}; /* that have packets in hand */

int inspect_open(const char *path, struct inspect **out, struct foil_error *err)
{
	struct inspect *i = calloc(1, sizeof(*i));
	if (!i)
		return foil_error_set(err, -ENOMEM, "no memory for inspection");
	i->path = strdup(path);
	i->listen_fd = i->path ? local_socket_listen(path, "inspect_socket", err) : foil_error_set(err, -ENOMEM, "no memory for inspection");
	if (i->listen_fd < 0) {
		int rc = i->listen_fd;
		free(i->path);
		free(i);
		return rc;
	}
	*out = i;
	return 0;
}

void inspect_start(struct inspect *i, struct node *n)
{
	i->node = n;
}

static struct worker_loop *loop_of(const struct inspect *i, uint16_t worker)
{
	return &i->node->workers[worker].loop;
}

static uint16_t n_workers(const struct inspect *i)
{
	return i->node->conf->n_workers;
}

/* ---- sessions */

static void session_end(struct session *s)
{
	(void)close(s->fd); /* all was written, or nobody reads it */
	free(s->out);
	*s = (struct session){0};
}

static void say(struct session *s, const void *data, size_t n)
{
	if (n > OUT_BYTES - s->n_out)
		return; /* callers look for room before */
	memcpy(s->out + s->n_out, data, n);
	s->n_out += n;
}

static void say_line(struct session *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
static void say_line(struct session *s, const char *fmt, ...)
{
	char text[512];
	va_list args;
	va_start(args, fmt);
	int n = vsnprintf(text, sizeof(text) - 1, fmt, args);
	va_end(args);
	size_t len = FOIL_MIN((size_t)FOIL_MAX(n, 0), sizeof(text) - 2);
	text[len] = '\n';
	say(s, text, len + 1);
}

static void refuse(struct session *s, const char *why)
{
	say_line(s, "error %s", why);
	s->phase = PHASE_FLUSH;
}

static size_t room_in(const struct session *s)
{
	return OUT_BYTES - s->n_out;
}

/* False: the asker is gone. */
static bool write_some(struct session *s)
{
	while (s->n_written < s->n_out) {
		ssize_t n = send(s->fd, s->out + s->n_written, s->n_out - s->n_written, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0)
			return errno == EAGAIN || errno == EINTR;
		s->n_written += (size_t)n;
	}
	s->n_out = s->n_written = 0;
	return true;
}

static void accept_some(struct inspect *i)
{
	for (unsigned int k = 0; k < INSPECT_SESSIONS_MAX; k++) {
		struct session *s = &i->sessions[k];
		if (s->phase != PHASE_FREE)
			continue;
		int fd = accept4(i->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
		if (fd < 0)
			return;
		*s = (struct session){.phase = PHASE_REQUEST, .fd = fd, .out = malloc(OUT_BYTES)};
		if (!s->out)
			session_end(s);
	}
}

/* ---- requests */

struct word {
	const char *name, *value;
};

/* Cuts the next NAME=VALUE off; false: there is none. */
static bool next_word(char **at, struct word *out)
{
	char *word = strsep(at, " ");
	while (word && !*word)
		word = strsep(at, " ");
	if (!word)
		return false;
	char *equals = strchr(word, '=');
	if (equals)
		*equals = 0;
	*out = (struct word){word, equals ? equals + 1 : ""};
	return true;
}

static bool read_number(const char *text, uint64_t max, uint64_t *out)
{
	char *end = NULL;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || v > max)
		return false;
	*out = v;
	return true;
}

static bool read_port(const char *text, uint16_t *out)
{
	uint64_t v;
	if (!read_number(text, UINT16_MAX, &v))
		return false;
	*out = (uint16_t)v;
	return true;
}

static bool scan_word(struct tcp_scan_filter *f, const struct word *w)
{
	if (strcmp(w->name, "local") == 0)
		return f->has_local = net_addr_parse(w->value, &f->local) == 0;
	if (strcmp(w->name, "remote") == 0)
		return f->has_remote = net_addr_parse(w->value, &f->remote) == 0;
	if (strcmp(w->name, "local_port") == 0)
		return read_port(w->value, &f->local_port);
	if (strcmp(w->name, "remote_port") == 0)
		return read_port(w->value, &f->remote_port);
	if (strcmp(w->name, "state") == 0)
		return (f->state = tcp_scan_state(w->value)) != NULL;
	return false;
}

/* A reason by its name, in every room that has it. */
static bool select_reason(struct net_capture_filter *f, const char *name)
{
	bool any = strcmp(name, "any") == 0, found = false;
	for (size_t r = 0; r < FOIL_COUNT_OF(rooms); r++) {
		for (uint16_t k = 1; k < FOIL_MIN(rooms[r]->n_reasons, NET_CAPTURE_REASONS_MAX); k++) { /* 0 is OK */
			if (!any && strcmp(rooms[r]->reasons[k].name, name) != 0)
				continue;
			f->reasons[rooms[r]->room][k / 64] |= 1ull << (k % 64);
			found = true;
		}
	}
	return found;
}

static bool capture_word(struct net_capture_filter *f, uint64_t *n_left, const struct word *w)
{
	uint64_t v;
	if (strcmp(w->name, "reason") == 0) {
		f->reasons_only = true;
		return select_reason(f, w->value);
	}
	for (int e = 0; e < NET_CAPTURE_ENDS; e++) {
		const char *letter = e == 0 ? "a" : "b";
		if (strcmp(w->name, letter) == 0)
			return f->ends[e].has_addr = net_addr_parse(w->value, &f->ends[e].addr) == 0;
		if (w->name[0] == letter[0] && strcmp(w->name + 1, "_port") == 0)
			return read_port(w->value, &f->ends[e].port);
	}
	if (strcmp(w->name, "snap") == 0 && read_number(w->value, UINT32_MAX, &v)) {
		f->snap_bytes = (uint32_t)v;
		return true;
	}
	return strcmp(w->name, "count") == 0 && read_number(w->value, UINT64_MAX - 1, n_left);
}

static void refuse_word(struct session *s, const struct word *w)
{
	char text[256];
	(void)snprintf(text, sizeof(text), "\"%.64s=%.64s\" is no filter, or its value is none; docs/operating.md has them", w->name, w->value);
	refuse(s, text);
}

static void begin_list(struct inspect *i, struct session *s, char *words)
{
	struct tcp_scan_filter f = {0};
	struct word w;
	while (next_word(&words, &w))
		if (!scan_word(&f, &w)) {
			refuse_word(s, &w);
			return;
		}
	if (i->scan_runs) {
		refuse(s, "somebody else lists the connections at the moment; ask again");
		return;
	}
	i->scanner = s;
	i->scan.filter = f;
	i->scan.at = i->scan.n_infos = i->scan_worker = 0;
	i->scan.is_done = false;
	i->scan_runs = true;
	__atomic_store_n(&i->scan.owner, tcp_scan_owner(0), __ATOMIC_RELEASE);
	for (uint16_t k = 0; k < n_workers(i); k++)
		__atomic_store_n(&loop_of(i, k)->scan, &i->scan, __ATOMIC_RELEASE);
	node_wake(i->node);
	say_line(s, "ok");
	s->phase = PHASE_LIST;
}

static void captures_free(struct inspect *i)
{
	for (uint16_t k = 0; k < NODE_WORKERS_MAX; k++) {
		net_capture_free(i->captures[k]);
		i->captures[k] = NULL;
	}
}

static void begin_capture(struct inspect *i, struct session *s, char *words)
{
	struct net_capture_filter f = {0};
	uint64_t n_left = UINT64_MAX;
	struct word w;
	while (next_word(&words, &w))
		if (!capture_word(&f, &n_left, &w)) {
			refuse_word(s, &w);
			return;
		}
	if (i->capture_runs) {
		refuse(s, "somebody else captures at the moment; ask again when he has ended");
		return;
	}
	for (uint16_t k = 0; k < n_workers(i); k++) {
		i->captures[k] = net_capture_new(&f, RING_BYTES);
		if (!i->captures[k]) {
			captures_free(i);
			refuse(s, "no memory for the workers' rings");
			return;
		}
	}
	i->capturer = s;
	i->capture_runs = true;
	i->filter = f;
	i->n_left = n_left;
	memset(i->n_seen, 0, sizeof(i->n_seen));
	for (uint16_t k = 0; k < n_workers(i); k++)
		__atomic_store_n(&loop_of(i, k)->capture, i->captures[k], __ATOMIC_RELEASE);
	node_wake(i->node);
	s->phase = PHASE_CAPTURE_STARTS;
}

static void take_request(struct inspect *i, struct session *s)
{
	char *words = s->request, *command = strsep(&words, " ");
	if (!i->node)
		refuse(s, "the data plane is not up yet");
	else if (strcmp(command, "connections") == 0)
		begin_list(i, s, words);
	else if (strcmp(command, "capture") == 0)
		begin_capture(i, s, words);
	else
		refuse(s, "say connections or capture");
}

/* False: the asker is gone. */
static bool read_some(struct inspect *i, struct session *s)
{
	char rest[64];
	if (s->is_shut)
		return true;
	bool wants = s->phase == PHASE_REQUEST;
	ssize_t n = recv(s->fd, wants ? s->request + s->n_request : rest, wants ? sizeof(s->request) - 1 - s->n_request : sizeof(rest), MSG_DONTWAIT);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	s->is_shut = n == 0;
	if (!wants)
		return true;
	s->n_request += (size_t)n;
	char *line = memchr(s->request, '\n', s->n_request);
	if (line) {
		*line = 0;
		take_request(i, s);
	} else if (s->n_request == sizeof(s->request) - 1) {
		refuse(s, "the request is too long");
	} else if (s->is_shut) {
		return false;
	}
	return true;
}

/* ---- connections */

static const char *yes(bool b)
{
	return b ? "true" : "false";
}

static void say_connection(struct session *s, uint16_t worker, const struct tcp_conn_info *c)
{
	char local[NET_ADDR_STRLEN], remote[NET_ADDR_STRLEN], text[INFO_BYTES], ssthresh[16] = "null";
	if (c->ssthresh_bytes != UINT32_MAX)
		(void)snprintf(ssthresh, sizeof(ssthresh), "%u", c->ssthresh_bytes); /* fits */
	int n = snprintf(text, sizeof(text),
			 "{\"local\":\"%s\",\"local_port\":%u,\"remote\":\"%s\",\"remote_port\":%u,\"state\":\"%s\",\"worker\":%u",
			 net_addr_format(&c->local, local), c->local_port, net_addr_format(&c->remote, remote), c->remote_port, c->state, worker);
	if (c->kind != TCP_SCAN_TIME_WAIT)
		n += snprintf(text + n, sizeof(text) - (size_t)n,
			      ",\"active\":%s,\"age_us\":%llu,\"mss_bytes\":%u,\"send_window_bytes\":%u,\"resent\":%u,"
			      "\"timestamps\":%s,\"sack\":%s,\"window_scale\":%s,\"ecn\":%s",
			      yes(c->is_active), (unsigned long long)c->age_us, c->mss_bytes, c->snd_wnd_bytes, c->n_resent, yes(c->has_ts),
			      yes(c->has_sack), yes(c->has_wscale), yes(c->has_ecn));
	if (c->kind == TCP_SCAN_CONN)
		n += snprintf(text + n, sizeof(text) - (size_t)n,
			      ",\"idle_us\":%llu,\"congestion\":\"%s\",\"phase\":\"%s\",\"cwnd_bytes\":%u,\"ssthresh_bytes\":%s,\"srtt_us\":%u,"
			      "\"rttvar_us\":%u,\"rto_us\":%u,\"min_rtt_us\":%u,\"in_flight_bytes\":%u,\"lost_bytes\":%u,\"sacked_bytes\":%u,"
			      "\"resent_bytes\":%u,\"timeouts\":%u,\"receive_window_bytes\":%u,\"receive_queue_bytes\":%u,\"send_queue_bytes\":%u,"
			      "\"out_of_order_bytes\":%u,\"pace_bytes_per_s\":%llu,\"dropped\":%u,\"last_drop\":",
			      (unsigned long long)c->idle_us, c->congestion, c->phase, c->cwnd_bytes, ssthresh, c->srtt_us, c->rttvar_us, c->rto_us,
			      c->min_rtt_us, c->in_flight_bytes, c->lost_bytes, c->sacked_bytes, c->resent_bytes, c->n_timeouts, c->rcv_wnd_bytes,
			      c->rx_waiting_bytes, c->tx_waiting_bytes, c->ooo_bytes, (unsigned long long)c->pace_Bps, c->n_dropped);
	if (c->kind == TCP_SCAN_CONN)
		n += snprintf(text + n, sizeof(text) - (size_t)n, c->last_drop ? "\"%s\"" : "%s", c->last_drop ? c->last_drop : "null");
	n += snprintf(text + n, sizeof(text) - (size_t)n, "}\n");
	say(s, text, (size_t)n);
}

static void scan_stop(struct inspect *i)
{
	for (uint16_t k = 0; k < n_workers(i); k++)
		__atomic_store_n(&loop_of(i, k)->scan, NULL, __ATOMIC_RELEASE);
	i->scan_runs = false;
	if (i->scanner)
		i->scanner->phase = PHASE_FLUSH;
	i->scanner = NULL;
}

static void list_turn(struct inspect *i)
{
	struct tcp_scan *scan = &i->scan;
	if (!i->scan_runs || __atomic_load_n(&scan->owner, __ATOMIC_ACQUIRE) != TCP_SCAN_HOUSE)
		return;
	if (i->scanner && room_in(i->scanner) < TCP_SCAN_INFOS * INFO_BYTES)
		return; /* the asker is slow */
	for (uint32_t k = 0; i->scanner && k < scan->n_infos; k++)
		say_connection(i->scanner, i->scan_worker, &scan->infos[k]);
	scan->n_infos = 0;
	if (scan->is_done) {
		scan->at = 0;
		scan->is_done = false;
		i->scan_worker++;
	}
	if (!i->scanner || i->scan_worker == n_workers(i)) {
		scan_stop(i);
		return;
	}
	__atomic_store_n(&scan->owner, tcp_scan_owner(i->scan_worker), __ATOMIC_RELEASE);
	worker_loop_wake(loop_of(i, i->scan_worker));
}

/* ---- capture */

/* Every worker has taken up what its loop says. */
static bool is_taken_up(const struct inspect *i)
{
	for (uint16_t k = 0; k < n_workers(i); k++) {
		const struct worker_loop *l = loop_of(i, k);
		if (__atomic_load_n(&l->capture_seen, __ATOMIC_ACQUIRE) != l->capture)
			return false;
	}
	return true;
}

static void say_preamble(const struct inspect *i, struct session *s)
{
	const struct node_conf *c = i->node->conf;
	say_line(s, "ok");
	s->n_out += pcapng_section(s->out + s->n_out, room_in(s), "hydrofoil " FOIL_VERSION);
	for (uint16_t p = 0; p < c->n_ports; p++) {
		char name[16];
		(void)snprintf(name, sizeof(name), "p%u", p); /* fits */
		s->n_out += pcapng_interface(s->out + s->n_out, room_in(s), name, c->ports[p].uri, i->filter.snap_bytes);
	}
}

static const struct foil_room_desc *room_of(uint8_t room)
{
	for (size_t r = 0; r < FOIL_COUNT_OF(rooms); r++)
		if (rooms[r]->room == (enum foil_room)room)
			return rooms[r];
	FOIL_UNREACHABLE();
}

static const char *comment_of(const struct net_capture_record *r, char *text, size_t n_text)
{
	static const char *const kinds[] = {[FOIL_REASON_DROP] = "drop", [FOIL_REASON_RESET] = "reset", [FOIL_REASON_CHALLENGE] = "challenge",
					    [FOIL_REASON_REFUSE] = "refusal", [FOIL_REASON_REPLY] = "reply", [FOIL_REASON_NOTE] = "note"};
	if (!r->has_why)
		return NULL;
	const struct foil_room_desc *room = room_of(r->room);
	const struct foil_reason_desc *why = &room->reasons[r->why];
	(void)snprintf(text, n_text, "%s (%s %s): %s", why->name, room->name, kinds[why->kind], why->help); /* cut if need be */
	return text;
}

static void say_packet(struct inspect *i, struct session *s, const struct net_capture_record *r)
{
	char comment[PCAPNG_TEXT_BYTES + 1];
	struct pcapng_packet p = {.interface = r->port, .wall_us = r->wall_us, .data = r->bytes, .n_bytes = r->n_bytes, .n_bytes_all = r->n_bytes_all,
				  .dir = (enum pcapng_dir)r->dir, .comment = comment_of(r, comment, sizeof(comment))};
	s->n_out += pcapng_packet(s->out + s->n_out, room_in(s), &p);
	i->n_seen[r->port]++;
	i->n_left--;
}

/* The worker whose oldest record is older than the others'. */
static struct net_capture *next_of(const struct inspect *i)
{
	struct net_capture *best = NULL;
	uint64_t best_us = 0, us;
	for (uint16_t k = 0; k < n_workers(i); k++)
		if (net_capture_peek_us(i->captures[k], &us) && (!best || us < best_us)) {
			best = i->captures[k];
			best_us = us;
		}
	return best;
}

/* True: the rings are empty, or no more is wanted. */
static bool drain_rings(struct inspect *i, struct session *s)
{
	struct net_capture_record r;
	for (unsigned int n = 0; n < PACKETS_A_TURN && room_in(s) >= PACKET_ROOM; n++) {
		struct net_capture *c = i->n_left ? next_of(i) : NULL;
		if (!c || !net_capture_take(c, &r))
			return true;
		say_packet(i, s, &r);
	}
	return false;
}

static void capture_off(struct inspect *i)
{
	for (uint16_t k = 0; k < n_workers(i); k++)
		__atomic_store_n(&loop_of(i, k)->capture, NULL, __ATOMIC_RELEASE);
	node_wake(i->node);
}

static void say_statistics(const struct inspect *i, struct session *s)
{
	uint64_t n_lost = 0; /* all ports': the first one says it */
	for (uint16_t k = 0; k < n_workers(i); k++)
		n_lost += net_capture_lost(i->captures[k]);
	for (uint16_t p = 0; p < i->node->conf->n_ports; p++) {
		uint64_t lost_here = p == 0 ? n_lost : 0;
		s->n_out += pcapng_statistics(s->out + s->n_out, room_in(s), p, nic_wall_us(), i->n_seen[p] + lost_here, lost_here);
	}
}

static void capture_turn(struct inspect *i)
{
	struct session *s = i->capturer;
	if (!i->capture_runs)
		return;
	if (s && s->phase == PHASE_CAPTURE_STARTS && is_taken_up(i)) {
		say_preamble(i, s);
		s->phase = PHASE_CAPTURE;
	}
	if (s && s->phase == PHASE_CAPTURE) {
		(void)drain_rings(i, s); /* the rest at the next turn */
		if (s->is_shut || i->n_left == 0) {
			capture_off(i);
			s->phase = PHASE_CAPTURE_ENDS;
		}
	}
	bool ends = !s || s->phase == PHASE_CAPTURE_ENDS;
	if (!ends || !is_taken_up(i))
		return;
	if (s) {
		if (!drain_rings(i, s) || room_in(s) < PCAPNG_BLOCK_BYTES * NODE_PORTS_MAX)
			return;
		say_statistics(i, s);
		s->phase = PHASE_FLUSH;
	}
	i->capturer = NULL;
	i->capture_runs = false;
	captures_free(i);
}

/* ---- turns */

static void gone(struct inspect *i, struct session *s)
{
	if (i->scanner == s)
		i->scanner = NULL;
	if (i->capturer == s) {
		i->capturer = NULL;
		capture_off(i);
	}
	session_end(s);
}

static void session_turn(struct inspect *i, struct session *s)
{
	if (s->phase == PHASE_FREE)
		return;
	if (!read_some(i, s) || !write_some(s)) {
		gone(i, s);
		return;
	}
	if (s->phase == PHASE_FLUSH && s->n_out == 0)
		session_end(s);
}

void inspect_turn(struct inspect *i)
{
	accept_some(i);
	list_turn(i);
	capture_turn(i);
	for (unsigned int k = 0; k < INSPECT_SESSIONS_MAX; k++)
		session_turn(i, &i->sessions[k]);
}

bool inspect_is_busy(const struct inspect *i)
{
	return i->scan_runs || i->capture_runs;
}

unsigned int inspect_fds(const struct inspect *i, struct pollfd out[INSPECT_FDS_MAX])
{
	unsigned int n = 0;
	bool has_room = false;
	for (unsigned int k = 0; k < INSPECT_SESSIONS_MAX; k++) {
		const struct session *s = &i->sessions[k];
		has_room |= s->phase == PHASE_FREE;
		if (s->phase != PHASE_FREE)
			out[n++] = (struct pollfd){.fd = s->fd, .events = (short)((s->is_shut ? 0 : POLLIN) | (s->n_out ? POLLOUT : 0))};
	}
	if (has_room)
		out[n++] = (struct pollfd){.fd = i->listen_fd, .events = POLLIN};
	return n;
}

void inspect_close(struct inspect *own_i)
{
	if (!own_i)
		return;
	for (unsigned int k = 0; k < INSPECT_SESSIONS_MAX; k++)
		if (own_i->sessions[k].phase != PHASE_FREE)
			session_end(&own_i->sessions[k]);
	captures_free(own_i);
	(void)close(own_i->listen_fd);
	(void)unlink(own_i->path); /* it may be gone already */
	free(own_i->path);
	free(own_i);
}
