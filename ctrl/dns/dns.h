/* Addresses of names: the agent's resolver (features.md SE-3, SE-4, SRC-12). It keeps a set of names resolved, each again when its TTL is over, and says
 * which of them have other addresses than before. What a name server answers is a stranger's word: c-ares parses it, and here it is bounded, freed of what
 * no endpoint can have, and counted.
 *
 * The rules are those of Envoy 1.40's DNS clusters as istiod configures them, asked of an Envoy: the TTL of a good answer is honoured; after a TTL of 0, no
 * answer, an answer without addresses and a name that does not exist the name is asked again after the refresh rate (MeshConfig dnsRefreshRate). No answer
 * (timeout, SERVFAIL, REFUSED, what cannot be parsed) keeps the addresses of before; the authority's word that there are none (NXDOMAIN, an empty answer)
 * takes them away, but from DNS_ROUND_ROBIN, which goes on with the last good ones. Sooner than Envoy: a name that never had an address is asked again after
 * a second, doubling to the refresh rate, when no server answered, so that a node that starts before its network does not wait a minute.
 *
 * Single-threaded, inside the owner's loop; nothing here waits. Times are the owner's monotonic milliseconds. */
#pragma once

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DNS_NAMES_MAX 65536u
#define DNS_ADDRESSES_MAX 256u   /* of one name: more are left out */
#define DNS_IN_FLIGHT_MAX 64u    /* questions at once; the others wait */
#define DNS_ONCE_IN_FLIGHT_MAX 64u /* of names that are asked for once: they never hold the others up */
#define DNS_ONCE_WAITING_MAX 1024u
#define DNS_FDS_MAX 16u
#define DNS_REFRESH_MS 60000u    /* Istio's default */
#define DNS_TTL_MAX_S 86400u     /* a longer one counts as that: what never comes back is never mended */
#define DNS_ERROR_BYTES 96

enum dns_family { DNS_FAMILY_V4, DNS_FAMILY_V6, DNS_FAMILY_ALL };
enum dns_outcome {
	DNS_NOT_ASKED, /* or no answer came yet */
	DNS_OK,
	DNS_EMPTY,     /* the name exists, without addresses that can be used */
	DNS_NO_NAME,   /* NXDOMAIN */
	DNS_TIMEOUT,
	DNS_FAILED,    /* SERVFAIL, REFUSED, no server, what is no answer */
	DNS_OUTCOMES
};
const char *dns_outcome_word(enum dns_outcome o); /* "ok", "empty", "no_name" … */

struct dns_address {
	char text[46];
};

/* One name as it stands; valid until the next call that is not a question about names. */
struct dns_name {
	const char *name;
	const struct dns_address *addresses; /* of the newest answer that had any: in its order, IPv4 first; each once */
	uint32_t n_addresses;      /* that are good now: all of them, or none where the newest answer says so */
	uint32_t n_last_good;      /* of that array */
	uint32_t ttl_s;            /* of the newest good answer */
	uint64_t answered_ms;      /* when that came; 0: never */
	uint64_t next_ms;          /* when it is asked again; 0: it is being asked */
	uint64_t n_questions, n_failures; /* failures: since the last good answer */
	enum dns_outcome last;
	char error[DNS_ERROR_BYTES]; /* of the newest answer, "" = it was good */
};

struct dns_counters {
	uint64_t n_questions, n_answers[DNS_OUTCOMES], n_changes;
	uint64_t n_left_out;   /* addresses beyond DNS_ADDRESSES_MAX */
	uint64_t n_unusable;   /* addresses that no endpoint can have: loopback, multicast, unspecified */
	uint64_t n_once, n_once_lost; /* names asked for once; those for which there was no room */
	uint64_t n_restarts;   /* of the channel: resolv.conf changed, or its sockets broke */
};

struct dns_params {
	const char *servers;      /* "IP[:PORT],…", NULL: those of resolv_conf */
	const char *resolv_conf;  /* NULL: /etc/resolv.conf. Read again when it changes */
	uint32_t timeout_ms, n_tries; /* of one server, doubling with each round; 0: 2000, 3 */
	void *arg;
	/* The outcome of a name became another one; for the log. May be NULL. */
	void (*changed)(void *arg, const struct dns_name *n, enum dns_outcome before);
	/* The answer about a name that was asked for once; addresses are borrowed, and there are none unless it is DNS_OK. NULL: none ever is. */
	void (*once)(void *arg, const char *name, enum dns_outcome outcome, const struct dns_address *addresses, uint32_t n_addresses, uint32_t ttl_s);
};

struct dns_resolver;

/* NULL: no memory, or servers is no list of addresses; *why says it. */
struct dns_resolver *dns_resolver_new(const struct dns_params *p, const char **why);
void dns_resolver_free(struct dns_resolver *own_r);
/* These names from now on, in any order, copied; others are forgotten. A name that stays keeps what is known of it, unless the family changed. Names that
 * no DNS name can be are left out (they never get addresses). 0 or -ENOMEM (then some may be missing). */
int dns_resolver_want(struct dns_resolver *r, const char *const *names, size_t n_names, enum dns_family family, uint64_t refresh_ms, uint64_t now_ms);
/* Asks for a name whose addresses nobody keeps: once of the parameters hears them, perhaps from inside this call. A name that is being asked for already is
 * not asked for twice, and has one answer. Beyond DNS_ONCE_WAITING_MAX names the question is lost. */
void dns_resolver_ask_once(struct dns_resolver *r, const char *name, uint64_t now_ms);
/* Asks what is due, takes answers. Call it when one of its descriptors is ready and at least every 100 ms. */
void dns_resolver_turn(struct dns_resolver *r, uint64_t now_ms);
unsigned int dns_resolver_fds(struct dns_resolver *r, struct pollfd out[DNS_FDS_MAX]);
/* Names whose addresses are others than when they were taken last; up to n_max, and how many. They count as taken. Borrowed until dns_resolver_want. */
size_t dns_resolver_take_changed(struct dns_resolver *r, const char **names, size_t n_max);
/* Names that were asked for and whose first answer is not there yet. */
size_t dns_resolver_n_unanswered(const struct dns_resolver *r);
/* NULL: it is not wanted. */
const struct dns_name *dns_resolver_find(const struct dns_resolver *r, const char *name);
size_t dns_resolver_n(const struct dns_resolver *r);
const struct dns_name *dns_resolver_at(const struct dns_resolver *r, size_t i);
struct dns_counters dns_resolver_counters(const struct dns_resolver *r);
