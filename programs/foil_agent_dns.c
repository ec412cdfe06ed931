/* Names among the endpoints: the resolver keeps what the snapshot needs, its answers are laid into the snapshot as patches, and people are told what stands.
 *
 * A new configuration with names that were never asked waits for their first answers before it is sent, as a new cluster of Envoy's does, though not longer
 * than WARM_MS: a change from addresses to a name must not answer 503 in between. What comes later follows as a patch under the same version.
 * Invariant: what the snapshot has of a name is what the resolver said when it was compiled or patched last. */
#include "programs/foil_agent.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "channel.pb-c.h"
#include "programs/log.h"

#define WARM_MS 2000u
#define CHANGED_MAX 1024u              /* names in one patch; the others at the next turn */
#define PATCHES_BYTES_MAX (64u << 20)  /* that patches may add to a snapshot before it is compiled anew */
#define LOGGED_PER_S_MAX 20u

/* ---- what the compiler asks ---- */

static size_t addresses(void *arg, const char *name, enum istio_name_use use, const char **out, size_t n_max)
{
	const struct agent *a = arg;
	const struct dns_name *n = dns_resolver_find(a->dns.resolver, name);
	uint32_t n_known = !n ? 0 : use == ISTIO_NAME_LAST_GOOD ? n->n_last_good : n->n_addresses;
	size_t i = 0;

	for (; i < n_known && i < n_max; i++)
		out[i] = n->addresses[i].text;
	return i;
}

/* ---- the log: an outcome that changed, at most so many lines a second ---- */

static void outcome_changed(void *arg, const struct dns_name *n, enum dns_outcome before)
{
	struct agent *a = arg;
	bool is_good = n->last == DNS_OK;

	if (is_good && before == DNS_NOT_ASKED)
		return;
	if (a->dns.turned_ms - a->dns.logged_ms >= 1000) {
		if (a->dns.n_logged > LOGGED_PER_S_MAX)
			log_line(LOG_LEVEL_WARNING, "dns.more", "%u more names changed their state in that second", a->dns.n_logged - LOGGED_PER_S_MAX);
		a->dns.logged_ms = a->dns.turned_ms;
		a->dns.n_logged = 0;
	}
	if (a->dns.n_logged++ >= LOGGED_PER_S_MAX)
		return;
	if (is_good)
		log_line(LOG_LEVEL_NOTICE, "dns.good", "%s has addresses again: %u", n->name, n->n_addresses);
	else
		log_line(LOG_LEVEL_WARNING, "dns.failed", "%s: %s%s%s; %u addresses of before stay", n->name, dns_outcome_word(n->last),
			 n->error[0] ? ": " : "", n->error, n->n_addresses);
}

/* ---- hosts that requests name ---- */

static bool address_bytes(const char *text, uint8_t ip[16])
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

	memcpy(ip, mapped, sizeof(mapped));
	return inet_pton(AF_INET, text, ip + sizeof(mapped)) == 1 || inet_pton(AF_INET6, text, ip) == 1;
}

static void answered_once(void *arg, const char *name, enum dns_outcome outcome, const struct dns_address *addresses, uint32_t n_addresses, uint32_t ttl_s)
{
	const struct agent *a = arg;
	struct ring_name_answer m = {.outcome = FOIL__CONF__NAME_OUTCOME__NAME_FAILED, .ttl_s = ttl_s};

	(void)snprintf(m.name, sizeof(m.name), "%s", name); /* it came from there, and fits */
	for (uint32_t i = 0; i < n_addresses && m.n_addresses < RING_NAME_ADDRESSES_MAX; i++)
		m.n_addresses += address_bytes(addresses[i].text, m.ip[m.n_addresses]);
	if (m.n_addresses)
		m.outcome = FOIL__CONF__NAME_OUTCOME__NAME_FOUND;
	else if (outcome == DNS_EMPTY || outcome == DNS_NO_NAME)
		m.outcome = FOIL__CONF__NAME_OUTCOME__NAME_NONE;
	ring_sender_answer(a->sender, &m);
}

void agent_dns_question(void *arg, const char *name)
{
	const struct agent *a = arg;

	dns_resolver_ask_once(a->dns.resolver, name, agent_now_ms());
}

/* ---- start and end ---- */

int agent_dns_open(struct agent *a, struct foil_error *err)
{
	const char *why = NULL;
	const struct dns_params p = {.servers = a->options.dns_servers, .resolv_conf = a->options.resolv_conf, .arg = a, .changed = outcome_changed,
				     .once = answered_once};

	a->dns.resolver = dns_resolver_new(&p, &why);
	if (!a->dns.resolver)
		return foil_error_set(err, -EINVAL, "the resolver does not start: %s; --dns-servers takes IP[:PORT],…", why);
	a->dns.names = (struct istio_names){.arg = a, .addresses = addresses};
	return 0;
}

void agent_dns_close(struct agent *a)
{
	dns_resolver_free(a->dns.resolver);
	a->dns.resolver = NULL;
}

/* ---- which names ---- */

static bool any_of_family(char *const *list, size_t n, bool is_v6)
{
	for (size_t i = 0; i < n; i++)
		if ((strchr(list[i], ':') != NULL) == is_v6)
			return true;
	return false;
}

static bool node_has_family(const Foil__Conf__NodeHello *hello, bool is_v6)
{
	for (size_t i = 0; i < hello->n_gateways; i++)
		if (any_of_family(hello->gateways[i]->addresses, hello->gateways[i]->n_addresses, is_v6))
			return true;
	return any_of_family(hello->service_cidrs, hello->n_service_cidrs, is_v6);
}

/* As istiod takes it from the proxy's addresses: what the node has none of it cannot reach. */
static enum dns_family family_of(const struct agent *a)
{
	bool v4 = node_has_family(a->hello, false), v6 = node_has_family(a->hello, true);

	return v4 == v6 ? DNS_FAMILY_ALL : v4 ? DNS_FAMILY_V4 : DNS_FAMILY_V6;
}

void agent_dns_want(struct agent *a)
{
	const struct istio_snapshot *s = a->snapshot;
	uint64_t now_ms = agent_now_ms();

	if (dns_resolver_want(a->dns.resolver, s->names, s->n_names, family_of(a), s->dns_refresh_us / 1000, now_ms) < 0)
		log_line(LOG_LEVEL_ERROR, "dns.memory", "no memory for %zu names: some of them get no addresses", s->n_names);
	if (s->n_names > DNS_NAMES_MAX)
		log_line(LOG_LEVEL_ERROR, "dns.names", "%zu names, of which %u are resolved", s->n_names, DNS_NAMES_MAX);
	a->dns.base_bytes = istio_snapshot_memory_bytes(s);
	a->dns.is_held = false;
	dns_resolver_turn(a->dns.resolver, now_ms); /* the hosts file may say it at once */
	if (dns_resolver_n_unanswered(a->dns.resolver) == 0)
		return;
	a->dns.is_held = true;
	a->dns.held_until_ms = now_ms + WARM_MS;
}

/* ---- what changed ---- */

/* Patches add to the snapshot's memory: a compile of the same model gives it back. */
static void compact(struct agent *a)
{
	if (istio_snapshot_memory_bytes(a->snapshot) - a->dns.base_bytes < PATCHES_BYTES_MAX || a->n_patches)
		return; /* with patches of files the whole reading is near */
	agent_config_compact(a);
	a->dns.base_bytes = istio_snapshot_memory_bytes(a->snapshot);
}

static void lay_in(struct agent *a, const char *const *names, size_t n_names)
{
	const struct istio_resource *changed = NULL;
	size_t n_changed = 0;

	int rc = istio_patch_names(a->snapshot, a->node, names, n_names, &changed, &n_changed);
	if (rc < 0) {
		log_line(LOG_LEVEL_ERROR, "dns.memory", "no memory for new addresses: everything is read anew");
		agent_config_read(a);
		return;
	}
	a->dns.n_patches += n_changed > 0;
	if (n_changed && !a->dns.is_held && agent_config_send_changed(a, changed, n_changed) < 0)
		log_line(LOG_LEVEL_ERROR, "dns.memory", "no memory for sending new addresses");
	compact(a);
}

void agent_dns_turn(struct agent *a, uint64_t now_ms)
{
	const char *names[CHANGED_MAX];

	a->dns.turned_ms = now_ms;
	dns_resolver_turn(a->dns.resolver, now_ms);
	if (!a->snapshot || !a->node)
		return;
	size_t n = dns_resolver_take_changed(a->dns.resolver, names, CHANGED_MAX);
	if (n)
		lay_in(a, names, n);
	if (!a->dns.is_held || (dns_resolver_n_unanswered(a->dns.resolver) && now_ms < a->dns.held_until_ms))
		return;
	a->dns.is_held = false;
	agent_config_send_held(a);
}

/* ---- what people see ---- */

static void one_name(struct adm_reply *r, const struct dns_name *n, bool is_text, uint64_t now_ms)
{
	long long next_s = n->next_ms > now_ms ? (long long)((n->next_ms - now_ms + 999) / 1000) : 0;
	long long age_s = n->answered_ms ? (long long)((now_ms - n->answered_ms) / 1000) : -1;

	if (is_text)
		adm_reply_printf(r, "%-9s ttl %-6u age %-6lld next %-6lld failures %-4llu %s ", dns_outcome_word(n->last), n->ttl_s, age_s, next_s,
				 (unsigned long long)n->n_failures, n->name);
	else
		adm_reply_printf(r, "{\"name\": \"%s\", \"state\": \"%s\", \"ttl_s\": %u, \"age_s\": %lld, \"next_s\": %lld, \"questions\": %llu, "
				 "\"failures\": %llu, \"addresses\": [", n->name, dns_outcome_word(n->last), n->ttl_s, age_s, next_s,
				 (unsigned long long)n->n_questions, (unsigned long long)n->n_failures); /* a name has no byte that JSON escapes but " */
	for (uint32_t i = 0; i < n->n_addresses; i++)
		adm_reply_printf(r, is_text ? "%s%s" : "%s\"%s\"", i == 0 ? "" : is_text ? "," : ", ", n->addresses[i].text);
	if (is_text) {
		adm_reply_printf(r, "%s%s\n", n->error[0] ? "  " : "", n->error);
		return;
	}
	adm_reply_printf(r, "], \"last_good\": %u, \"error\": ", n->n_last_good);
	adm_reply_json_str(r, n->error);
	adm_reply_printf(r, "}");
}

void agent_dns_page(void *arg, const struct adm_request *q, struct adm_reply *r)
{
	const struct agent *a = arg;
	bool is_text = foil_slice_eq(q->query, FOIL_SLICE("text"));
	uint64_t now_ms = agent_now_ms();

	if (!is_text) {
		adm_reply_type(r, "application/json");
		adm_reply_printf(r, "[");
	}
	for (size_t i = 0; i < dns_resolver_n(a->dns.resolver); i++) {
		if (i && !is_text)
			adm_reply_printf(r, ",\n ");
		one_name(r, dns_resolver_at(a->dns.resolver, i), is_text, now_ms);
	}
	if (!is_text)
		adm_reply_printf(r, "]\n");
}

void agent_dns_metrics(struct agent *a, struct adm_prometheus *p)
{
	struct dns_counters n = dns_resolver_counters(a->dns.resolver);
	size_t n_without = 0;

	for (size_t i = 0; i < dns_resolver_n(a->dns.resolver); i++)
		n_without += dns_resolver_at(a->dns.resolver, i)->n_addresses == 0;
	adm_prometheus_gauge(p, "foil_agent_dns_names", "Names that endpoints need the addresses of", NULL, NULL, (int64_t)dns_resolver_n(a->dns.resolver));
	adm_prometheus_gauge(p, "foil_agent_dns_names_without_address", "Those of them that have no address now", NULL, NULL, (int64_t)n_without);
	adm_prometheus_counter(p, "foil_agent_dns_questions_total", "Questions about names", NULL, NULL, n.n_questions);
	for (unsigned int o = DNS_OK; o < DNS_OUTCOMES; o++)
		adm_prometheus_counter(p, "foil_agent_dns_answers_total", "Answers about names, by what they said", "outcome",
				       dns_outcome_word((enum dns_outcome)o), n.n_answers[o]);
	adm_prometheus_counter(p, "foil_agent_dns_requested_names_total", "Questions about hosts that requests name (DYNAMIC_DNS)", NULL, NULL, n.n_once);
	adm_prometheus_counter(p, "foil_agent_dns_requested_names_lost_total", "The same, for which there was no room", NULL, NULL, n.n_once_lost);
	adm_prometheus_counter(p, "foil_agent_dns_changes_total", "Answers with other addresses than before", NULL, NULL, n.n_changes);
	adm_prometheus_counter(p, "foil_agent_dns_patches_total", "Changes of addresses sent to the data plane", NULL, NULL, a->dns.n_patches);
	adm_prometheus_counter(p, "foil_agent_dns_left_out_addresses_total", "Addresses beyond what one name may have", NULL, NULL, n.n_left_out);
	adm_prometheus_counter(p, "foil_agent_dns_unusable_addresses_total", "Addresses that no endpoint can have: loopback, multicast, unspecified", NULL,
			       NULL, n.n_unusable);
	adm_prometheus_counter(p, "foil_agent_dns_restarts_total", "Times that the resolver began anew: resolv.conf changed", NULL, NULL, n.n_restarts);
}
