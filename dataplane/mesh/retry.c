/* Whether a try that failed is followed by another, and when (features.md VS-35..VS-45, DR-30): Envoy's RetryState. It decides by the route's policy and, for
 * internal callers, by their x-envoy-retry-* headers; it never sends. Order of the questions as there: would this failure be retried at all, are
 * retries left, has the cluster's retry breaker room. */
#include "dataplane/mesh/runtime.h"

#define RETRY_BASE_US_DEFAULT 25000u /* VS-42 */

/* ---- the policy of a request ---- */
static bool next_word(struct foil_slice *list, struct foil_slice *word)
{
	uint32_t end = 0;

	if (list->n_bytes == 0)
		return false;
	while (end < list->n_bytes && list->data[end] != ',')
		end++;
	*word = foil_slice_of(list->data, end);
	*list = foil_slice_of(list->data + FOIL_MIN(end + 1u, list->n_bytes), list->n_bytes - FOIL_MIN(end + 1u, list->n_bytes));
	while (word->n_bytes && word->data[0] == ' ')
		*word = foil_slice_of(word->data + 1, word->n_bytes - 1u);
	while (word->n_bytes && word->data[word->n_bytes - 1u] == ' ')
		word->n_bytes--;
	return true;
}

static bool parse_number(struct foil_slice s, uint32_t max, uint32_t *out)
{
	uint32_t n = 0;

	if (s.n_bytes == 0 || s.n_bytes > 9)
		return false;
	for (uint32_t i = 0; i < s.n_bytes; i++) {
		if (s.data[i] < '0' || s.data[i] > '9')
			return false;
		n = n * 10u + (uint32_t)(s.data[i] - '0');
	}
	*out = n;
	return n <= max;
}

static uint32_t words_of(struct foil_slice list)
{
	struct foil_slice word;
	uint32_t on = 0, bit;

	while (next_word(&list, &word))
		if (mesh_retry_on_parse(word, &bit))
			on |= bit;
	return on;
}

static void codes_of(struct mesh_retry *r, struct foil_slice list)
{
	struct foil_slice word;
	uint32_t n;

	while (next_word(&list, &word) && r->n_codes_of_header < FOIL_COUNT_OF(r->code_of_header))
		if (parse_number(word, 599, &n) && n >= 100)
			r->code_of_header[r->n_codes_of_header++] = (uint16_t)n;
}

/* Takes the header out of the request: it was for us. {NULL,0}: it is not there. */
static struct foil_slice take_header(struct mesh_exchange *x, enum http_header_id id)
{
	const struct http_header *h = http_header_get(&x->request->headers, id);
	struct foil_slice value = {NULL, 0};

	if (h) {
		value = h->value;
		http_header_remove_id(&x->request->headers, id);
	}
	return value;
}

static void honour_headers(struct mesh_exchange *x)
{
	struct mesh_retry *r = &x->retry;
	bool had_policy = r->on != 0;
	struct foil_slice max = take_header(x, HTTP_HDR_X_ENVOY_MAX_RETRIES);
	uint32_t n;

	r->on |= words_of(take_header(x, HTTP_HDR_X_ENVOY_RETRY_ON));
	r->on |= words_of(take_header(x, HTTP_HDR_X_ENVOY_RETRY_GRPC_ON));
	codes_of(r, take_header(x, HTTP_HDR_X_ENVOY_RETRIABLE_STATUS_CODES));
	(void)take_header(x, HTTP_HDR_X_ENVOY_HEDGE_ON_PER_TRY_TIMEOUT);
	(void)take_header(x, HTTP_HDR_X_ENVOY_RETRIABLE_HEADER_NAMES);
	(void)take_header(x, HTTP_HDR_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS);
	(void)take_header(x, HTTP_HDR_X_ENVOY_UPSTREAM_RQ_TIMEOUT_ALT_RESPONSE);
	(void)take_header(x, HTTP_HDR_X_ENVOY_UPSTREAM_STREAM_DURATION_MS);
	if (!r->on)
		return;
	if (!had_policy)
		r->n_left = 1;
	if (parse_number(max, 1000, &n))
		r->n_left = n;
}

void mesh_retry_init(struct foil_worker *w, struct mesh_exchange *x)
{
	const struct mesh_retry_policy *p = x->route->route.retry;
	struct mesh_retry *r = &x->retry;

	(void)w;
	r->base_us = RETRY_BASE_US_DEFAULT;
	if (p) {
		r->on = p->retry_on;
		r->n_left = p->retry_on ? p->num_retries : 0;
		r->codes = p->retriable_status_codes;
		r->n_codes = p->n_retriable_status_codes;
		r->base_us = p->backoff_base_us ? p->backoff_base_us : RETRY_BASE_US_DEFAULT;
		r->max_us = p->backoff_max_us;
		r->avoid_previous_hosts = p->avoid_previous_hosts;
		r->host_attempts_max = p->host_selection_max_attempts;
	}
	if (x->from.is_internal || x->route->request_headers.n_add || x->weighted->request_headers.n_add) /* a stranger's are gone by now */
		honour_headers(x);
	if (!r->max_us)
		r->max_us = 10u * r->base_us;
}

/* ---- would it be retried? ---- */
static bool code_is_listed(const struct mesh_retry *r, uint16_t status)
{
	for (uint16_t i = 0; i < r->n_codes; i++)
		if (r->codes[i] == status)
			return true;
	for (uint8_t i = 0; i < r->n_codes_of_header; i++)
		if (r->code_of_header[i] == status)
			return true;
	return false;
}

static uint32_t bit_of_grpc(const struct http_head *head)
{
	const struct http_header *h = http_header_get(&head->headers, HTTP_HDR_GRPC_STATUS);
	uint32_t n;

	if (!h || !parse_number(h->value, 99, &n))
		return 0;
	switch (n) { /* VS-40 */
	case 1: return MESH_RETRY_CANCELLED;
	case 4: return MESH_RETRY_DEADLINE_EXCEEDED;
	case 8: return MESH_RETRY_RESOURCE_EXHAUSTED;
	case 13: return MESH_RETRY_INTERNAL;
	case 14: return MESH_RETRY_UNAVAILABLE;
	default: return 0;
	}
}

static bool answer_is_retriable(const struct mesh_retry *r, const struct http_head *head)
{
	uint16_t s = head->status;

	if (http_header_get(&head->headers, HTTP_HDR_X_ENVOY_RATELIMITED))
		return r->on & MESH_RETRY_ENVOY_RATELIMITED;
	if ((r->on & MESH_RETRY_5XX) && s >= 500 && s <= 599)
		return true;
	if ((r->on & MESH_RETRY_GATEWAY_ERROR) && s >= 502 && s <= 504)
		return true;
	if ((r->on & MESH_RETRY_RETRIABLE_4XX) && s == 409)
		return true;
	if ((r->on & MESH_RETRY_RETRIABLE_STATUS_CODES) && code_is_listed(r, s))
		return true;
	return r->on & bit_of_grpc(head);
}

static bool reset_is_retriable(const struct mesh_retry *r, enum http_reset kind, bool request_started)
{
	if (kind == MESH_RESET_OVERFLOW)
		return false;
	if (r->on & (MESH_RETRY_RESET | MESH_RETRY_5XX | MESH_RETRY_GATEWAY_ERROR))
		return true;
	if ((r->on & MESH_RETRY_RESET_BEFORE_REQUEST) && !request_started)
		return true;
	if ((r->on & MESH_RETRY_REFUSED_STREAM) && kind == HTTP_RESET_REFUSED_STREAM)
		return true;
	return (r->on & MESH_RETRY_CONNECT_FAILURE) && (kind == HTTP_RESET_CONNECT_FAILURE || kind == HTTP_RESET_CONNECT_TIMEOUT);
}

/* ---- may it? ---- */
static void count_off(struct foil_worker *w, struct mesh_exchange *x)
{
	if (!x->retry.is_counted)
		return;
	x->retry.is_counted = false;
	mesh_breaker_add(w, x->try.endpoint->host->cluster, MESH_BREAKER_RETRIES, -1);
}

static enum mesh_retry_verdict verdict(struct foil_worker *w, struct mesh_exchange *x, bool would)
{
	struct mesh_retry *r = &x->retry;
	struct mesh_cluster_state *state;

	if (!r->on)
		return MESH_RETRY_NO;
	if (r->n_done && !would)
		foil_count(w, MESH, RETRY_SUCCESS, 1);
	count_off(w, x);
	if (!would)
		return MESH_RETRY_NO;
	if (x->kept_overflow) /* the body cannot be sent again */
		return MESH_RETRY_NO;
	if (r->n_left == 0) {
		foil_count(w, MESH, RETRY_LIMIT, 1);
		return MESH_RETRY_EXHAUSTED;
	}
	r->n_left--;
	state = x->try.endpoint->host->cluster;
	if (!mesh_breaker_take(w, x->cluster, state, MESH_BREAKER_RETRIES)) {
		foil_count(w, MESH, RETRY_OVERFLOW, 1);
		return MESH_RETRY_OVERFLOW;
	}
	r->is_counted = true;
	return MESH_RETRY_YES;
}

enum mesh_retry_verdict mesh_retry_on_response(struct foil_worker *w, struct mesh_exchange *x, const struct http_head *head)
{
	return verdict(w, x, x->retry.on && answer_is_retriable(&x->retry, head));
}

enum mesh_retry_verdict mesh_retry_on_reset(struct foil_worker *w, struct mesh_exchange *x, enum http_reset kind)
{
	if (x->response_started)
		return MESH_RETRY_NO;
	return verdict(w, x, reset_is_retriable(&x->retry, kind, x->try.is_connected));
}

/* ---- when ---- */
static void backoff_over(struct foil_worker *w, struct foil_timer *t)
{
	mesh_router_try(w, FOIL_CONTAINER_OF(t, struct mesh_exchange, retry.timer));
}

void mesh_retry_schedule(struct foil_worker *w, struct mesh_exchange *x)
{
	struct mesh_retry *r = &x->retry;
	uint64_t most = r->n_done < 16 ? FOIL_MIN(r->base_us * ((2ull << r->n_done) - 1u), r->max_us) : r->max_us;

	r->n_done++;
	foil_count(w, MESH, RETRIES, 1);
	if (r->avoid_previous_hosts && r->n_avoid < MESH_AVOID_MAX)
		r->avoid[r->n_avoid++] = x->try.endpoint->host;
	x->router = MESH_ROUTER_BACKOFF;
	foil_timer_arm(w, &r->timer, w->now_us + foil_prng_below(&w->prng, (uint32_t)FOIL_MIN(most, UINT32_MAX - 1u) + 1u), backoff_over);
}

void mesh_retry_fini(struct foil_worker *w, struct mesh_exchange *x)
{
	count_off(w, x);
	foil_timer_cancel(w, &x->retry.timer);
	x->retry.n_left = 0;
	x->retry.on = 0;
}
