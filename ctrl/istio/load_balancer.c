/* The field tables of LoadBalancerSettings and LocalityLoadBalancerSetting (features.md DR-7..DR-21), of DestinationRules and of MeshConfig. */
#include "ctrl/istio/rows.h"

#include <stdlib.h>
#include <string.h>

#define MAGLEV_TABLE_BOUND 5000011 /* Istio's and Envoy's: a table is smaller */
#define RING_SIZE_MAX 8388608      /* Envoy's */
#define COOKIE_TTL_US_MAX DURATION_US_MAX

/* ---- consistent hashing ---- */

static const struct istio_field attribute_rows[] = {
	ROW(cookie_attribute, name, "name", F_STRING, .min = 1, .max = 256),
	ROW(cookie_attribute, value, "value", F_STRING, .min = 0, .max = 1024),
};
static const struct istio_table table_attribute = TABLE(cookie_attribute, "HTTPCookie.Attribute", attribute_rows);
static const struct istio_field cookie_rows[] = {
	ROW(http_cookie, name, "name", F_STRING, .min = 1, .max = 256),
	ROW(http_cookie, path, "path", F_STRING, .min = 0, .max = 1024),
	ROW(http_cookie, ttl, "ttl", F_DURATION, .min = 0, .max = COOKIE_TTL_US_MAX),
	ROW(http_cookie, attributes, "attributes", F_OBJECTS, .table = &table_attribute, .min = 0, .max = 64),
};

static bool is_cookie_text(const char *text, const char *unwanted)
{
	return !text || text[strcspn(text, unwanted)] == '\0';
}

static void check_cookie(struct istio_decode *d, void *object)
{
	struct http_cookie *c = object;

	if (!c->name)
		istio_decode_error(d, "IST0106", &c->head, "name", "a cookie needs a name");
	if (!is_cookie_text(c->name, ";= ,\"") || !is_cookie_text(c->path, ";"))
		istio_decode_error(d, "IST0106", &c->head, "name", "has a character that a cookie's name or path cannot have");
	for (uint32_t i = 0; i < c->attributes.n; i++) {
		const struct cookie_attribute *a = ISTIO_ITEM(c->attributes, struct cookie_attribute, i);
		if (!a->name || !is_cookie_text(a->name, ";= ,\"") || !is_cookie_text(a->value, ";"))
			istio_decode_error(d, "IST0106", &a->head, "name", "is missing, or has a character that an attribute of a cookie cannot have");
	}
}

static const struct istio_table table_cookie = TABLE(http_cookie, "HTTPCookie", cookie_rows, .check = check_cookie);
static const struct istio_field ring_rows[] = {ROW(ring_hash, minimum_size, "minimumRingSize", F_INT, .min = 0, .max = RING_SIZE_MAX)};
static const struct istio_table table_ring = TABLE(ring_hash, "RingHash", ring_rows);
static const struct istio_field maglev_rows[] = {ROW(maglev, table_size, "tableSize", F_INT, .min = 0, .max = MAGLEV_TABLE_BOUND)};

static bool is_prime(int64_t n)
{
	for (int64_t i = 2; i * i <= n; i++)
		if (n % i == 0)
			return false;
	return n > 1;
}

static void check_maglev(struct istio_decode *d, void *object)
{
	struct maglev *m = object;

	if (m->table_size.value == 0)
		istio_decode_error(d, "IST0106", &m->head, "tableSize", "maglev needs a tableSize");
	else if (m->table_size.value >= MAGLEV_TABLE_BOUND || !is_prime(m->table_size.value))
		istio_decode_error(d, "IST0106", &m->head, "tableSize", "must be a prime number less than %d", MAGLEV_TABLE_BOUND);
}

static const struct istio_table table_maglev = TABLE(maglev, "MagLev", maglev_rows, .check = check_maglev);
static const struct istio_field consistent_hash_rows[] = {
	ROW(consistent_hash, header, "httpHeaderName", F_STRING, .min = 1, .max = 256),
	ROW(consistent_hash, cookie, "httpCookie", F_OBJECT, .table = &table_cookie),
	ROW(consistent_hash, source_ip, "useSourceIp", F_BOOL),
	ROW(consistent_hash, query_parameter, "httpQueryParameterName", F_STRING, .min = 1, .max = 1024),
	ROW(consistent_hash, ring, "ringHash", F_OBJECT, .table = &table_ring),
	ROW(consistent_hash, maglev, "maglev", F_OBJECT, .table = &table_maglev),
	ROW(consistent_hash, minimum_ring_size, "minimumRingSize", F_INT, .min = 0, .max = RING_SIZE_MAX),
};

static void check_consistent_hash(struct istio_decode *d, void *object)
{
	struct consistent_hash *h = object;
	int n = (h->header != NULL) + (h->cookie != NULL) + h->source_ip.is_set + (h->query_parameter != NULL);

	if (n > 1)
		istio_decode_error(d, "IST0106", &h->head, "", "one of httpHeaderName, httpCookie, useSourceIp and httpQueryParameterName");
	if (n == 0 || (h->source_ip.is_set && !h->source_ip.is_true))
		istio_decode_warning(d, "HF0007", &h->head, "", "nothing is hashed: each request goes to a random endpoint");
	if (h->ring && h->maglev)
		istio_decode_error(d, "IST0106", &h->head, "maglev", "ringHash and maglev exclude each other");
	if ((h->ring || h->maglev) && h->minimum_ring_size.value)
		istio_decode_error(d, "IST0106", &h->head, "minimumRingSize", "stands beside ringHash or maglev; one of them");
	if (h->header && !istio_is_header_name(h->header))
		istio_decode_error(d, "IST0106", &h->head, "httpHeaderName", "\"%.80s\" is not a header's name", h->header);
}

static const struct istio_table table_consistent_hash =
	TABLE(consistent_hash, "ConsistentHashLB", consistent_hash_rows, .check = check_consistent_hash);

/* ---- localities ---- */

static const struct istio_field distribute_rows[] = {
	ROW(locality_distribute, from, "from", F_STRING, .min = 1, .max = 256),
	ROW(locality_distribute, to, "to", F_INT_MAP, .min = 1, .max = 100),
};

static void check_distribute(struct istio_decode *d, void *object)
{
	struct locality_distribute *l = object;
	unsigned long sum = 0;

	for (uint32_t i = 0; i < l->to.n; i++)
		sum += strtoul(l->to.values[i], NULL, 0);
	if (!l->from)
		istio_decode_error(d, "IST0106", &l->head, "from", "distribute needs from: a locality");
	if (sum != 100)
		istio_decode_error(d, "IST0106", &l->head, "to", "the weights add up to %lu; they must be 100", sum);
}

static const struct istio_table table_distribute = TABLE(locality_distribute, "Distribute", distribute_rows, .check = check_distribute);
static const struct istio_field failover_rows[] = {
	ROW(locality_failover, from, "from", F_STRING, .min = 1, .max = 256),
	ROW(locality_failover, to, "to", F_STRING, .min = 1, .max = 256),
};

static void check_failover(struct istio_decode *d, void *object)
{
	struct locality_failover *l = object;

	if (!l->from || !l->to || strpbrk(l->from, "*/") || strpbrk(l->to, "*/"))
		istio_decode_error(d, "IST0106", &l->head, "", "failover goes from one region to another; zones and wildcards are not for it");
	else if (strcmp(l->from, l->to) == 0)
		istio_decode_error(d, "IST0106", &l->head, "to", "is the region that it comes from");
}

static const struct istio_table table_failover = TABLE(locality_failover, "Failover", failover_rows, .check = check_failover);
static const struct istio_field locality_rows[] = {
	ROW(locality_lb, distribute, "distribute", F_OBJECTS, .table = &table_distribute, .min = 0, .max = 256),
	ROW(locality_lb, failover, "failover", F_OBJECTS, .table = &table_failover, .min = 0, .max = 256),
	ROW(locality_lb, failover_priority, "failoverPriority", F_STRINGS, .min = 0, .max = 16),
	ROW(locality_lb, enabled, "enabled", F_BOOL),
	ROW_REFUSED("zoneAwareLbSetting", "shares of zones are not measured; use failover or distribute"),
};

static void check_locality(struct istio_decode *d, void *object)
{
	struct locality_lb *l = object;

	if (l->distribute.n && (l->failover.n || l->failover_priority.n))
		istio_decode_error(d, "IST0106", &l->head, "distribute", "distribute and failover exclude each other");
}

const struct istio_table istio_table_locality_lb = TABLE(locality_lb, "LocalityLoadBalancerSetting", locality_rows, .check = check_locality);

/* ---- slow start ---- */

static const struct istio_field warmup_rows[] = {
	ROW(warmup, duration, "duration", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW(warmup, minimum_percent, "minimumPercent", F_DOUBLE, .min = 0, .max = 100),
	ROW(warmup, aggression, "aggression", F_DOUBLE, .min = 1, .max = 1000),
};

static void check_warmup(struct istio_decode *d, void *object)
{
	struct warmup *w = object;

	if (!w->duration.is_set)
		istio_decode_error(d, "IST0106", &w->head, "duration", "warmup needs a duration");
}

static const struct istio_table table_warmup = TABLE(warmup, "WarmupConfiguration", warmup_rows, .check = check_warmup);

/* ---- all of it ---- */

static const char *const simple_words[] = {"UNSPECIFIED", "LEAST_CONN", "RANDOM", "PASSTHROUGH", "ROUND_ROBIN", "LEAST_REQUEST",
					   "LEAST_LATENCY" /* ours */, NULL};
static const struct istio_field load_balancer_rows[] = {
	ROW(load_balancer, simple, "simple", F_ENUM, .words = simple_words),
	ROW(load_balancer, consistent_hash, "consistentHash", F_OBJECT, .table = &table_consistent_hash),
	ROW(load_balancer, locality, "localityLbSetting", F_OBJECT, .table = &istio_table_locality_lb),
	ROW(load_balancer, warmup, "warmup", F_OBJECT, .table = &table_warmup),
	ROW(load_balancer, warmup_duration, "warmupDurationSecs", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW_REFUSED("zoneAwareLbSetting", "zones are not balanced by their shares; use localityLbSetting"),
};

static bool knows_warmup(const struct load_balancer *l)
{
	return !l->consistent_hash && l->simple.value != SIMPLE_RANDOM && l->simple.value != SIMPLE_PASSTHROUGH &&
	       l->simple.value != SIMPLE_LEAST_LATENCY;
}

static void check_load_balancer(struct istio_decode *d, void *object)
{
	struct load_balancer *l = object;

	if (l->simple.is_set && l->consistent_hash)
		istio_decode_error(d, "IST0106", &l->head, "consistentHash", "simple and consistentHash exclude each other");
	if ((l->warmup || l->warmup_duration.is_set) && !knows_warmup(l))
		istio_decode_error(d, "IST0106", &l->head, l->warmup ? "warmup" : "warmupDurationSecs", "is for ROUND_ROBIN and LEAST_REQUEST only");
	if (l->consistent_hash && l->locality && (l->locality->distribute.n || l->locality->failover.n || l->locality->failover_priority.n))
		istio_decode_warning(d, "HF0007", &l->head, "localityLbSetting", "what is hashed keeps its endpoint until another locality takes over");
}

const struct istio_table istio_table_load_balancer = TABLE(load_balancer, "LoadBalancerSettings", load_balancer_rows, .check = check_load_balancer);
