/* Load balancers compiled, see balancing.h. The rules of localities are istiod's (networking/core/loadbalancer): a priority for each endpoint from how far
 * it is, then compressed so that none is left out; or weights by distribute, where what is not named gets nothing. Where the node has no locality, or
 * outlier detection is not there, localities do not matter. */
#include "ctrl/istio/balancing.h"

#include <stdlib.h>
#include <string.h>

#define PRIORITIES_OF_LOCALITY 5 /* subzone, zone, region, region of failover, elsewhere */
#define PRIORITY_ELSEWHERE 3
#define PRIORITY_NOT_FAILOVER 4
#define LOCALITIES_MAX 256  /* of weights */

static char *word(const char *text)
{
	return (char *)(uintptr_t)text; /* protobuf-c's structs want it writable; they are only packed */
}

/* ---- the cluster ---- */

static void consistent_hash(const struct consistent_hash *h, Foil__Conf__Cluster *out)
{
	int64_t ring = h->ring ? h->ring->minimum_size.value : h->minimum_ring_size.value;

	if (h->maglev) {
		out->lb = FOIL__CONF__LB_POLICY__LB_MAGLEV;
		out->has_maglev_table_size = true;
		out->maglev_table_size = (uint32_t)h->maglev->table_size.value;
		return;
	}
	out->lb = FOIL__CONF__LB_POLICY__LB_RING_HASH;
	out->has_ring_size_min = ring != 0;
	out->ring_size_min = (uint32_t)ring;
}

static void slow_start(struct compile *c, const struct load_balancer *lb, Foil__Conf__Cluster *out)
{
	const struct warmup *w = lb->warmup;

	if (!w && !lb->warmup_duration.is_set)
		return;
	Foil__Conf__SlowStart *s = ARENA_NEW(c->arena, Foil__Conf__SlowStart);
	foil__conf__slow_start__init(s);
	s->has_window_us = true;
	s->window_us = (uint64_t)(w ? w->duration.value : lb->warmup_duration.value);
	if (w && w->aggression.is_set) {
		s->has_aggression_permille = true;
		s->aggression_permille = (uint32_t)(w->aggression.value * 1000);
	}
	if (w && w->minimum_percent.is_set) {
		s->has_min_weight_percent = true;
		s->min_weight_percent = (uint32_t)w->minimum_percent.value;
	}
	out->slow_start = s;
}

void istio_balancing_cluster(struct compile *c, const struct load_balancer *lb, Foil__Conf__Cluster *out)
{
	out->has_lb = true;
	out->lb = FOIL__CONF__LB_POLICY__LB_LEAST_REQUEST;
	if (!lb)
		return;
	if (lb->consistent_hash)
		consistent_hash(lb->consistent_hash, out);
	else if (lb->simple.value == SIMPLE_ROUND_ROBIN)
		out->lb = FOIL__CONF__LB_POLICY__LB_ROUND_ROBIN;
	else if (lb->simple.value == SIMPLE_RANDOM)
		out->lb = FOIL__CONF__LB_POLICY__LB_RANDOM;
	else if (lb->simple.value == SIMPLE_LEAST_LATENCY)
		out->lb = FOIL__CONF__LB_POLICY__LB_LEAST_LATENCY;
	slow_start(c, lb, out);
}

/* ---- what is hashed ---- */

static void cookie(struct compile *c, const struct http_cookie *k, Foil__Conf__HashPolicy *out)
{
	out->cookie = word(k->name);
	out->cookie_path = word(k->path);
	out->has_has_cookie_ttl = out->has_cookie_ttl = k->ttl.is_set;
	out->has_cookie_ttl_s = k->ttl.is_set;
	out->cookie_ttl_s = (uint64_t)k->ttl.value / 1000000u; /* Envoy looks at the seconds alone */
	out->cookie_attributes = ARENA_ARRAY(c->arena, Foil__Conf__CookieAttribute *, k->attributes.n);
	for (uint32_t i = 0; i < k->attributes.n; i++) {
		const struct cookie_attribute *from = ISTIO_ITEM(k->attributes, struct cookie_attribute, i);
		Foil__Conf__CookieAttribute *a = ARENA_NEW(c->arena, Foil__Conf__CookieAttribute);
		foil__conf__cookie_attribute__init(a);
		a->name = word(from->name);
		a->value = word(from->value);
		out->cookie_attributes[out->n_cookie_attributes++] = a;
	}
}

static Foil__Conf__HashPolicy *hash_policy(struct compile *c, const struct consistent_hash *h)
{
	if (!h->header && !h->cookie && !h->source_ip.is_true && !h->query_parameter)
		return NULL;
	Foil__Conf__HashPolicy *p = ARENA_NEW(c->arena, Foil__Conf__HashPolicy);
	foil__conf__hash_policy__init(p);
	if (h->header)
		p->header = istio_arena_lower(c->arena, h->header);
	else if (h->cookie)
		cookie(c, h->cookie, p);
	else if (h->query_parameter)
		p->query_parameter = word(h->query_parameter);
	else
		p->has_source_ip = p->source_ip = true;
	return p;
}

void istio_balancing_hash(struct compile *c, const struct load_balancer *lb, Foil__Conf__RouteAction *action)
{
	Foil__Conf__HashPolicy *p = lb && lb->consistent_hash ? hash_policy(c, lb->consistent_hash) : NULL;

	if (!p)
		return;
	Foil__Conf__HashPolicy **more = ARENA_ARRAY(c->arena, Foil__Conf__HashPolicy *, action->n_hash_policies + 1);
	if (action->n_hash_policies)
		memcpy(more, action->hash_policies, action->n_hash_policies * sizeof(*more));
	more[action->n_hash_policies++] = p;
	action->hash_policies = more;
	if (action->retry) { /* a retry may go to the same host: VS-36 */
		action->retry->has_avoid_previous_hosts = true;
		action->retry->avoid_previous_hosts = false;
	}
}

bool istio_balancing_hashes_source(const struct load_balancer *lb)
{
	return lb && lb->consistent_hash && lb->consistent_hash->source_ip.is_true;
}

/* ---- localities ---- */

struct locality {
	const char *region, *zone, *subzone; /* never NULL */
};

static struct locality locality_of(struct compile *c, const char *text)
{
	char *copy = istio_arena_copy(c->arena, text ? text : "", strlen(text ? text : ""));
	struct locality l = {copy, "", ""};
	char *slash = strchr(copy, '/');

	if (!slash)
		return l;
	*slash = '\0';
	l.zone = slash + 1;
	slash = strchr(slash + 1, '/');
	if (!slash)
		return l;
	*slash = '\0';
	l.subzone = slash + 1;
	return l;
}

/* "*" and what is left out match anything; a region that is left out only an endpoint without one. */
static bool locality_matches(const struct locality *l, const struct locality *rule)
{
	bool region = strcmp(rule->region, "*") == 0 || strcmp(rule->region, l->region) == 0;
	bool zone = strcmp(rule->zone, "*") == 0 || rule->zone[0] == '\0' || strcmp(rule->zone, l->zone) == 0;
	bool subzone = strcmp(rule->subzone, "*") == 0 || rule->subzone[0] == '\0' || strcmp(rule->subzone, l->subzone) == 0;

	return region && zone && subzone;
}

static uint32_t distance(const struct locality *own, const struct locality *other)
{
	if (strcmp(own->region, other->region) != 0)
		return PRIORITY_ELSEWHERE;
	if (strcmp(own->zone, other->zone) != 0)
		return 2;
	return strcmp(own->subzone, other->subzone) != 0;
}

static uint32_t priority_by_region(const struct locality_lb *set, const struct locality *own, const struct locality *other)
{
	uint32_t d = distance(own, other);

	for (uint32_t i = 0; d == PRIORITY_ELSEWHERE && i < set->failover.n; i++) {
		const struct locality_failover *f = ISTIO_ITEM(set->failover, struct locality_failover, i);
		if (strcmp(f->from, own->region) == 0)
			return strcmp(f->to, other->region) == 0 ? d : PRIORITY_NOT_FAILOVER;
	}
	return d;
}

/* Labels that topology gives to nodes and endpoints alike. */
static const char *label_of(const struct istio_string_map *labels, const struct locality *l, const char *key, size_t n_key)
{
	static const char *const topology[] = {"topology.kubernetes.io/region", "topology.kubernetes.io/zone", "topology.istio.io/subzone"};
	const char *of_locality[] = {l->region, l->zone, l->subzone};

	for (uint32_t i = 0; labels && i < labels->n; i++)
		if (strlen(labels->keys[i]) == n_key && memcmp(labels->keys[i], key, n_key) == 0)
			return labels->values[i];
	for (int i = 0; i < 3; i++)
		if (strlen(topology[i]) == n_key && memcmp(topology[i], key, n_key) == 0)
			return of_locality[i];
	return "";
}

/* 0 when all labels are as the node's, or as the rule says (key=value); else the more, the earlier the first that is not. */
static uint32_t priority_by_labels(const struct compile *c, const struct locality_lb *set, const struct locality *own, const struct istio_string_map *labels,
				   const struct locality *other)
{
	const struct istio_string_map node_labels = {.keys = c->node->label_keys, .values = c->node->label_values, .n = (uint32_t)c->node->n_labels};

	for (uint32_t i = 0; i < set->failover_priority.n; i++) {
		const char *rule = set->failover_priority.list[i], *equals = strchr(rule, '=');
		size_t n_key = equals ? (size_t)(equals - rule) : strlen(rule);
		const char *wanted = equals ? equals + 1 : label_of(&node_labels, own, rule, n_key);
		if (strcmp(wanted, label_of(labels, other, rule, n_key)) != 0)
			return set->failover_priority.n - i;
	}
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

/* 0..N without gaps, in the same order. */
static void compress(struct compile *c, uint32_t *priorities, size_t n)
{
	uint32_t *sorted = ARENA_ARRAY(c->arena, uint32_t, n), n_distinct = 0;

	memcpy(sorted, priorities, n * sizeof(*sorted));
	qsort(sorted, n, sizeof(*sorted), by_number);
	for (size_t i = 0; i < n; i++)
		if (i == 0 || sorted[i] != sorted[i - 1])
			sorted[n_distinct++] = sorted[i];
	for (size_t i = 0; i < n; i++) {
		const uint32_t *at = bsearch(&priorities[i], sorted, n_distinct, sizeof(*sorted), by_number);
		priorities[i] = (uint32_t)(at - sorted);
	}
}

static void failover(struct compile *c, const struct locality_lb *set, const struct instance *const *instances, Foil__Conf__Endpoints *out)
{
	struct locality own = locality_of(c, c->node->locality);
	uint32_t *priorities = ARENA_ARRAY(c->arena, uint32_t, out->n_endpoints);
	bool by_labels = set->failover_priority.n > 0, by_region = !by_labels || set->failover.n > 0;

	for (size_t i = 0; i < out->n_endpoints; i++) {
		struct locality other = locality_of(c, instances[i]->locality);
		if (by_region)
			priorities[i] = priority_by_region(set, &own, &other);
		if (by_labels)
			priorities[i] += PRIORITIES_OF_LOCALITY * priority_by_labels(c, set, &own, instances[i]->labels, &other);
	}
	if (out->n_endpoints)
		compress(c, priorities, out->n_endpoints);
	for (size_t i = 0; i < out->n_endpoints; i++) {
		out->endpoints[i]->has_priority = priorities[i] > 0;
		out->endpoints[i]->priority = priorities[i];
	}
}

/* ---- distribute ---- */

/* One locality of the endpoints. */
struct place {
	const char *name;
	struct locality locality;
	uint64_t endpoints_weight;
	uint32_t weight; /* of the rule; 0: it gets nothing */
	bool is_matched;
};
struct places {
	struct istio_map by_name;
	struct {
		struct place **list;
		uint32_t n, n_room;
	} all;
};

static void collect(struct compile *c, const Foil__Conf__Endpoints *out, struct places *p)
{
	for (size_t i = 0; i < out->n_endpoints; i++) {
		const Foil__Conf__Endpoint *e = out->endpoints[i];
		const char *name = e->locality ? e->locality : "";
		bool is_new;
		void **at = istio_map_put(c->arena, &p->by_name, name, &is_new);
		if (is_new) {
			struct place *fresh = ARENA_NEW(c->arena, struct place);
			fresh->name = name;
			fresh->locality = locality_of(c, name);
			*at = fresh;
			ARENA_PUSH(c->arena, &p->all, fresh);
		}
		((struct place *)*at)->endpoints_weight += e->has_weight ? e->weight : 1;
	}
}

/* A weight falls to the places that match and that no earlier one has, by the weights of their endpoints, rounded up. */
static void share_out(struct compile *c, struct places *p, const char *to, uint32_t weight)
{
	struct locality rule = locality_of(c, to);
	uint64_t sum = 0;

	for (int pass = 0; pass < 2; pass++) {
		for (uint32_t i = 0; i < p->all.n; i++) {
			struct place *one = p->all.list[i];
			if (!locality_matches(&one->locality, &rule) || (one->is_matched && (pass == 0 || one->weight)))
				continue;
			if (pass == 0)
				sum += one->endpoints_weight;
			else
				one->weight = (uint32_t)((one->endpoints_weight * weight + sum - 1) / sum);
			one->is_matched = true;
		}
	}
}

/* How much a locality's name says: the most specific is matched first. */
static int specificity(const char *to)
{
	int n = 0;

	for (const char *p = to; *p; p++)
		n += *p == '/';
	return strchr(to, '*') ? n - 1 : n;
}

static void drop_unmatched(struct places *p, Foil__Conf__Endpoints *out)
{
	size_t n = 0;

	for (size_t i = 0; i < out->n_endpoints; i++) {
		const struct place *one = istio_map_get(&p->by_name, out->endpoints[i]->locality ? out->endpoints[i]->locality : "");
		if (one->weight)
			out->endpoints[n++] = out->endpoints[i];
	}
	out->n_endpoints = n;
}

static void emit_weights(struct compile *c, const struct places *p, Foil__Conf__Endpoints *out)
{
	out->locality_weights = ARENA_ARRAY(c->arena, Foil__Conf__LocalityWeight *, p->all.n);
	for (uint32_t i = 0; i < p->all.n && out->n_locality_weights < LOCALITIES_MAX; i++) {
		if (!p->all.list[i]->weight)
			continue;
		Foil__Conf__LocalityWeight *w = ARENA_NEW(c->arena, Foil__Conf__LocalityWeight);
		foil__conf__locality_weight__init(w);
		w->locality = word(p->all.list[i]->name);
		w->has_weight = true;
		w->weight = p->all.list[i]->weight;
		out->locality_weights[out->n_locality_weights++] = w;
	}
}

static void distribute(struct compile *c, const struct locality_distribute *d, Foil__Conf__Endpoints *out)
{
	struct places p = {0};

	collect(c, out, &p);
	if (p.all.n > LOCALITIES_MAX)
		return;
	for (int level = 2; level >= -1; level--)
		for (uint32_t i = 0; i < d->to.n; i++)
			if (specificity(d->to.keys[i]) == level)
				share_out(c, &p, d->to.keys[i], (uint32_t)strtoul(d->to.values[i], NULL, 0));
	drop_unmatched(&p, out);
	emit_weights(c, &p, out);
}

static const struct locality_lb *settings_of(const struct compile *c, const struct load_balancer *lb)
{
	const struct locality_lb *set = lb && lb->locality ? lb->locality : c->model->mesh->locality; /* DR-17: the rule's replaces the mesh's whole */

	return set && set->enabled.is_set && !set->enabled.is_true ? NULL : set;
}

void istio_balancing_localities(struct compile *c, const struct load_balancer *lb, bool has_outlier, const struct instance *const *instances,
				Foil__Conf__Endpoints *out)
{
	static const struct locality_lb by_default; /* enabled, as Istio's MeshConfig has it */
	bool is_off = (lb && lb->locality) || c->model->mesh->locality;
	const struct locality_lb *set = settings_of(c, lb);
	struct locality own = locality_of(c, c->node->locality);

	if (!set && is_off)
		return;
	set = set ? set : &by_default;
	if (!set->distribute.n) {
		if (has_outlier)
			failover(c, set, instances, out);
		return;
	}
	for (uint32_t i = 0; i < set->distribute.n; i++) {
		const struct locality_distribute *d = ISTIO_ITEM(set->distribute, struct locality_distribute, i);
		struct locality from = locality_of(c, d->from);
		if (locality_matches(&own, &from)) {
			distribute(c, d, out);
			return;
		}
	}
}
