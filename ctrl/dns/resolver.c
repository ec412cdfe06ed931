/* When which name is asked, and what is kept of it. c-ares does the asking: servers of resolv.conf, the hosts file first, EDNS, TCP after a cut answer,
 * random ids and ports. No search domains: a name in the configuration is the whole name.
 *
 * Invariant: a name is in order[] exactly once, in names' slots exactly once, and is_asked from the question until its answer; an answer is matched to its
 * name by the slot and generation that the question carried, so a name that is forgotten meanwhile gets nobody else's answer. */
#include "ctrl/dns/dns_priv.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#define RESOLV_CONF "/etc/resolv.conf"
#define LOOK_MS 2000u         /* how often resolv.conf is looked at */
#define TTL_MIN_MS 1000u      /* features.md SE-4 */
#define TIMEOUT_MS 2000u
#define TRIES 3u
#define SOON_DOUBLINGS 16u    /* of TTL_MIN_MS, for a name that never had an address */
#define EDNS_BYTES 1232       /* fits every path: DNS flag day 2020 */
#define SPREAD_PERCENT 10u    /* names that were asked together are not asked together for ever */

struct entry {
	struct dns_name shown;
	char *name;
	struct dns_address *addresses;
	uint64_t asked_generation; /* 0: not being asked */
	bool is_wanted, is_changed;
};

struct once {
	struct once *next;
	bool is_asked;
	char name[]; /* askable */
};

struct question {
	struct dns_resolver *r;
	struct once *once; /* not NULL: its, and name and generation are nothing */
	char *name;
	uint64_t generation;
};

struct dns_resolver {
	struct dns_params p;
	char *servers, *resolv_conf;
	ares_channel channel; /* NULL: could not be made; tried again */
	struct entry **entries; /* by name */
	size_t n_entries, n_room;
	enum dns_family family;
	uint64_t refresh_ms, now_ms, looked_ms, generation;
	struct stat conf_seen;
	size_t n_in_flight, n_unanswered;
	struct once *onces;    /* oldest first */
	size_t n_onces, n_once_in_flight;
	uint64_t earliest_ms;  /* no name is due before */
	uint32_t chance;       /* for spreading refreshes: no secret */
	struct dns_answer answer; /* scratch */
	struct dns_counters n;
};

const char *dns_outcome_word(enum dns_outcome o)
{
	static const char *const words[DNS_OUTCOMES] = {"not_asked", "ok", "empty", "no_name", "timeout", "failed"};
	return words[o];
}

/* ---- the channel ---- */

static int open_channel(struct dns_resolver *r, const char **why)
{
	static char hosts_first[] = "fb";
	struct ares_options o = {.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_EDNS | ARES_FLAG_NOALIASES, .timeout = (int)(r->p.timeout_ms ? r->p.timeout_ms
		: TIMEOUT_MS), .tries = (int)(r->p.n_tries ? r->p.n_tries : TRIES), .ednspsz = EDNS_BYTES, .lookups = hosts_first,
		.resolvconf_path = r->resolv_conf};
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_EDNSPSZ | ARES_OPT_LOOKUPS | ARES_OPT_RESOLVCONF;
	int rc = ares_init_options(&r->channel, &o, mask);

	if (rc == ARES_SUCCESS && r->servers)
		rc = ares_set_servers_ports_csv(r->channel, r->servers);
	if (rc == ARES_SUCCESS)
		return 0;
	*why = ares_strerror(rc);
	if (r->channel)
		ares_destroy(r->channel);
	r->channel = NULL;
	return -EINVAL;
}

static void look_at_conf(struct dns_resolver *r, struct stat *out)
{
	*out = (struct stat){0};
	if (stat(r->resolv_conf, out) < 0)
		*out = (struct stat){0}; /* it is not there: a state like any other */
}

/* Questions in flight end with ARES_EDESTRUCTION and are asked again at once. */
static void restart(struct dns_resolver *r)
{
	const char *why;

	if (r->channel)
		ares_destroy(r->channel);
	r->channel = NULL;
	r->n.n_restarts++;
	look_at_conf(r, &r->conf_seen);
	(void)open_channel(r, &why); /* again at the next look */
}

static void follow_conf(struct dns_resolver *r)
{
	struct stat now;

	if (r->now_ms - r->looked_ms < LOOK_MS)
		return;
	r->looked_ms = r->now_ms;
	look_at_conf(r, &now);
	bool is_same = now.st_ino == r->conf_seen.st_ino && now.st_size == r->conf_seen.st_size && now.st_mtim.tv_sec == r->conf_seen.st_mtim.tv_sec &&
		       now.st_mtim.tv_nsec == r->conf_seen.st_mtim.tv_nsec;
	if (!r->channel || (!is_same && !r->servers))
		restart(r);
}

struct dns_resolver *dns_resolver_new(const struct dns_params *p, const char **why)
{
	struct dns_resolver *r = calloc(1, sizeof(*r));

	*why = "no memory";
	if (!r || ares_library_init(ARES_LIB_INIT_ALL) != ARES_SUCCESS) {
		free(r);
		return NULL;
	}
	r->p = *p;
	r->resolv_conf = strdup(p->resolv_conf ? p->resolv_conf : RESOLV_CONF);
	r->servers = p->servers ? strdup(p->servers) : NULL;
	r->refresh_ms = DNS_REFRESH_MS;
	r->chance = 0x9e3779b9u;
	if (!r->resolv_conf || (p->servers && !r->servers) || open_channel(r, why) < 0) {
		dns_resolver_free(r);
		return NULL;
	}
	look_at_conf(r, &r->conf_seen);
	return r;
}

static void entry_free(struct entry *e)
{
	if (!e)
		return;
	free(e->addresses);
	free(e->name);
	free(e);
}

void dns_resolver_free(struct dns_resolver *r)
{
	if (!r)
		return;
	if (r->channel)
		ares_destroy(r->channel);
	for (size_t i = 0; i < r->n_entries; i++)
		entry_free(r->entries[i]);
	for (struct once *o = r->onces, *next; o; o = next) {
		next = o->next;
		free(o);
	}
	free(r->entries);
	free(r->servers);
	free(r->resolv_conf);
	free(r);
	ares_library_cleanup();
}

/* ---- names ---- */

static struct entry *find(const struct dns_resolver *r, const char *name, size_t *at)
{
	size_t low = 0, high = r->n_entries;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int by = strcmp(r->entries[middle]->name, name);
		if (by == 0) {
			*at = middle;
			return r->entries[middle];
		}
		if (by < 0)
			low = middle + 1;
		else
			high = middle;
	}
	*at = low;
	return NULL;
}

static int by_name(const void *x, const void *y)
{
	return strcmp((*(struct entry *const *)x)->name, (*(struct entry *const *)y)->name);
}

static struct entry *entry_new(const char *name)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e || !(e->name = strdup(name))) {
		free(e);
		return NULL;
	}
	e->shown.name = e->name;
	return e;
}

/* Behind those that are in order; sorted in when all are there. */
static int append(struct dns_resolver *r, const char *name)
{
	if (r->n_entries == r->n_room) {
		size_t room = r->n_room ? r->n_room * 2 : 64;
		struct entry **more = realloc(r->entries, room * sizeof(struct entry *));
		if (!more)
			return -ENOMEM;
		r->entries = more;
		r->n_room = room;
	}
	struct entry *e = entry_new(name);
	if (!e)
		return -ENOMEM;
	e->is_wanted = true;
	r->entries[r->n_entries++] = e;
	return 0;
}

static void forget_unwanted(struct dns_resolver *r)
{
	size_t n = 0;

	r->n_unanswered = 0;
	for (size_t i = 0; i < r->n_entries; i++) {
		struct entry *e = r->entries[i];
		if (!e->is_wanted || (n && strcmp(r->entries[n - 1]->name, e->name) == 0)) {
			entry_free(e); /* its answer finds no name */
			continue;
		}
		r->n_unanswered += e->shown.last == DNS_NOT_ASKED;
		r->entries[n++] = e;
	}
	r->n_entries = n;
}

int dns_resolver_want(struct dns_resolver *r, const char *const *names, size_t n_names, enum dns_family family, uint64_t refresh_ms, uint64_t now_ms)
{
	size_t n_before = r->n_entries, n_asked = 0, at;
	int rc = 0;

	r->now_ms = now_ms;
	r->refresh_ms = refresh_ms ? refresh_ms : DNS_REFRESH_MS;
	for (size_t i = 0; i < n_before; i++) {
		r->entries[i]->is_wanted = false;
		if (family != r->family) { /* ask at once; what is known serves until then */
			r->entries[i]->shown.next_ms = 1;
			r->entries[i]->asked_generation = 0;
		}
	}
	r->family = family;
	for (size_t i = 0; i < n_names && rc == 0 && n_asked < DNS_NAMES_MAX; i++) {
		size_t n_all = r->n_entries;
		if (!dns_is_askable(names[i]))
			continue;
		n_asked++;
		r->n_entries = n_before; /* only these are in order */
		struct entry *e = find(r, names[i], &at);
		r->n_entries = n_all;
		if (e)
			e->is_wanted = true;
		else
			rc = append(r, names[i]);
	}
	if (r->n_entries > 1)
		qsort(r->entries, r->n_entries, sizeof(struct entry *), by_name);
	forget_unwanted(r);
	r->earliest_ms = 0;
	return rc;
}

/* ---- answers ---- */

static uint64_t spread(struct dns_resolver *r, uint64_t ms)
{
	r->chance = r->chance * 1664525u + 1013904223u; /* Numerical Recipes' */
	return ms + ms * SPREAD_PERCENT / 100u * (r->chance >> 16) / 65536u;
}

static uint64_t pause_ms(struct dns_resolver *r, const struct entry *e, const struct dns_answer *a)
{
	uint64_t ttl_ms = a->ttl_s * 1000ull;

	if (a->outcome == DNS_OK && ttl_ms)
		return ttl_ms < TTL_MIN_MS ? TTL_MIN_MS : ttl_ms; /* not later than it was allowed */
	if (e->shown.n_last_good == 0 && (a->outcome == DNS_TIMEOUT || a->outcome == DNS_FAILED) && e->shown.n_failures <= SOON_DOUBLINGS &&
	    TTL_MIN_MS << (e->shown.n_failures - 1) < r->refresh_ms)
		return TTL_MIN_MS << (e->shown.n_failures - 1);
	return spread(r, r->refresh_ms);
}

static bool is_same(const struct entry *e, const struct dns_answer *a)
{
	return e->shown.n_addresses == a->n_addresses &&
	       (a->n_addresses == 0 || memcmp(e->addresses, a->addresses, a->n_addresses * sizeof(a->addresses[0])) == 0);
}

static void use_addresses(struct dns_resolver *r, struct entry *e, const struct dns_answer *a)
{
	if (is_same(e, a))
		return;
	e->is_changed = true;
	r->n.n_changes++;
	e->shown.n_addresses = 0;
	if (a->n_addresses == 0)
		return; /* the last good ones stay beside it */
	struct dns_address *fresh = malloc(a->n_addresses * sizeof(*fresh));
	if (!fresh) {
		e->shown.n_addresses = e->shown.n_last_good; /* those of before serve until the next answer */
		return;
	}
	memcpy(fresh, a->addresses, a->n_addresses * sizeof(*fresh));
	free(e->addresses);
	e->addresses = fresh;
	e->shown.addresses = fresh;
	e->shown.n_addresses = e->shown.n_last_good = a->n_addresses;
}

static void take_answer(struct dns_resolver *r, struct entry *e, const struct dns_answer *a)
{
	enum dns_outcome before = e->shown.last;

	r->n.n_answers[a->outcome]++;
	r->n.n_left_out += a->n_left_out;
	r->n.n_unusable += a->n_unusable;
	r->n_unanswered -= before == DNS_NOT_ASKED;
	e->shown.last = a->outcome;
	e->shown.n_failures = a->outcome == DNS_OK ? 0 : e->shown.n_failures + 1;
	memcpy(e->shown.error, a->error, sizeof(e->shown.error));
	if (a->outcome == DNS_OK) {
		e->shown.ttl_s = a->ttl_s;
		e->shown.answered_ms = r->now_ms ? r->now_ms : 1;
	}
	if (a->outcome == DNS_OK || a->outcome == DNS_EMPTY || a->outcome == DNS_NO_NAME)
		use_addresses(r, e, a);
	e->shown.next_ms = r->now_ms + pause_ms(r, e, a);
	if (e->shown.next_ms < r->earliest_ms)
		r->earliest_ms = e->shown.next_ms;
	if (before != a->outcome && r->p.changed)
		r->p.changed(r->p.arg, &e->shown, before);
}

static void answered(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct question *q = arg;
	struct dns_resolver *r = q->r;
	size_t at;
	struct entry *e = find(r, q->name, &at);

	(void)timeouts;
	r->n_in_flight--;
	r->earliest_ms = 0; /* another may be asked now */
	if (e && e->asked_generation == q->generation) {
		e->asked_generation = 0;
		if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
			e->shown.next_ms = 1; /* at once, of the next channel */
		} else {
			dns_answer_read(status, info, &r->answer);
			take_answer(r, e, &r->answer);
		}
	}
	if (info)
		ares_freeaddrinfo(info);
	free(q->name);
	free(q);
}

/* ---- questions ---- */

static int family_of(enum dns_family f)
{
	return f == DNS_FAMILY_V4 ? AF_INET : f == DNS_FAMILY_V6 ? AF_INET6 : AF_UNSPEC;
}

/* The answer may come from inside: of the hosts file, say. */
static void ask(struct dns_resolver *r, struct entry *e)
{
	const struct ares_addrinfo_hints hints = {.ai_family = family_of(r->family), .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT | ARES_AI_ENVHOSTS};
	struct question *q = calloc(1, sizeof(*q));

	if (!q || !(q->name = strdup(e->name))) {
		free(q);
		e->shown.next_ms = r->now_ms + TTL_MIN_MS;
		return;
	}
	q->r = r;
	q->generation = e->asked_generation = ++r->generation;
	e->shown.next_ms = 0;
	e->shown.n_questions++;
	r->n.n_questions++;
	r->n_in_flight++;
	ares_getaddrinfo(r->channel, e->name, NULL, &hints, answered, q);
}

static void ask_due(struct dns_resolver *r)
{
	uint64_t earliest_ms = UINT64_MAX;

	if (!r->channel || r->now_ms < r->earliest_ms)
		return;
	for (size_t i = 0; i < r->n_entries; i++) {
		struct entry *e = r->entries[i];
		if (e->asked_generation)
			continue;
		if (e->shown.next_ms <= r->now_ms && r->n_in_flight < DNS_IN_FLIGHT_MAX)
			ask(r, e);
		if (!e->asked_generation && e->shown.next_ms < earliest_ms)
			earliest_ms = e->shown.next_ms;
	}
	r->earliest_ms = earliest_ms;
}

/* ---- names that are asked for once ---- */

static void once_remove(struct dns_resolver *r, struct once *o)
{
	struct once **at = &r->onces;

	while (*at != o)
		at = &(*at)->next;
	*at = o->next;
	r->n_onces--;
	free(o);
}

static void once_answered(void *arg, int status, int timeouts, struct ares_addrinfo *info)
{
	struct question *q = arg;
	struct dns_resolver *r = q->r;
	struct once *o = q->once;
	const struct dns_answer *a = &r->answer;

	(void)timeouts;
	free(q);
	r->n_once_in_flight--;
	o->is_asked = false;
	if (status == ARES_EDESTRUCTION || status == ARES_ECANCELLED) {
		if (info)
			ares_freeaddrinfo(info);
		return; /* it is asked of the next channel, or freed with the resolver */
	}
	dns_answer_read(status, info, &r->answer);
	if (info)
		ares_freeaddrinfo(info);
	r->n.n_answers[a->outcome]++;
	r->n.n_left_out += a->n_left_out;
	r->n.n_unusable += a->n_unusable;
	r->p.once(r->p.arg, o->name, a->outcome, a->addresses, a->n_addresses, a->ttl_s);
	once_remove(r, o);
}

static void once_ask(struct dns_resolver *r, struct once *o)
{
	const struct ares_addrinfo_hints hints = {.ai_family = family_of(r->family), .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NOSORT};
	struct question *q = calloc(1, sizeof(*q));

	if (!q)
		return; /* again at the next turn */
	q->r = r;
	q->once = o;
	o->is_asked = true;
	r->n.n_questions++;
	r->n_once_in_flight++;
	ares_getaddrinfo(r->channel, o->name, NULL, &hints, once_answered, q);
}

static void once_ask_all(struct dns_resolver *r)
{
	for (struct once *o = r->onces, *next; o && r->channel && r->n_once_in_flight < DNS_ONCE_IN_FLIGHT_MAX; o = next) {
		next = o->next; /* an answer from inside frees this one alone */
		if (!o->is_asked)
			once_ask(r, o);
	}
}

void dns_resolver_ask_once(struct dns_resolver *r, const char *name, uint64_t now_ms)
{
	struct once **at = &r->onces;
	size_t n = strlen(name) + 1;

	r->now_ms = now_ms;
	for (; *at; at = &(*at)->next)
		if (strcmp((*at)->name, name) == 0)
			return;
	struct once *o = r->p.once && r->n_onces < DNS_ONCE_WAITING_MAX && dns_is_askable(name) ? calloc(1, sizeof(*o) + n) : NULL;
	if (!o) {
		r->n.n_once_lost++;
		return;
	}
	memcpy(o->name, name, n);
	*at = o;
	r->n_onces++;
	r->n.n_once++;
	once_ask_all(r);
}

static void take_packets(struct dns_resolver *r)
{
	struct pollfd fds[DNS_FDS_MAX];
	unsigned int n = dns_resolver_fds(r, fds);

	if (n && poll(fds, n, 0) > 0)
		for (unsigned int i = 0; i < n && r->channel; i++)
			if (fds[i].revents)
				ares_process_fd(r->channel, fds[i].revents & (POLLIN | POLLERR | POLLHUP) ? fds[i].fd : ARES_SOCKET_BAD,
						fds[i].revents & POLLOUT ? fds[i].fd : ARES_SOCKET_BAD);
	if (r->channel)
		ares_process_fd(r->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD); /* its time limits */
}

void dns_resolver_turn(struct dns_resolver *r, uint64_t now_ms)
{
	r->now_ms = now_ms;
	if (r->n_entries == 0 && r->n_in_flight == 0 && r->n_onces == 0)
		return;
	follow_conf(r);
	take_packets(r);
	ask_due(r);
	once_ask_all(r);
}

unsigned int dns_resolver_fds(struct dns_resolver *r, struct pollfd out[DNS_FDS_MAX])
{
	ares_socket_t socks[ARES_GETSOCK_MAXNUM];
	unsigned int n = 0;

	if (!r->channel)
		return 0;
	unsigned int mask = (unsigned int)ares_getsock(r->channel, socks, ARES_GETSOCK_MAXNUM);
	for (unsigned int i = 0; i < ARES_GETSOCK_MAXNUM && n < DNS_FDS_MAX; i++) {
		bool reads = mask >> i & 1u, writes = mask >> (i + ARES_GETSOCK_MAXNUM) & 1u; /* c-ares' macros shift into the sign */
		short events = (short)((reads ? POLLIN : 0) | (writes ? POLLOUT : 0));
		if (events)
			out[n++] = (struct pollfd){.fd = socks[i], .events = events};
	}
	return n;
}

/* ---- what stands ---- */

size_t dns_resolver_take_changed(struct dns_resolver *r, const char **names, size_t n_max)
{
	size_t n = 0;

	for (size_t i = 0; i < r->n_entries && n < n_max; i++) {
		if (!r->entries[i]->is_changed)
			continue;
		r->entries[i]->is_changed = false;
		names[n++] = r->entries[i]->name;
	}
	return n;
}

size_t dns_resolver_n_unanswered(const struct dns_resolver *r)
{
	return r->n_unanswered;
}

const struct dns_name *dns_resolver_find(const struct dns_resolver *r, const char *name)
{
	size_t at;
	const struct entry *e = find(r, name, &at);

	return e ? &e->shown : NULL;
}

size_t dns_resolver_n(const struct dns_resolver *r)
{
	return r->n_entries;
}

const struct dns_name *dns_resolver_at(const struct dns_resolver *r, size_t i)
{
	return i < r->n_entries ? &r->entries[i]->shown : NULL;
}

struct dns_counters dns_resolver_counters(const struct dns_resolver *r)
{
	return r->n;
}
