/* The client: when a request is sent, and what counts as its answer.
 * Closed loop: a connection that got its answer asks again at once. Open loop: request i is due at start + i / rate, whatever the answers do; one that
 * finds no idle connection waits for one, and its latency counts from when it was due (so that a stall of the proxy shows in every request that
 * it kept waiting, and not in one).
 * Invariant: a connection is on the idle list iff it is LOAD_IDLE, on the closed list iff LOAD_CLOSED. */
#include <errno.h>
#include <stdlib.h>

#include "perf/load/load.h"

#define OPENING_MAX 64u
#define ISSUES_A_TURN 256u
#define PLAIN_BYTES 16384u     /* a TLS record */
#define ANSWER_LIMIT_NS 10000000000ull /* without any answer at all: the proxy is not there */

const char *const load_error_names[LOAD_ERR_COUNT] = {"connect", "status", "length", "protocol", "closed", "timeout", "tls"};

static void list_put(struct load_list *q, struct load_conn *c)
{
	c->next = NULL;
	if (q->tail)
		q->tail->next = c;
	else
		q->head = c;
	q->tail = c;
}

static struct load_conn *list_take(struct load_list *q)
{
	struct load_conn *c = q->head;

	if (!c)
		return NULL;
	q->head = c->next;
	if (!q->head)
		q->tail = NULL;
	c->next = NULL;
	return c;
}

static void list_drop(struct load_list *q, struct load_conn *c)
{
	struct load_conn *before = NULL;

	for (struct load_conn *at = q->head; at && at != c; at = at->next)
		before = at;
	if (before)
		before->next = c->next;
	else
		q->head = c->next;
	if (q->tail == c)
		q->tail = before;
	c->next = NULL;
}

static int request_make(struct load *l)
{
	const struct load_conf *k = l->conf;
	size_t n = 0;
	FILE *f = open_memstream(&l->request, &n);

	if (!f)
		return -ENOMEM;
	if (k->work == LOAD_TCP) {
		for (uint32_t i = 0; i < k->tcp_bytes; i++)
			(void)fputc('a' + (int)(i % 26), f);
	} else {
		(void)fprintf(f, "%s %s HTTP/1.1\r\nhost: %s\r\n", k->request_body_bytes ? "POST" : "GET", k->path, k->host);
		(void)fprintf(f, "user-agent: foil-load\r\naccept: */*\r\n");
		for (int i = 0; i < k->n_headers; i++)
			(void)fprintf(f, "%s\r\n", k->headers[i]);
		for (uint32_t i = 0; i < k->pad_headers; i++)
			(void)fprintf(f, "x-pad-%u: some value of a usual length %u\r\n", i, i);
		if (k->request_body_bytes)
			(void)fprintf(f, "content-length: %u\r\n", k->request_body_bytes);
		(void)fprintf(f, "%s\r\n", k->work == LOAD_NEWCONN ? "connection: close\r\n" : "");
		for (uint32_t i = 0; i < k->request_body_bytes; i++)
			(void)fputc('r', f);
	}
	if (fclose(f))
		return -ENOMEM;
	l->n_request = (uint32_t)n;
	return 0;
}

int load_init(struct load *l, const struct load_conf *conf, const struct load_io *io)
{
	l->conf = conf;
	l->io = io;
	int rc = request_make(l);
	rc = rc ? rc : load_tls_init(l);
	l->conns = calloc(FOIL_MAX(conf->connections, 1u), sizeof(l->conns[0]));
	if (rc || !l->conns)
		return rc ? rc : -ENOMEM;
	for (uint32_t i = 0; conf->target_port && i < conf->connections; i++)
		list_put(&l->closed, &l->conns[i]);
	l->now_ns = load_now_ns();
	l->start_ns = l->progress_ns = l->now_ns;
	l->measure_ns = l->start_ns + (uint64_t)(conf->warm_up_seconds * 1e9);
	l->end_ns = l->measure_ns + (uint64_t)(conf->seconds * 1e9);
	l->interval_ns = conf->rate > 0 ? 1e9 / conf->rate : 0;
	l->next_due_exact = (double)l->start_ns;
	return load_origin_init(l);
}

static void layers_free(struct load_conn *c)
{
	load_secure_free(c->secure);
	load_h2_free(c->h2);
	c->secure = NULL;
	c->h2 = NULL;
}

void load_fini(struct load *l)
{
	for (uint32_t i = 0; l->conns && i < l->conf->connections; i++) {
		free(l->conns[i].partial);
		layers_free(&l->conns[i]);
	}
	load_tls_fini(l);
	free(l->conns);
	free(l->request);
	free(l->answer);
}

static bool is_open_loop(const struct load *l)
{
	return l->interval_ns > 0;
}

static void error_count(struct load *l, enum load_error e)
{
	l->n_errors[e]++;
}

static void secure_flush(struct load *l, struct load_conn *c)
{
	const char *data;
	uint32_t n = load_secure_pending(c->secure, &data);

	if (!n)
		return;
	l->io->write(l, c, data, n);
	load_secure_taken(c->secure);
}

static void plain_write(struct load *l, struct load_conn *c, const void *data, uint32_t n_bytes)
{
	if (c->secure)
		load_secure_write(c->secure, data, n_bytes); /* it goes with secure_flush */
	else
		l->io->write(l, c, data, n_bytes);
}

/* What HTTP/2 and TLS have to send: once for all that a turn or a packet brought. */
static void flush(struct load *l, struct load_conn *c)
{
	const char *data;
	uint32_t n = c->h2 ? load_h2_pending(c->h2, &data) : 0;

	if (n) {
		plain_write(l, c, data, n);
		load_h2_taken(c->h2);
	}
	if (c->secure)
		secure_flush(l, c);
}

static void issue(struct load *l, struct load_conn *c, uint64_t due_ns)
{
	if (c->h2) {
		c->n_waiting++;
		c->state = LOAD_WAITING;
		load_h2_request(c->h2, due_ns);
		return;
	}
	c->due_ns[(c->first + c->n_waiting) % LOAD_PIPELINE_MAX] = due_ns;
	c->n_waiting++;
	c->state = LOAD_WAITING;
	plain_write(l, c, l->request, l->n_request);
}

/* In the open loop: the next request's time if it has come, else 0. */
static uint64_t take_due(struct load *l)
{
	if (l->next_due_exact > (double)l->now_ns)
		return 0;
	uint64_t due = (uint64_t)l->next_due_exact;
	l->next_due_exact += l->interval_ns;
	return due;
}

static void rest_or_ask(struct load *l, struct load_conn *c)
{
	uint64_t due = l->now_ns;

	if (l->conf->work == LOAD_HOLD && c->opened_ns) {
		c->state = LOAD_IDLE;
		list_put(&l->idle, c);
		return;
	}
	if (is_open_loop(l)) {
		due = take_due(l);
		if (!due) {
			c->state = LOAD_IDLE;
			list_put(&l->idle, c);
			return;
		}
	}
	issue(l, c, due);
	while (!is_open_loop(l) && c->n_waiting < l->conf->pipeline)
		issue(l, c, due);
}

static void begin_open(struct load *l, struct load_conn *c, uint64_t due_ns)
{
	c->n_waiting = c->first = 0;
	c->n_partial = 0;
	c->in_body = false;
	c->body_left = c->opened_ns = 0;
	c->state = LOAD_OPENING;
	c->due_ns[0] = due_ns;
	l->n_opening++;
	if (l->io->connect(l, c) == 0)
		return;
	l->n_opening--;
	c->state = LOAD_CLOSED;
	list_put(&l->closed, c);
	error_count(l, LOAD_ERR_CONNECT);
}

static void opened(struct load *l, struct load_conn *c)
{
	l->n_opening--;
	l->n_open++;
	l->n_connects++;
	l->now_ns = load_now_ns();
	if (l->conf->http2)
		c->h2 = load_h2_new(l, c);
	if (l->conf->work == LOAD_NEWCONN) {
		issue(l, c, c->due_ns[0]);
		return;
	}
	if (l->conf->work == LOAD_HOLD)
		issue(l, c, l->now_ns);
	else
		rest_or_ask(l, c);
	c->opened_ns = l->now_ns;
}

void load_opened(struct load *l, struct load_conn *c)
{
	if (!l->conf->tls) {
		opened(l, c);
	} else {
		c->secure = load_secure_new(l, true);
		(void)load_secure_handshake(l, c->secure); /* the first message: it cannot be done or fail */
	}
	flush(l, c);
}

static void shut(struct load *l, struct load_conn *c)
{
	l->io->close(l, c);
	layers_free(c);
	l->n_open--;
	if (c->state == LOAD_IDLE)
		list_drop(&l->idle, c);
	c->state = LOAD_CLOSED;
	list_put(&l->closed, c);
}

void load_closed(struct load *l, struct load_conn *c)
{
	if (c->state == LOAD_CLOSED)
		return;
	layers_free(c);
	if (c->state == LOAD_OPENING) {
		l->n_opening--;
		error_count(l, LOAD_ERR_CONNECT);
	} else {
		l->n_open--;
		if (c->n_waiting)
			error_count(l, LOAD_ERR_CLOSED);
	}
	if (c->state == LOAD_IDLE)
		list_drop(&l->idle, c);
	c->state = LOAD_CLOSED;
	list_put(&l->closed, c);
}

void load_stretch_end(struct load *l, uint64_t now_ns, uint64_t cpu_ns)
{
	uint64_t on_ns = cpu_ns - l->stretch_cpu_ns, all_ns = now_ns - l->stretch_ns;

	if (l->stretch_ns && all_ns >= on_ns + LOAD_OFF_NS) {
		l->off_end_ns = now_ns;
		l->off_ns += all_ns - on_ns;
	}
	for (uint32_t i = 0; i < l->n_answers; i++)
		if (l->answers[i].due_ns >= l->off_end_ns)
			load_hist_add(&l->clear, l->answers[i].took_ns);
	l->n_answers = 0;
	l->stretch_ns = now_ns;
	l->stretch_cpu_ns = cpu_ns;
}

static void latency_note(struct load *l, uint64_t due_ns)
{
	uint64_t took_ns = l->now_ns > due_ns ? l->now_ns - due_ns : 0;

	load_hist_add(&l->hist, took_ns);
	if (!is_open_loop(l))
		return;
	if (l->n_answers == LOAD_ANSWERS_MAX)
		load_stretch_end(l, load_now_ns(), load_clock_ns(CLOCK_THREAD_CPUTIME_ID));
	l->answers[l->n_answers].due_ns = due_ns;
	l->answers[l->n_answers++].took_ns = took_ns;
}

/* An answer is whole. False: the connection was closed. */
static bool answered(struct load *l, struct load_conn *c, bool close)
{
	uint64_t due = c->due_ns[c->first];

	l->now_ns = load_now_ns();
	latency_note(l, due);
	l->n_done++;
	c->first = (uint8_t)((c->first + 1) % LOAD_PIPELINE_MAX);
	c->n_waiting--;
	if (close || l->conf->work == LOAD_NEWCONN) {
		shut(l, c);
		if (l->conf->work == LOAD_NEWCONN && !is_open_loop(l) && !l->done) {
			(void)list_take(&l->closed); /* mostly c itself; whichever, it is opened again */
			begin_open(l, c, l->now_ns);
		}
		return false;
	}
	if (c->n_waiting == 0 || !is_open_loop(l))
		rest_or_ask(l, c);
	return true;
}

static bool fail(struct load *l, struct load_conn *c, enum load_error e)
{
	error_count(l, e);
	shut(l, c);
	return false;
}

/* The head at data, if it is whole there; *used says how much of data it took. False: closed. */
static bool head_take(struct load *l, struct load_conn *c, const char *data, uint32_t n_bytes, uint32_t *used, bool *close)
{
	struct load_head h;

	load_head_scan(data, n_bytes, &h);
	*used = h.n_bytes;
	if (h.n_bytes == 0)
		return true;
	if (h.status != 200)
		return fail(l, c, h.status ? LOAD_ERR_STATUS : LOAD_ERR_PROTOCOL);
	if (!h.has_length || h.content_length != l->conf->body_bytes)
		return fail(l, c, LOAD_ERR_LENGTH);
	c->in_body = true;
	c->body_left = h.content_length;
	*close = h.close;
	return true;
}

/* A head that came in pieces is put together in c->partial. Returns how many bytes of data belong to it, or -1: closed. */
static int64_t head_gather(struct load *l, struct load_conn *c, const char *data, uint32_t n_bytes, bool *close)
{
	uint32_t before = c->n_partial, n = FOIL_MIN(n_bytes, LOAD_HEAD_BYTES_MAX - before), used;

	if (!c->partial && !(c->partial = malloc(LOAD_HEAD_BYTES_MAX)))
		abort();
	memcpy(c->partial + before, data, n);
	c->n_partial += n;
	if (!head_take(l, c, c->partial, c->n_partial, &used, close))
		return -1;
	if (used == 0 && c->n_partial == LOAD_HEAD_BYTES_MAX) {
		(void)fail(l, c, LOAD_ERR_PROTOCOL); /* always false */
		return -1;
	}
	if (used == 0)
		return n;
	c->n_partial = 0;
	return (int64_t)used - before;
}

static bool tcp_bytes(struct load *l, struct load_conn *c, uint32_t n_bytes)
{
	if (c->body_left == 0)
		c->body_left = l->conf->tcp_bytes;
	if (n_bytes > c->body_left || c->n_waiting == 0)
		return fail(l, c, LOAD_ERR_PROTOCOL);
	c->body_left -= n_bytes;
	return c->body_left ? true : answered(l, c, false);
}

void load_answered_at(struct load *l, struct load_conn *c, uint64_t due_ns, bool is_good)
{
	l->now_ns = load_now_ns();
	if (is_good) {
		latency_note(l, due_ns);
		l->n_done++;
	}
	c->n_waiting--;
	if (c->n_waiting == 0 || !is_open_loop(l))
		rest_or_ask(l, c);
}

static bool h2_bytes(struct load *l, struct load_conn *c, const char *data, uint32_t n_bytes)
{
	return load_h2_bytes(c->h2, data, n_bytes) ? true : fail(l, c, LOAD_ERR_PROTOCOL);
}

static bool plain_bytes(struct load *l, struct load_conn *c, const char *data, uint32_t n_bytes)
{
	bool close = false;

	if (c->h2)
		return h2_bytes(l, c, data, n_bytes);
	l->n_bytes += n_bytes;
	if (l->conf->work == LOAD_TCP)
		return tcp_bytes(l, c, n_bytes);
	while (n_bytes > 0) {
		if (!c->in_body) {
			uint32_t used = 0;
			if (c->n_waiting == 0)
				return fail(l, c, LOAD_ERR_PROTOCOL);
			if (c->n_partial == 0 && !head_take(l, c, data, n_bytes, &used, &close))
				return false;
			if (used == 0) {
				int64_t n = head_gather(l, c, data, n_bytes, &close);
				if (n < 0)
					return false;
				used = (uint32_t)n;
			}
			data += used;
			n_bytes -= used;
			if (!c->in_body)
				return true;
		}
		uint32_t n = (uint32_t)FOIL_MIN((uint64_t)n_bytes, c->body_left);
		data += n;
		n_bytes -= n;
		c->body_left -= n;
		if (c->body_left)
			return true;
		c->in_body = false;
		if (!answered(l, c, close))
			return false;
	}
	return true;
}

/* The handshake failed, or the peer said that it is over. */
static bool secure_over(struct load *l, struct load_conn *c)
{
	if (c->state != LOAD_OPENING)
		return fail(l, c, c->n_waiting ? LOAD_ERR_TLS : LOAD_ERR_CLOSED);
	secure_flush(l, c);
	l->io->close(l, c);
	error_count(l, LOAD_ERR_TLS);
	load_closed(l, c);
	return false;
}

static bool secure_bytes(struct load *l, struct load_conn *c, const char *data, uint32_t n_bytes)
{
	char plain[PLAIN_BYTES];

	load_secure_feed(c->secure, data, n_bytes);
	if (c->state == LOAD_OPENING) {
		int rc = load_secure_handshake(l, c->secure);
		if (rc < 0)
			return secure_over(l, c);
		if (rc == 0)
			return true;
		opened(l, c);
	}
	for (;;) {
		int n = load_secure_read(c->secure, plain, sizeof(plain));
		if (n < 0)
			return secure_over(l, c);
		if (n == 0)
			return true;
		if (!plain_bytes(l, c, plain, (uint32_t)n))
			return false;
	}
}

bool load_bytes(struct load *l, struct load_conn *c, const char *data, uint32_t n_bytes)
{
	if (!(c->secure ? secure_bytes(l, c, data, n_bytes) : plain_bytes(l, c, data, n_bytes)))
		return false;
	flush(l, c);
	return true;
}

static void open_some(struct load *l)
{
	bool per_request = l->conf->work == LOAD_NEWCONN && is_open_loop(l);

	while (l->closed.head && (per_request || l->n_opening < OPENING_MAX)) {
		uint64_t due = per_request ? take_due(l) : l->now_ns;
		if (!due)
			return;
		struct load_conn *c = list_take(&l->closed);
		begin_open(l, c, due);
		if (c->state == LOAD_CLOSED)
			return; /* no port, no memory: again next turn */
	}
}

static void issue_due(struct load *l)
{
	for (uint32_t i = 0; i < ISSUES_A_TURN && l->idle.head && l->conf->work != LOAD_HOLD; i++) {
		uint64_t due = take_due(l);
		if (!due)
			return;
		struct load_conn *c = list_take(&l->idle);
		issue(l, c, due);
		flush(l, c);
	}
}

/* The requests that came due since the last turn, spread over it. */
static void own_note(struct load *l)
{
	uint64_t gap_ns = l->now_ns - l->turn_ns;

	if (l->turn_ns && l->measuring && is_open_loop(l)) {
		l->own_due += (double)gap_ns / l->interval_ns;
		uint64_t n = (uint64_t)l->own_due;
		for (uint64_t i = 0; i < n; i++)
			load_hist_add(&l->own, (2 * i + 1) * gap_ns / (2 * n));
		l->own_due -= (double)n;
	}
	l->turn_ns = l->now_ns;
}

/* Everybody is connected and has had an answer: the warm-up need not go on for its whole time. */
static void settle(struct load *l)
{
	bool per_request = l->conf->work == LOAD_NEWCONN;

	if (l->n_done < l->conf->connections || (!per_request && l->n_open < l->conf->connections))
		return;
	l->is_settling = true;
	l->measure_ns = FOIL_MIN(l->measure_ns, l->now_ns + (uint64_t)(l->conf->settle_seconds * 1e9));
}

static void measure_begin(struct load *l)
{
	memset(&l->hist, 0, sizeof(l->hist));
	memset(&l->own, 0, sizeof(l->own));
	memset(&l->clear, 0, sizeof(l->clear));
	l->n_answers = 0;
	l->off_ns = 0;
	memset(l->n_errors, 0, sizeof(l->n_errors));
	l->n_done = l->n_bytes = l->n_connects = l->n_origin_requests = l->busy_ns = l->last_done = l->n_handshakes = l->n_resumed = 0;
	l->measure_ns = l->progress_ns = l->now_ns;
	l->end_ns = l->measure_ns + (uint64_t)(l->conf->seconds * 1e9);
	l->measuring = true;
	(void)puts("measure begin"); /* who measures the proxy beside us reads these lines */
	(void)fflush(stdout);
}

bool load_turn(struct load *l)
{
	l->now_ns = load_now_ns();
	own_note(l);
	if (is_open_loop(l))
		load_stretch_end(l, l->now_ns, load_clock_ns(CLOCK_THREAD_CPUTIME_ID));
	if (FOIL_UNLIKELY(!l->measuring && !l->is_settling && l->conf->settle_seconds > 0))
		settle(l);
	if (l->closed.head)
		open_some(l);
	if (is_open_loop(l))
		issue_due(l);
	if (FOIL_UNLIKELY(!l->measuring && l->now_ns >= l->measure_ns))
		measure_begin(l);
	if (FOIL_UNLIKELY(l->now_ns - l->progress_ns >= 1000000000u))
		load_progress(l);
	if (is_open_loop(l) && l->now_ns > (uint64_t)l->next_due_exact)
		l->n_overdue_max = FOIL_MAX(l->n_overdue_max, (uint64_t)(((double)l->now_ns - l->next_due_exact) / l->interval_ns));
	if (l->conf->target_port && l->n_done == 0 && !l->measuring && l->now_ns - l->start_ns > ANSWER_LIMIT_NS) {
		error_count(l, LOAD_ERR_TIMEOUT);
		l->done = true;
	}
	if (FOIL_UNLIKELY(l->measuring && l->now_ns >= l->end_ns)) {
		(void)puts("measure end");
		(void)fflush(stdout);
		l->done = true;
	}
	return !l->done;
}
