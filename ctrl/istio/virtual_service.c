/* The field tables of VirtualService and what its rows cannot say by themselves (features.md VS-1..VS-62; checks as Istio's own validation). */
#include "ctrl/istio/format.h"
#include "ctrl/istio/rows.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "dataplane/core/error.h"
#include "dataplane/core/regex.h"

#define BODY_MAX (1 << 20)
#define CONDITIONS_MAX 900 /* the data plane takes 1000 */
#define HEADER_OPS_MAX 250 /* four lists of them meet in one route, which takes 1000 */

/* ---- what several kinds share ---- */

static void check_match(struct istio_decode *d, const struct string_match *m)
{
	struct foil_error err = {0};

	if ((m->exact != NULL) + (m->prefix != NULL) + (m->regex != NULL) > 1)
		istio_decode_error(d, "IST0106", &m->head, "", "only one of exact, prefix and regex can be set");
	if (!m->regex)
		return;
	struct foil_regex *re = foil_regex_new(foil_slice_str(m->regex), false, &err);
	if (!re)
		istio_decode_error(d, "IST0106", &m->head, "regex", "%s", err.text);
	foil_regex_free(re);
}

static void check_string_match(struct istio_decode *d, void *object)
{
	check_match(d, object);
}

/* Of what may be there or not: the expression "*" means that it is. */
static void check_presence_match(struct istio_decode *d, void *object)
{
	const struct string_match *m = object;

	if (!m->regex || strcmp(m->regex, "*") != 0)
		check_match(d, m);
}

static const struct istio_field string_match_rows[] = {
	ROW(string_match, exact, "exact", F_STRING),
	ROW(string_match, prefix, "prefix", F_STRING),
	ROW(string_match, regex, "regex", F_STRING),
};
const struct istio_table istio_table_string_match = TABLE(string_match, "StringMatch", string_match_rows, .check = check_string_match);
static const struct istio_table table_presence_match = TABLE(string_match, "StringMatch", string_match_rows, .check = check_presence_match);

static const struct istio_field port_selector_rows[] = {ROW(port_selector, number, "number", F_INT, .min = 0, .max = PORT_MAX)};
const struct istio_table istio_table_port_selector = TABLE(port_selector, "PortSelector", port_selector_rows);

static void check_destination(struct istio_decode *d, void *object)
{
	struct destination *dest = object;

	if (!dest->host || !istio_is_host(dest->host, true) || strcmp(dest->host, "*") == 0)
		istio_decode_error(d, "IST0106", &dest->head, "host", dest->host ? "\"%.80s\" is not a host" : "a destination needs a host", dest->host);
	if (dest->subset && dest->subset[0] && !istio_is_label(dest->subset))
		istio_decode_error(d, "IST0106", &dest->head, "subset", "\"%.80s\" is not a subset's name", dest->subset);
	if (dest->port && dest->port->number.value == 0)
		istio_decode_error(d, "IST0106", &dest->head, "port.number", "a port number must be from 1 to 65535");
}

static const struct istio_field destination_rows[] = {
	ROW(destination, host, "host", F_STRING),
	ROW(destination, subset, "subset", F_STRING),
	ROW(destination, port, "port", F_OBJECT, .table = &istio_table_port_selector),
};
const struct istio_table istio_table_destination = TABLE(destination, "Destination", destination_rows, .check = check_destination);

static const struct istio_field percent_rows[] = {ROW(percent, value, "value", F_DOUBLE, .min = 0, .max = 100)};
const struct istio_table istio_table_percent = TABLE(percent, "Percent", percent_rows);

static const struct istio_field workload_selector_rows[] = {ROW(workload_selector, labels, "labels", F_STRING_MAP)};
const struct istio_table istio_table_workload_selector = TABLE(workload_selector, "WorkloadSelector", workload_selector_rows);

/* ---- match ---- */

bool istio_is_header_name(const char *name)
{
	static const char marks[] = "!#$%&'*+-.^_`|~";

	name += *name == ':';
	if (!*name)
		return false;
	for (; *name; name++)
		if (!isalnum((unsigned char)*name) && !strchr(marks, *name))
			return false;
	return true;
}

static void check_header_keys(struct istio_decode *d, const struct http_match *m, const struct istio_list *headers, const char *field)
{
	for (uint32_t i = 0; i < headers->n; i++) {
		const char *name = ISTIO_ITEM(*headers, struct string_match, i)->head.name;
		bool is_pseudo = strcmp(name, ":method") == 0 || strcmp(name, ":authority") == 0 || strcmp(name, ":scheme") == 0 || strcmp(name, ":path") == 0;
		if (!is_pseudo && name[0] != '@' && (name[0] == ':' || !istio_is_header_name(name)))
			istio_decode_error(d, "IST0106", &m->head, field, "\"%.80s\" is not a header name", name);
	}
}

static const char claims_prefix[] = "@request.auth.claims";

static void check_http_match(struct istio_decode *d, void *object)
{
	struct http_match *m = object;

	if (!m->uri && !m->scheme && !m->method && !m->authority && m->headers.n == 0 && m->without_headers.n == 0 && m->query_params.n == 0 &&
	    !m->port.is_set &&
	    m->source_labels.n == 0 && m->gateways.n == 0 && !m->source_namespace && !m->stat_prefix && !m->name)
		istio_decode_error(d, "IST0106", &m->head, "", "an empty match: leave match out to match everything");
	check_header_keys(d, m, &m->headers, "headers");
	check_header_keys(d, m, &m->without_headers, "withoutHeaders");
	if (m->headers.n + m->without_headers.n > CONDITIONS_MAX || m->query_params.n > CONDITIONS_MAX)
		istio_decode_error(d, "IST0106", &m->head, "", "more than %d conditions in one match", CONDITIONS_MAX);
	for (uint32_t i = 0; i < m->headers.n; i++) {
		const struct string_match *h = ISTIO_ITEM(m->headers, struct string_match, i);
		if (strncmp(h->head.name, claims_prefix, sizeof(claims_prefix) - 1) == 0)
			istio_decode_error(d, "HF0005", &m->head, "headers", "not supported: a match on a claim (%.60s) needs RequestAuthentication",
					   h->head.name);
	}
	if (m->port.is_set && m->port.value == 0)
		istio_decode_error(d, "IST0106", &m->head, "port", "a port must be from 1 to 65535");
}

static const struct istio_field http_match_rows[] = {
	ROW(http_match, name, "name", F_STRING),
	ROW(http_match, uri, "uri", F_OBJECT, .table = &istio_table_string_match),
	ROW(http_match, scheme, "scheme", F_OBJECT, .table = &istio_table_string_match),
	ROW(http_match, method, "method", F_OBJECT, .table = &istio_table_string_match),
	ROW(http_match, authority, "authority", F_OBJECT, .table = &istio_table_string_match),
	ROW(http_match, headers, "headers", F_OBJECT_MAP, .table = &table_presence_match),
	ROW(http_match, port, "port", F_INT, .min = 0, .max = PORT_MAX),
	ROW(http_match, source_labels, "sourceLabels", F_STRING_MAP),
	ROW(http_match, gateways, "gateways", F_STRINGS),
	ROW(http_match, query_params, "queryParams", F_OBJECT_MAP, .table = &table_presence_match),
	ROW(http_match, ignore_uri_case, "ignoreUriCase", F_BOOL),
	ROW(http_match, without_headers, "withoutHeaders", F_OBJECT_MAP, .table = &table_presence_match),
	ROW(http_match, source_namespace, "sourceNamespace", F_STRING),
	ROW_NOTED(http_match, stat_prefix, "statPrefix", F_STRING, "no counters of its own for this route; the route's name stands in log and metrics"),
};
static const struct istio_table table_http_match = TABLE(http_match, "HTTPMatchRequest", http_match_rows, .check = check_http_match);

/* ---- headers ---- */

static bool is_header_value(const char *value)
{
	if (strlen(value) > DECODE_TEXT_MAX)
		return false;
	for (; *value; value++)
		if (((unsigned char)*value < 0x20 && *value != '\t') || *value == 0x7f)
			return false;
	return true;
}

static void check_header_map(struct istio_decode *d, const struct header_ops *o, const struct istio_string_map *map, const char *field)
{
	struct foil_error err = {0};

	if (map->n > HEADER_OPS_MAX)
		istio_decode_error(d, "IST0106", &o->head, field, "more than %d headers", HEADER_OPS_MAX);
	for (uint32_t i = 0; i < map->n; i++) {
		if (!istio_is_header_name(map->keys[i]))
			istio_decode_error(d, "IST0106", &o->head, field, "\"%.80s\" is not a header name", map->keys[i]);
		if (!is_header_value(map->values[i]))
			istio_decode_error(d, "IST0106", &o->head, field, "the value of \"%.80s\" holds a control character or is too long", map->keys[i]);
		else if (!istio_format_check_header(map->values[i], &err))
			istio_decode_error(d, "IST0106", &o->head, field, "the value of \"%.80s\": %s", map->keys[i], err.text);
		for (uint32_t j = 0; j < i; j++)
			if (strcasecmp(map->keys[i], map->keys[j]) == 0)
				istio_decode_error(d, "IST0106", &o->head, field, "\"%.80s\" stands twice, in different spelling", map->keys[i]);
	}
}

static void check_header_ops(struct istio_decode *d, void *object)
{
	struct header_ops *o = object;

	check_header_map(d, o, &o->set, "set");
	check_header_map(d, o, &o->add, "add");
	if (o->remove.n > HEADER_OPS_MAX)
		istio_decode_error(d, "IST0106", &o->head, "remove", "more than %d headers", HEADER_OPS_MAX);
	for (uint32_t i = 0; i < o->remove.n; i++)
		if (!istio_is_header_name(o->remove.list[i]))
			istio_decode_error(d, "IST0106", &o->head, "remove", "\"%.80s\" is not a header name", o->remove.list[i]);
}

static const struct istio_field header_ops_rows[] = {
	ROW(header_ops, set, "set", F_STRING_MAP, .is_free_text = true),
	ROW(header_ops, add, "add", F_STRING_MAP, .is_free_text = true),
	ROW(header_ops, remove, "remove", F_STRINGS),
};
static const struct istio_table table_header_ops = TABLE(header_ops, "HeaderOperations", header_ops_rows, .check = check_header_ops);

static const struct istio_field headers_rows[] = {
	ROW(headers, request, "request", F_OBJECT, .table = &table_header_ops),
	ROW(headers, response, "response", F_OBJECT, .table = &table_header_ops),
};
static const struct istio_table table_headers = TABLE(headers, "Headers", headers_rows);

static const struct istio_field route_destination_rows[] = {
	ROW(route_destination, destination, "destination", F_OBJECT, .table = &istio_table_destination),
	ROW(route_destination, weight, "weight", F_INT, .min = 0, .max = INT32_MAX_ROW),
	ROW(route_destination, headers, "headers", F_OBJECT, .table = &table_headers),
};

static void check_route_destination(struct istio_decode *d, void *object)
{
	struct route_destination *r = object;

	if (!r->destination)
		istio_decode_error(d, "IST0106", &r->head, "destination", "a route needs a destination");
}

static const struct istio_table table_route_destination =
	TABLE(route_destination, "HTTPRouteDestination", route_destination_rows, .check = check_route_destination);
static const struct istio_table table_l4_destination = {
	.what = "RouteDestination", .size = sizeof(struct route_destination), .fields = route_destination_rows, .n_fields = 2,
		.check = check_route_destination};

/* ---- actions ---- */

static const char *const derive_ports[] = {"FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT", NULL};
static const struct istio_field redirect_rows[] = {
	ROW(redirect, uri, "uri", F_STRING),
	ROW(redirect, authority, "authority", F_STRING),
	ROW(redirect, port, "port", F_INT, .min = 1, .max = PORT_MAX),
	ROW(redirect, derive_port, "derivePort", F_ENUM, .words = derive_ports),
	ROW(redirect, scheme, "scheme", F_STRING),
	ROW(redirect, redirect_code, "redirectCode", F_INT, .min = 0, .max = 999),
	ROW(redirect, prefix_rewrite, "prefixRewrite", F_STRING),
};

static void check_redirect(struct istio_decode *d, void *object)
{
	struct redirect *r = object;
	int64_t code = r->redirect_code.value;

	if (!r->uri && !r->authority && !r->scheme && !r->prefix_rewrite && !r->port.is_set && !r->derive_port.is_set && !r->redirect_code.is_set)
		istio_decode_error(d, "IST0106", &r->head, "", "a redirect must change something: uri, authority, scheme, port or prefixRewrite");
	if (code != 0 && code != 301 && code != 302 && code != 303 && code != 307 && code != 308)
		istio_decode_error(d, "IST0106", &r->head, "redirectCode", "must be 301, 302, 303, 307 or 308, not %lld", (long long)code);
	if (r->scheme && strcmp(r->scheme, "http") != 0 && strcmp(r->scheme, "https") != 0)
		istio_decode_error(d, "IST0106", &r->head, "scheme", "must be http or https, not \"%.40s\"", r->scheme);
	if (r->port.is_set && r->derive_port.is_set)
		istio_decode_error(d, "IST0106", &r->head, "derivePort", "port and derivePort exclude each other");
	if (r->uri && r->prefix_rewrite)
		istio_decode_error(d, "IST0106", &r->head, "prefixRewrite", "uri and prefixRewrite exclude each other");
	if (r->uri && r->uri[0] && r->uri[0] != '/')
		istio_decode_warning(d, "IST0106", &r->head, "uri", "\"%.80s\" does not begin with /", r->uri);
}

static const struct istio_table table_redirect = TABLE(redirect, "HTTPRedirect", redirect_rows, .check = check_redirect);

static void check_direct_body(struct istio_decode *d, void *object)
{
	struct direct_body *b = object;
	size_t n = b->bytes ? strlen(b->bytes) : 0;

	if (b->string && b->bytes)
		istio_decode_error(d, "IST0106", &b->head, "bytes", "string and bytes exclude each other");
	if (b->bytes && (n % 4 != 0 || strspn(b->bytes, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/") +
					       (n >= 1 && b->bytes[n - 1] == '=') + (n >= 2 && b->bytes[n - 2] == '=') != n))
		istio_decode_error(d, "IST0106", &b->head, "bytes", "not base64");
}

static const struct istio_field direct_body_rows[] = {
	ROW(direct_body, string, "string", F_STRING, .min = 0, .max = BODY_MAX, .is_free_text = true),
	ROW(direct_body, bytes, "bytes", F_STRING, .min = 0, .max = BODY_MAX / 3 * 4, .is_free_text = true),
};
static const struct istio_table table_direct_body = TABLE(direct_body, "HTTPBody", direct_body_rows, .check = check_direct_body);

static const struct istio_field direct_response_rows[] = {
	ROW(direct_response, status, "status", F_INT, .min = 200, .max = 599),
	ROW(direct_response, body, "body", F_OBJECT, .table = &table_direct_body),
};

static void check_direct_response(struct istio_decode *d, void *object)
{
	struct direct_response *r = object;

	if (!r->status.is_set)
		istio_decode_error(d, "IST0106", &r->head, "status", "a direct response needs a status");
	if (r->body && r->body->string && strlen(r->body->string) > 100 << 10)
		istio_decode_warning(d, "IST0106", &r->head, "body.string", "a body of more than 100 KiB in a configuration: serve it from a backend");
}

static const struct istio_table table_direct_response =
	TABLE(direct_response, "HTTPDirectResponse", direct_response_rows, .check = check_direct_response);

static const struct istio_field delegate_rows[] = {
	ROW(delegate, name, "name", F_STRING, .min = 1, .max = 253),
	ROW(delegate, namespace, "namespace", F_STRING),
};
static const struct istio_table table_delegate = TABLE(delegate, "Delegate", delegate_rows);

static void check_regex_rewrite(struct istio_decode *d, void *object)
{
	struct regex_rewrite *r = object;
	struct foil_error err = {0};

	if (!r->match || !r->match[0]) {
		istio_decode_error(d, "IST0106", &r->head, "match", "needs a regular expression");
		return;
	}
	struct foil_regex *re = foil_regex_new(foil_slice_str(r->match), false, &err);
	if (!re)
		istio_decode_error(d, "IST0106", &r->head, "match", "%s", err.text);
	foil_regex_free(re);
	for (const char *p = r->rewrite ? strchr(r->rewrite, '\\') : NULL; p; p = strchr(p + 2, '\\')) {
		if (p[1] != '\\' && !isdigit((unsigned char)p[1])) {
			istio_decode_error(d, "IST0106", &r->head, "rewrite", "a backslash that is not before a digit or a backslash");
			return;
		}
	}
}

static const struct istio_field regex_rewrite_rows[] = {
	ROW(regex_rewrite, match, "match", F_STRING, .min = 0, .max = 1024),
	ROW(regex_rewrite, rewrite, "rewrite", F_STRING),
};
static const struct istio_table table_regex_rewrite = TABLE(regex_rewrite, "RegexRewrite", regex_rewrite_rows, .check = check_regex_rewrite);

static const struct istio_field rewrite_rows[] = {
	ROW(rewrite, uri, "uri", F_STRING),
	ROW(rewrite, authority, "authority", F_STRING),
	ROW(rewrite, uri_regex_rewrite, "uriRegexRewrite", F_OBJECT, .table = &table_regex_rewrite),
};

static void check_rewrite(struct istio_decode *d, void *object)
{
	struct rewrite *r = object;

	if (!r->uri && !r->authority && !r->uri_regex_rewrite)
		istio_decode_error(d, "IST0106", &r->head, "", "a rewrite must change something: uri, authority or uriRegexRewrite");
	if (r->uri && r->uri_regex_rewrite)
		istio_decode_error(d, "IST0106", &r->head, "uriRegexRewrite", "uri and uriRegexRewrite exclude each other");
}

static const struct istio_table table_rewrite = TABLE(rewrite, "HTTPRewrite", rewrite_rows, .check = check_rewrite);

bool istio_is_retry_word(const char *word, size_t n)
{
	static const char *const words[] = {"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx",
					    "refused-stream", "retriable-status-codes", "retriable-headers", "http3-post-connect-failure", "cancelled",
					    "deadline-exceeded", "internal", "resource-exhausted", "unavailable"};

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		if (strlen(words[i]) == n && memcmp(words[i], word, n) == 0)
			return true;
	if (n != 3 || strspn(word, "0123456789") < 3)
		return false;
	return word[0] >= '1' && word[0] <= '5';
}

static void check_retries(struct istio_decode *d, void *object)
{
	struct retries *r = object;

	for (const char *p = r->retry_on; p && *p;) {
		size_t n = strcspn(p, ","), before = strspn(p, " \t");
		size_t word = n;
		while (word > before && (p[word - 1] == ' ' || p[word - 1] == '\t'))
			word--;
		if (!istio_is_retry_word(p + before, word - (before < word ? before : word)))
			istio_decode_error(d, "IST0106", &r->head, "retryOn", "\"%.*s\" is neither a retry condition of Envoy nor an HTTP status",
					   (int)(n < 60 ? n : 60), p);
		p += n + (p[n] == ',');
	}
	if (!r->attempts.is_set && r->retry_on)
		istio_decode_warning(d, "HF0007", &r->head, "attempts", "attempts is not set, which means 0: there will be no retries");
}

static const struct istio_field retries_rows[] = {
	ROW(retries, attempts, "attempts", F_INT, .min = 0, .max = 65535),
	ROW(retries, per_try_timeout, "perTryTimeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(retries, retry_on, "retryOn", F_STRING),
	ROW(retries, retry_remote_localities, "retryRemoteLocalities", F_BOOL),
	ROW(retries, retry_ignore_previous_hosts, "retryIgnorePreviousHosts", F_BOOL),
	ROW(retries, backoff, "backoff", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX / 10),
};
const struct istio_table istio_table_retries = TABLE(retries, "HTTPRetry", retries_rows, .check = check_retries);

static const char percent_note[] = "the deprecated whole-number percent is used; write percentage: {value: N}";
static const struct istio_field delay_rows[] = {
	ROW_NOTED(fault_delay, percent, "percent", F_INT, percent_note, .min = 0, .max = 100),
	ROW(fault_delay, fixed_delay, "fixedDelay", F_DURATION, .min = DURATION_US_MIN, .max = DURATION_US_MAX),
	ROW_REFUSED("exponentialDelay", "Istio does not implement it either; use fixedDelay"),
	ROW(fault_delay, percentage, "percentage", F_OBJECT, .table = &istio_table_percent),
};

static void check_delay(struct istio_decode *d, void *object)
{
	struct fault_delay *f = object;

	if (!f->fixed_delay.is_set)
		istio_decode_error(d, "IST0106", &f->head, "fixedDelay", "a delay needs fixedDelay");
	if (!f->percentage && !f->percent.is_set)
		istio_decode_warning(d, "HF0007", &f->head, "percentage", "percentage is not set, which means 0: no request is delayed");
}

static const struct istio_table table_delay = TABLE(fault_delay, "Delay", delay_rows, .check = check_delay);

static const char *const grpc_codes[] = {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
					 "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
					 "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED", NULL};
static const struct istio_field abort_rows[] = {
	ROW_NOTED(fault_abort, percent, "percent", F_INT, percent_note, .min = 0, .max = 100),
	ROW(fault_abort, http_status, "httpStatus", F_INT, .min = 200, .max = 599),
	ROW(fault_abort, grpc_status, "grpcStatus", F_ENUM, .words = grpc_codes),
	ROW_REFUSED("http2Error", "Istio does not implement it either; use httpStatus or grpcStatus"),
	ROW(fault_abort, percentage, "percentage", F_OBJECT, .table = &istio_table_percent),
};

static void check_abort(struct istio_decode *d, void *object)
{
	struct fault_abort *f = object;

	if (f->http_status.is_set == f->grpc_status.is_set)
		istio_decode_error(d, "IST0106", &f->head, "", "an abort needs one of httpStatus and grpcStatus");
	if (!f->percentage && !f->percent.is_set)
		istio_decode_warning(d, "HF0007", &f->head, "percentage", "percentage is not set, which means 0: no request is aborted");
}

static const struct istio_table table_abort = TABLE(fault_abort, "Abort", abort_rows, .check = check_abort);

static const struct istio_field fault_rows[] = {
	ROW(fault, delay, "delay", F_OBJECT, .table = &table_delay),
	ROW(fault, abort, "abort", F_OBJECT, .table = &table_abort),
};

static void check_fault(struct istio_decode *d, void *object)
{
	struct fault *f = object;

	if (!f->delay && !f->abort)
		istio_decode_error(d, "IST0106", &f->head, "", "a fault needs delay, abort or both");
}

static const struct istio_table table_fault = TABLE(fault, "HTTPFaultInjection", fault_rows, .check = check_fault);

static void check_mirror(struct istio_decode *d, void *object)
{
	struct mirror *m = object;

	if (!m->destination)
		istio_decode_error(d, "IST0106", &m->head, "destination", "a mirror needs a destination");
}

static const struct istio_field mirror_rows[] = {
	ROW(mirror, destination, "destination", F_OBJECT, .table = &istio_table_destination),
	ROW(mirror, percentage, "percentage", F_OBJECT, .table = &istio_table_percent),
};
static const struct istio_table table_mirror = TABLE(mirror, "HTTPMirrorPolicy", mirror_rows, .check = check_mirror);

static const char *const preflights[] = {"UNSPECIFIED", "FORWARD", "IGNORE", NULL};
static const struct istio_field cors_rows[] = {
	ROW_NOTED(cors, allow_origin, "allowOrigin", F_STRINGS, "deprecated: write allowOrigins: [{exact: ...}]", .min = 0, .max = 1000),
	ROW(cors, allow_origins, "allowOrigins", F_OBJECTS, .table = &istio_table_string_match, .min = 0, .max = 1000),
	ROW(cors, allow_methods, "allowMethods", F_STRINGS),
	ROW(cors, allow_headers, "allowHeaders", F_STRINGS),
	ROW(cors, expose_headers, "exposeHeaders", F_STRINGS),
	ROW(cors, max_age, "maxAge", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(cors, allow_credentials, "allowCredentials", F_BOOL),
	ROW(cors, unmatched_preflights, "unmatchedPreflights", F_ENUM, .words = preflights),
};
static const struct istio_table table_cors = TABLE(cors, "CorsPolicy", cors_rows);

/* ---- routes ---- */

static void check_weights(struct istio_decode *d, const struct istio_head *head, const struct istio_list *route)
{
	int64_t sum = 0;

	for (uint32_t i = 0; i < route->n; i++)
		sum += ISTIO_ITEM(*route, struct route_destination, i)->weight.value;
	if (sum > UINT32_MAX)
		istio_decode_error(d, "IST0106", head, "route", "the weights add up to more than %u", UINT32_MAX);
	if (route->n > 1 && sum == 0)
		istio_decode_error(d, "IST0106", head, "route", "total destination weight = 0: give at least one destination a weight");
}

static int n_authorities(const struct istio_string_map *map)
{
	int n = 0;

	for (uint32_t i = 0; i < map->n; i++)
		n += strcasecmp(map->keys[i], "host") == 0 || strcasecmp(map->keys[i], ":authority") == 0;
	return n;
}

/* VS-23: one word about Host, of the destination's alone which it overrules. */
static void check_authority(struct istio_decode *d, const struct http_route *r)
{
	const struct header_ops *ops = r->headers ? r->headers->request : NULL;
	int n = ops ? n_authorities(&ops->set) + n_authorities(&ops->add) : 0;

	if (n > 1 || (n == 1 && r->rewrite && r->rewrite->authority && r->rewrite->authority[0]))
		istio_decode_warning(d, "HF0007", &r->head, "headers", "the authority (Host) is set more than once, which Istio refuses: "
				     "rewrite.authority goes before set, and set before add");
}

static void check_http_route(struct istio_decode *d, void *object)
{
	struct http_route *r = object;
	int n_actions = (r->route.n > 0) + (r->redirect != NULL) + (r->direct_response != NULL) + (r->delegate != NULL);

	if (n_actions == 0)
		istio_decode_error(d, "IST0106", &r->head, "", "needs one of route, redirect, directResponse and delegate");
	else if (n_actions > 1)
		istio_decode_error(d, "IST0106", &r->head, "", "only one of route, redirect, directResponse and delegate can be set");
	if (r->rewrite && (r->redirect || r->direct_response))
		istio_decode_error(d, "IST0106", &r->head, "rewrite", "rewrite goes with route only");
	if (r->fault && (r->redirect || r->direct_response))
		istio_decode_warning(d, "HF0007", &r->head, "fault", "fault goes with route only (Istio refuses it here)");
	check_authority(d, r);
	if (r->mirror && r->mirrors.n)
		istio_decode_error(d, "IST0106", &r->head, "mirrors", "mirror and mirrors exclude each other");
	if (!r->mirror && (r->mirror_percentage || r->mirror_percent.is_set))
		istio_decode_warning(d, "HF0007", &r->head, r->mirror_percentage ? "mirrorPercentage" : "mirrorPercent", "has no effect without mirror");
	check_weights(d, &r->head, &r->route);
}

static const struct istio_field http_route_rows[] = {
	ROW(http_route, name, "name", F_STRING),
	ROW(http_route, match, "match", F_OBJECTS, .table = &table_http_match),
	ROW(http_route, route, "route", F_OBJECTS, .table = &table_route_destination, .min = 0, .max = DESTINATIONS_MAX),
	ROW(http_route, redirect, "redirect", F_OBJECT, .table = &table_redirect),
	ROW(http_route, direct_response, "directResponse", F_OBJECT, .table = &table_direct_response),
	ROW(http_route, delegate, "delegate", F_OBJECT, .table = &table_delegate),
	ROW(http_route, rewrite, "rewrite", F_OBJECT, .table = &table_rewrite),
	ROW(http_route, timeout, "timeout", F_DURATION, .min = 0, .max = DURATION_US_MAX),
	ROW(http_route, retries, "retries", F_OBJECT, .table = &istio_table_retries),
	ROW(http_route, fault, "fault", F_OBJECT, .table = &table_fault),
	ROW(http_route, mirror, "mirror", F_OBJECT, .table = &istio_table_destination),
	ROW(http_route, mirrors, "mirrors", F_OBJECTS, .table = &table_mirror, .min = 0, .max = 15),
	ROW_NOTED(http_route, mirror_percent, "mirrorPercent", F_INT, "deprecated: write mirrorPercentage: {value: N}", .min = 0, .max = 100),
	ROW(http_route, mirror_percentage, "mirrorPercentage", F_OBJECT, .table = &istio_table_percent),
	ROW(http_route, cors, "corsPolicy", F_OBJECT, .table = &table_cors),
	ROW(http_route, headers, "headers", F_OBJECT, .table = &table_headers),
};
static const struct istio_table table_http_route = TABLE(http_route, "HTTPRoute", http_route_rows, .check = check_http_route);

static void check_l4_match(struct istio_decode *d, void *object)
{
	struct l4_match *m = object;

	for (uint32_t i = 0; i < m->destination_subnets.n; i++)
		if (!istio_is_cidr(m->destination_subnets.list[i]))
			istio_decode_error(d, "IST0106", &m->head, "destinationSubnets", "\"%.60s\" is not an address with or without /length",
				     m->destination_subnets.list[i]);
	for (uint32_t i = 0; i < m->sni_hosts.n; i++)
		if (!istio_is_host(m->sni_hosts.list[i], true))
			istio_decode_error(d, "IST0106", &m->head, "sniHosts", "\"%.80s\" is not a host", m->sni_hosts.list[i]);
}

static const struct istio_field tcp_match_rows[] = {
	ROW(l4_match, destination_subnets, "destinationSubnets", F_STRINGS),
	ROW(l4_match, port, "port", F_INT, .min = 0, .max = PORT_MAX),
	ROW_REFUSED("sourceSubnet", "Istio's Envoy path does not implement it either"),
	ROW(l4_match, source_labels, "sourceLabels", F_STRING_MAP),
	ROW(l4_match, gateways, "gateways", F_STRINGS),
	ROW(l4_match, source_namespace, "sourceNamespace", F_STRING),
};
static const struct istio_table table_tcp_match = TABLE(l4_match, "L4MatchAttributes", tcp_match_rows, .check = check_l4_match);

static const struct istio_field tls_match_rows[] = {
	ROW(l4_match, sni_hosts, "sniHosts", F_STRINGS),
	ROW(l4_match, destination_subnets, "destinationSubnets", F_STRINGS),
	ROW(l4_match, port, "port", F_INT, .min = 0, .max = PORT_MAX),
	ROW(l4_match, source_labels, "sourceLabels", F_STRING_MAP),
	ROW(l4_match, gateways, "gateways", F_STRINGS),
	ROW(l4_match, source_namespace, "sourceNamespace", F_STRING),
};

static void check_tls_match(struct istio_decode *d, void *object)
{
	struct l4_match *m = object;

	if (m->sni_hosts.n == 0)
		istio_decode_error(d, "IST0106", &m->head, "sniHosts", "a TLS match needs sniHosts");
	check_l4_match(d, object);
}

static const struct istio_table table_tls_match = TABLE(l4_match, "TLSMatchAttributes", tls_match_rows, .check = check_tls_match);

static void check_l4_route(struct istio_decode *d, void *object)
{
	struct l4_route *r = object;

	if (r->route.n == 0)
		istio_decode_error(d, "IST0106", &r->head, "route", "needs at least one destination");
	check_weights(d, &r->head, &r->route);
}

static const struct istio_field tcp_route_rows[] = {
	ROW(l4_route, match, "match", F_OBJECTS, .table = &table_tcp_match),
	ROW(l4_route, route, "route", F_OBJECTS, .table = &table_l4_destination, .min = 0, .max = DESTINATIONS_MAX),
};
static const struct istio_table table_tcp_route = TABLE(l4_route, "TCPRoute", tcp_route_rows, .check = check_l4_route);

static void check_tls_route(struct istio_decode *d, void *object)
{
	struct l4_route *r = object;

	if (r->match.n == 0)
		istio_decode_error(d, "IST0106", &r->head, "match", "a TLS route needs a match with sniHosts");
	check_l4_route(d, object);
}

static const struct istio_field tls_route_rows[] = {
	ROW(l4_route, match, "match", F_OBJECTS, .table = &table_tls_match),
	ROW(l4_route, route, "route", F_OBJECTS, .table = &table_l4_destination, .min = 0, .max = DESTINATIONS_MAX),
};
static const struct istio_table table_tls_route = TABLE(l4_route, "TLSRoute", tls_route_rows, .check = check_tls_route);

/* Every name of narrow is one of wide. */
static bool is_within(const char *wide, const char *narrow)
{
	size_t n_wide = strlen(wide), n_narrow = strlen(narrow);

	if (wide[0] != '*')
		return strcasecmp(wide, narrow) == 0;
	return n_narrow >= n_wide && strcasecmp(narrow + n_narrow - (n_wide - 1), wide + 1) == 0;
}

/* VS-57 */
static void check_server_names(struct istio_decode *d, const struct virtual_service *v, const struct l4_match *m)
{
	for (uint32_t i = 0; i < m->sni_hosts.n; i++) {
		uint32_t at = 0;
		while (at < v->hosts.n && !is_within(v->hosts.list[at], m->sni_hosts.list[i]))
			at++;
		if (at == v->hosts.n)
			istio_decode_warning(d, "HF0007", &m->head, "sniHosts", "\"%.80s\" is not among the hosts of the VirtualService (Istio refuses it)",
					     m->sni_hosts.list[i]);
	}
}

static void check_virtual_service(struct istio_decode *d, void *object)
{
	struct virtual_service *v = object;

	if (v->http.n + v->tcp.n + v->tls.n == 0)
		istio_decode_error(d, "IST0106", &v->head, "", "needs at least one rule in http, tcp or tls");
	if (v->hosts.n == 0) { /* a delegate */
		if (v->gateways.n || v->tcp.n || v->tls.n)
			istio_decode_error(d, "IST0106", &v->head, "hosts", "without hosts this is a delegate, which has http rules only: give it hosts, or "
					   "remove gateways, tcp and tls");
		for (uint32_t i = 0; i < v->http.n; i++)
			if (ISTIO_ITEM(v->http, struct http_route, i)->delegate)
				istio_decode_error(d, "IST0106", &v->head, "http", "a delegate cannot delegate further");
	}
	for (uint32_t i = 0; i < v->hosts.n; i++)
		if (!istio_is_host(v->hosts.list[i], true) && !istio_is_ip(v->hosts.list[i]))
			istio_decode_error(d, "IST0106", &v->head, "hosts", "\"%.80s\" is not a host: a DNS name, \"*.example.com\", \"*\" or an address",
					   v->hosts.list[i]);
	for (uint32_t i = 0; v->hosts.n && i < v->tls.n; i++) {
		const struct l4_route *r = ISTIO_ITEM(v->tls, struct l4_route, i);
		for (uint32_t j = 0; j < r->match.n; j++)
			check_server_names(d, v, ISTIO_ITEM(r->match, struct l4_match, j));
	}
}

static const struct istio_field virtual_service_rows[] = {
	ROW(virtual_service, hosts, "hosts", F_STRINGS, .min = 0, .max = 10000),
	ROW(virtual_service, gateways, "gateways", F_STRINGS),
	ROW(virtual_service, http, "http", F_OBJECTS, .table = &table_http_route, .min = 0, .max = 20000),
	ROW(virtual_service, tls, "tls", F_OBJECTS, .table = &table_tls_route, .min = 0, .max = 20000),
	ROW(virtual_service, tcp, "tcp", F_OBJECTS, .table = &table_tcp_route, .min = 0, .max = 20000),
	ROW(virtual_service, export_to, "exportTo", F_STRINGS),
};
const struct istio_table istio_table_virtual_service = TABLE(virtual_service, "VirtualService", virtual_service_rows, .check = check_virtual_service);
