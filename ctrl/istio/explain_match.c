/* The matching of explain: the rules of features.md VS-2 and VS-8..VS-13 on the packed snapshot, with a reason for every no. The data plane has its
 * own, fast ones; tests/unit/istio compares the two. */
#include "ctrl/istio/explain_priv.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "dataplane/core/error.h"
#include "dataplane/core/regex.h"

#define VALUE_MAX 4096

/* ---- strings ---- */

static bool regex_matches(const char *pattern, const char *text, bool ignore_case)
{
	struct foil_regex *re = foil_regex_new(foil_slice_str(pattern), ignore_case, NULL);
	bool matches = re && foil_regex_full_match(re, foil_slice_str(text));

	foil_regex_free(re);
	return matches;
}

static bool begins(const char *text, const char *with, bool ignore_case)
{
	size_t n = strlen(with);

	return strlen(text) >= n && (ignore_case ? strncasecmp(text, with, n) == 0 : strncmp(text, with, n) == 0);
}

static bool contains(const char *text, const char *part, bool ignore_case)
{
	return ignore_case ? strcasestr(text, part) != NULL : strstr(text, part) != NULL;
}

static bool string_matches(const Foil__Conf__StringMatch *m, const char *value)
{
	size_t n = strlen(value);

	switch (m->kind_case) {
	case FOIL__CONF__STRING_MATCH__KIND_EXACT:
		return m->ignore_case ? strcasecmp(value, m->exact) == 0 : strcmp(value, m->exact) == 0;
	case FOIL__CONF__STRING_MATCH__KIND_PREFIX:
		return begins(value, m->prefix, m->ignore_case);
	case FOIL__CONF__STRING_MATCH__KIND_SUFFIX:
		return n >= strlen(m->suffix) && begins(value + n - strlen(m->suffix), m->suffix, m->ignore_case);
	case FOIL__CONF__STRING_MATCH__KIND_CONTAINS:
		return contains(value, m->contains, m->ignore_case);
	case FOIL__CONF__STRING_MATCH__KIND_REGEX:
		return regex_matches(m->regex, value, m->ignore_case);
	case FOIL__CONF__STRING_MATCH__KIND_PRESENT:
		return true;
	default:
		return false;
	}
}

static const char *wanted(const Foil__Conf__StringMatch *m, char *out, size_t n)
{
	switch (m->kind_case) {
	case FOIL__CONF__STRING_MATCH__KIND_EXACT: (void)snprintf(out, n, "exactly \"%s\"", m->exact); break; /* cut, here and below */
	case FOIL__CONF__STRING_MATCH__KIND_PREFIX: (void)snprintf(out, n, "with the prefix \"%s\"", m->prefix); break;
	case FOIL__CONF__STRING_MATCH__KIND_SUFFIX: (void)snprintf(out, n, "with the suffix \"%s\"", m->suffix); break;
	case FOIL__CONF__STRING_MATCH__KIND_CONTAINS: (void)snprintf(out, n, "with \"%s\" in it", m->contains); break;
	case FOIL__CONF__STRING_MATCH__KIND_REGEX: (void)snprintf(out, n, "like %s", m->regex); break;
	default: (void)snprintf(out, n, "present"); break;
	}
	return out;
}

/* ---- headers ---- */

static const char *pseudo_value(const struct istio_request *r, const char *name)
{
	const struct {
		const char *name, *value;
	} pseudo[] = {{":method", r->method ? r->method : "GET"}, {":scheme", r->scheme ? r->scheme : "http"},
		      {":authority", r->authority ? r->authority : ""}, {":path", r->path ? r->path : "/"}};

	for (size_t i = 0; i < sizeof(pseudo) / sizeof(pseudo[0]); i++)
		if (strcmp(name, pseudo[i].name) == 0)
			return pseudo[i].value;
	return NULL;
}

/* Does one of the lines of that name match, each by itself as in the data plane? shown: all of them, for the sentence; *found: there is one. */
static bool line_matches(const Foil__Conf__HeaderMatch *m, const struct istio_request *r, char *shown, size_t n_shown, bool *found)
{
	const char *pseudo = pseudo_value(r, m->name);
	bool matches = false;
	size_t n = 0;

	*found = pseudo != NULL;
	(void)snprintf(shown, n_shown, "%s", pseudo ? pseudo : ""); /* cut, as below */
	if (pseudo)
		return string_matches(m->value, pseudo);
	for (size_t i = 0; i < r->n_headers; i++) {
		if (strcasecmp(r->header_names[i], m->name) != 0)
			continue;
		n += (size_t)snprintf(shown + n, n_shown - n, "%s%s", *found ? "\", \"" : "", r->header_values[i]);
		n = n < n_shown ? n : n_shown - 1;
		matches = matches || string_matches(m->value, r->header_values[i]);
		*found = true;
	}
	return *found ? matches : string_matches(m->value, "");
}

static bool header_matches(const Foil__Conf__HeaderMatch *m, const struct istio_request *r, char *why, size_t n_why)
{
	char shown[VALUE_MAX], want[256];
	bool found, invert = m->invert, as_empty = m->treat_missing_as_empty;
	bool matches = line_matches(m, r, shown, sizeof(shown), &found);

	if (!found && !as_empty) {
		if (invert)
			return true;
		(void)snprintf(why, n_why, "header %s is absent, wanted %s", m->name, wanted(m->value, want, sizeof(want))); /* cut */
		return false;
	}
	if (matches != invert)
		return true;
	(void)snprintf(why, n_why, "header %s is \"%.200s\", wanted %s%s", m->name, shown, invert ? "not " : "", wanted(m->value, want, sizeof(want)));
		/* cut */
	return false;
}

/* ---- query ---- */

/* The first value of a name, as it stands; false: it is not there. */
static bool query_value(const char *path, const char *name, char *out, size_t n_out)
{
	const char *p = path ? strchr(path, '?') : NULL;
	size_t n_name = strlen(name);

	for (p = p ? p + 1 : NULL; p && *p;) {
		size_t n = strcspn(p, "&#"), n_key = strcspn(p, "=&#");
		if (n_key == n_name && memcmp(p, name, n_name) == 0) {
			(void)snprintf(out, n_out, "%.*s", (int)(n > n_key ? n - n_key - 1 : 0), p + n_key + (n > n_key)); /* cut */
			return true;
		}
		p = p[n] == '&' ? p + n + 1 : NULL;
	}
	return false;
}

static bool query_matches(const Foil__Conf__QueryMatch *m, const struct istio_request *r, char *why, size_t n_why)
{
	char value[VALUE_MAX], want[256];

	if (!query_value(r->path, m->name, value, sizeof(value))) {
		(void)snprintf(why, n_why, "query parameter %s is absent", m->name); /* cut */
		return false;
	}
	if (string_matches(m->value, value))
		return true;
	(void)snprintf(why, n_why, "query parameter %s is \"%.200s\", wanted %s", m->name, value, wanted(m->value, want, sizeof(want))); /* cut */
	return false;
}

/* ---- path ---- */

static bool path_matches(const Foil__Conf__RouteMatch *m, const struct istio_request *r, char *why, size_t n_why)
{
	char path[VALUE_MAX];
	const char *whole = r->path && r->path[0] ? r->path : "/", *pattern = m->path ? m->path : "/";
	size_t n = strlen(pattern);
	bool matches = false;

	(void)snprintf(path, sizeof(path), "%.*s", (int)strcspn(whole, "?#"), whole); /* cut */
	switch (m->path_kind) {
	case FOIL__CONF__PATH_MATCH_KIND__PATH_EXACT:
		matches = m->ignore_case ? strcasecmp(path, pattern) == 0 : strcmp(path, pattern) == 0;
		(void)snprintf(why, n_why, "path is %.200s, wanted exactly %s", path, pattern);
		break;
	case FOIL__CONF__PATH_MATCH_KIND__PATH_REGEX:
		matches = regex_matches(pattern, path, false);
		(void)snprintf(why, n_why, "path %.200s is not like %s", path, pattern);
		break;
	case FOIL__CONF__PATH_MATCH_KIND__PATH_SEGMENT_PREFIX:
		n -= n > 1 && pattern[n - 1] == '/';
		matches = strncmp(path, pattern, n) == 0 && (n == 1 || path[n] == 0 || path[n] == '/');
		(void)snprintf(why, n_why, "path %.200s is not below %s", path, pattern);
		break;
	default:
		matches = begins(path, pattern, m->ignore_case);
		(void)snprintf(why, n_why, "path %.200s does not begin with %s", path, pattern);
		break;
	}
	return matches;
}

bool istio_explain_route_matches(const Foil__Conf__RouteMatch *m, const struct istio_request *r, char *why, size_t n_why)
{
	if (!path_matches(m, r, why, n_why))
		return false;
	for (size_t i = 0; i < m->n_headers; i++)
		if (!header_matches(m->headers[i], r, why, n_why))
			return false;
	for (size_t i = 0; i < m->n_query; i++)
		if (!query_matches(m->query[i], r, why, n_why))
			return false;
	return true;
}

/* ---- virtual hosts ---- */

/* 0: no match; else the more, the more specific (VS-2). */
static size_t specificity(const char *domain, const char *host)
{
	size_t n = strlen(domain), n_host = strlen(host);

	if (strcmp(domain, host) == 0)
		return 1u << 20;
	if (strcmp(domain, "*") == 0)
		return 1;
	if (domain[0] == '*' && n_host >= n && strcmp(host + n_host - (n - 1), domain + 1) == 0)
		return (1u << 16) + n;
	if (n > 1 && domain[n - 1] == '*' && n_host >= n && strncmp(host, domain, n - 1) == 0)
		return 2 + n;
	return 0;
}

const Foil__Conf__VirtualHost *istio_explain_vhost(const Foil__Conf__RouteConfig *routes, const char *authority, const char **domain)
{
	char host[1024];
	const Foil__Conf__VirtualHost *best = NULL;
	size_t best_of = 0;

	(void)snprintf(host, sizeof(host), "%s", authority ? authority : ""); /* cut */
	char *colon = strrchr(host, ':');
	if (colon && !strchr(colon, ']'))
		*colon = 0; /* ports do not matter (GW-18) */
	for (char *c = host; *c; c++)
		*c = (char)tolower((unsigned char)*c);
	for (size_t i = 0; i < routes->n_virtual_hosts; i++) {
		const Foil__Conf__VirtualHost *v = routes->virtual_hosts[i];
		for (size_t j = 0; j < v->n_domains; j++) {
			size_t s = specificity(v->domains[j], host);
			if (s > best_of) {
				best = v;
				best_of = s;
				*domain = v->domains[j];
			}
		}
	}
	return best;
}
