/* See strangers.h. http-parser is no validator, the less as Debian builds it: what it passes over (a space in a name, a line that ends in LF alone, anything
 * for the CRLF behind a chunk, an odd coding) is looked at here, by the letter of RFC 9112; and where it is wrong (methods and names that it takes for
 * others) it is shown something else, and told apart here. */
#include <http_parser.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "tests/fuzz/strangers.h"

void text_add(struct text *t, const void *data, size_t n)
{
	if (n == 0)
		return;
	if (t->n + n > t->cap) {
		t->cap = 2 * (t->n + n);
		t->at = realloc(t->at, t->cap);
		if (!t->at)
			abort();
	}
	memcpy(&t->at[t->n], data, n);
	t->n += n;
}

void text_field(struct text *t, const void *name, size_t n_name, const void *value, size_t n_value)
{
	char number[32];

	text_add(t, number, (size_t)snprintf(number, sizeof(number), "%zu:", n_name));
	text_add(t, name, n_name);
	text_add(t, number, (size_t)snprintf(number, sizeof(number), "=%zu:", n_value));
	text_add(t, value, n_value);
	text_add(t, "\n", 1);
}

bool text_same(const struct text *a, const struct text *b)
{
	return a->n == b->n && (a->n == 0 || memcmp(a->at, b->at, a->n) == 0);
}

void message_clear(struct message *m)
{
	struct text *const all[] = {&m->start, &m->authority, &m->fields, &m->connection, &m->body, &m->trailers, &m->after};
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		free(all[i]->at);
	memset(m, 0, sizeof(*m));
}

void message_print(const struct message *m)
{
	fprintf(stderr, "start %.*sauthority (%u) %.*s\n%.*sconnection (%u) %.*s\n%u lengths (%llu), %u codings\n", (int)m->start.n, m->start.at, m->n_hosts,
		(int)m->authority.n, m->authority.at, (int)m->fields.n, m->fields.at, m->n_connections, (int)m->connection.n, m->connection.at,
		m->n_lengths, (unsigned long long)m->length, m->n_codings);
	fprintf(stderr, "body %zu:%.*s\ntrailers %.*s\nafter %zu:%.*s\n%s%s%s\n", m->body.n, (int)(m->body.n > 200 ? 200 : m->body.n), m->body.at,
		(int)m->trailers.n, m->trailers.at, m->after.n, (int)(m->after.n > 200 ? 200 : m->after.n), m->after.at, m->is_whole ? "whole" : "not whole",
		m->is_switched ? ", switched" : "", m->is_reset ? ", reset" : "");
}

void heard_clear(struct heard *h)
{
	for (unsigned int i = 0; i < h->n; i++)
		message_clear(&h->list[i]);
	h->n = 0;
	h->fault[0] = 0;
}

void heard_fault(struct heard *h, const char *fmt, ...)
{
	va_list ap;

	if (h->fault[0])
		return; /* the first one says most */
	va_start(ap, fmt);
	(void)vsnprintf(h->fault, sizeof(h->fault), fmt, ap);
	va_end(ap);
}

#define CODING "transfer-encoding"
#define OTHER_LETTER 'u'

struct reader {
	http_parser p;
	struct heard *h;
	struct text name, value, target, method; /* method: one that http-parser does not know */
	const char *shown, *as_sent; /* what http-parser sees, and the same bytes with the names that they have */
	bool is_field, is_trailers, is_to_head;
};

static struct message *last(struct reader *r)
{
	return &r->h->list[r->h->n - 1];
}

static bool name_is(const struct reader *r, const char *name)
{
	return r->name.n == strlen(name) && strncasecmp(r->name.at, name, r->name.n) == 0;
}

static bool is_token(const struct text *t)
{
	for (size_t i = 0; i < t->n; i++)
		if ((unsigned char)t->at[i] <= ' ' || (unsigned char)t->at[i] >= 127 || strchr("\"(),/:;<=>?@[\\]{}", t->at[i]))
			return false;
	return t->n > 0;
}

static void length_is(struct reader *r)
{
	struct message *m = last(r);

	m->n_lengths++;
	for (size_t i = 0; i < r->value.n; i++) {
		if (r->value.at[i] < '0' || r->value.at[i] > '9')
			heard_fault(r->h, "a length that is no number");
		m->length = m->length * 10 + (uint64_t)(r->value.at[i] - '0');
	}
}

static void field_ends(struct reader *r)
{
	struct message *m;

	if (!r->is_field)
		return;
	r->is_field = false;
	m = last(r);
	if (!is_token(&r->name))
		heard_fault(r->h, "a name that is no token");
	if (r->is_trailers) {
		text_field(&m->trailers, r->name.at, r->name.n, r->value.at, r->value.n);
	} else if (name_is(r, "host") && r->p.type == HTTP_REQUEST) {
		m->n_hosts++;
		text_add(&m->authority, r->value.at, r->value.n);
		if (m->fields.n)
			heard_fault(r->h, "host is not the first");
	} else if (name_is(r, "connection")) {
		m->n_connections++;
		text_add(&m->connection, r->value.at, r->value.n);
	} else if (name_is(r, "content-length")) {
		length_is(r);
	} else if (name_is(r, "transfer-encoding")) {
		m->n_codings++;
		if (r->value.n != 7 || memcmp(r->value.at, "chunked", 7) != 0)
			heard_fault(r->h, "a coding other than chunked");
	} else {
		text_field(&m->fields, r->name.at, r->name.n, r->value.at, r->value.n);
	}
	r->name.n = r->value.n = 0;
}

static int on_begin(http_parser *p)
{
	struct reader *r = p->data;

	if (r->h->n == MESSAGES_MAX)
		return 1;
	r->h->n++;
	r->is_trailers = false;
	r->target.n = 0;
	return 0;
}

static int on_url(http_parser *p, const char *at, size_t n)
{
	text_add(&((struct reader *)p->data)->target, at, n);
	return 0;
}

static int on_name(http_parser *p, const char *at, size_t n)
{
	struct reader *r = p->data;

	field_ends(r);
	text_add(&r->name, r->as_sent + (at - r->shown), n);
	return 0;
}

static int on_value(http_parser *p, const char *at, size_t n)
{
	struct reader *r = p->data;

	r->is_field = true;
	text_add(&r->value, at, n);
	return 0;
}

static int on_head(http_parser *p)
{
	struct reader *r = p->data;
	struct message *m = last(r);
	char status[16];

	field_ends(r);
	r->is_trailers = true;
	if (p->http_major != 1)
		heard_fault(r->h, "version %u.%u", p->http_major, p->http_minor);
	m->status = p->status_code;
	if (p->type == HTTP_RESPONSE) {
		text_field(&m->start, "status", 6, status, (size_t)snprintf(status, sizeof(status), "%u", p->status_code));
		return r->is_to_head && p->status_code >= 200;
	}
	const char *method = http_method_str((enum http_method)p->method);
	if (r->method.n)
		text_field(&m->start, r->method.at, r->method.n, r->target.at, r->target.n);
	else
		text_field(&m->start, method, strlen(method), r->target.at, r->target.n);
	return 0;
}

static int on_body(http_parser *p, const char *at, size_t n)
{
	text_add(&last(p->data)->body, at, n);
	return 0;
}

static int on_end(http_parser *p)
{
	struct reader *r = p->data;

	field_ends(r);
	last(r)->is_whole = true;
	last(r)->is_switched = p->upgrade;
	return 0;
}

static bool knows_method(const char *text, size_t n)
{
	for (int i = 0; i <= HTTP_SOURCE; i++)
		if (strlen(http_method_str((enum http_method)i)) == n && memcmp(http_method_str((enum http_method)i), text, n) == 0)
			return true;
	return false;
}

/* http-parser has a list of methods, and any token is one: the first request's, where it is on no list, is put as POST, which the parser does nothing
 * special with, and kept beside. */
static void put_method(struct reader *r, struct text *all, const char *bytes, size_t n)
{
	const char *space = memchr(bytes, ' ', n);
	struct text method = {0};

	if (space)
		text_add(&method, bytes, (size_t)(space - bytes));
	if (!space || knows_method(method.at, method.n) || !is_token(&method)) {
		text_add(all, bytes, n);
		free(method.at);
		return;
	}
	r->method = method;
	text_add(all, "POST", 4);
	text_add(all, space, n - method.n);
}

/* Where the head that begins there ends; NULL: it does not. */
static char *head_end(const struct text *all, char *from)
{
	char *at = memmem(from, (size_t)(all->at + all->n - from), "\r\n\r\n", 4);

	return at ? at + 4 : NULL;
}

static bool is_informational(const char *head, const char *end)
{
	return end - head > 12 && memcmp(head, "HTTP/1.1 1", 10) == 0 && memcmp(head + 9, "101", 3) != 0;
}

/* http-parser takes a name that only begins like Transfer-Encoding for that one. It sees another letter, which on_name
 * does not take. */
static void rename_fields(struct reader *r, struct text *all)
{
	char *head = all->at, *end = all->n ? head_end(all, head) : NULL;

	while (end) {
		for (char *at = head; (at = memmem(at, (size_t)(end - at), "\n" CODING, sizeof(CODING))) != NULL; at++)
			if (at[sizeof(CODING)] != ':')
				at[1] = OTHER_LETTER;
		if (r->p.type == HTTP_REQUEST || !is_informational(head, end))
			return;
		head = end;
		end = head_end(all, head);
	}
}

static void lines_by_the_letter(struct heard *h, const char *at, const char *end)
{
	for (const char *p = at; p < end; p++)
		if (*p == '\n' ? p == at || p[-1] != '\r' : *p == '\r' && (p + 1 == end || p[1] != '\n'))
			heard_fault(h, "a line that does not end in CRLF");
}

/* size CRLF bytes CRLF ... 0 CRLF trailers CRLF, with nothing besides. As far as it has come. */
static char *chunks_by_the_letter(struct heard *h, const struct text *all, char *at)
{
	char *end = all->at + all->n, *stop;

	for (;;) {
		unsigned long long n = strtoull(at, &stop, 16);
		if (end - stop < 2)
			return end;
		if (stop == at || memcmp(stop, "\r\n", 2) != 0) {
			heard_fault(h, "a chunk's line is more than a size");
			return end;
		}
		at = stop + 2;
		if (n == 0)
			break;
		if (n > (size_t)(end - at) || (size_t)(end - at) - n < 2)
			return end;
		at += n;
		if (memcmp(at, "\r\n", 2) != 0)
			heard_fault(h, "a chunk does not end in CRLF");
		at += 2;
	}
	stop = head_end(all, at - 2);
	if (stop)
		lines_by_the_letter(h, at, stop);
	return stop ? stop : end;
}

/* What http-parser does not look at, as far as messages have come. */
static void by_the_letter(struct reader *r, struct text *all)
{
	char *at = all->at;

	text_add(all, "", 1); /* an end for strtoull */
	all->n--;
	at = all->at;
	for (unsigned int i = 0; i < r->h->n; i++) {
		const struct message *m = &r->h->list[i];
		char *end = head_end(all, at);
		if (!end)
			return;
		lines_by_the_letter(r->h, at, end);
		at = end;
		if (m->n_codings && !(r->is_to_head && m->status >= 200))
			at = chunks_by_the_letter(r->h, all, at);
		else
			at += m->body.n;
	}
}

void stranger_h1(struct heard *h, enum h1_stranger what, const char *bytes, size_t n, bool is_end)
{
	const http_parser_settings settings = {
		.on_message_begin = on_begin, .on_url = on_url, .on_header_field = on_name, .on_header_value = on_value, .on_headers_complete = on_head,
		.on_body = on_body, .on_message_complete = on_end,
	};
	struct reader r = {.h = h, .is_to_head = what == H1_ANSWERS_TO_HEAD};
	struct text all = {0}, as_sent = {0};

	if (what == H1_REQUESTS)
		put_method(&r, &all, bytes, n);
	else
		text_add(&all, bytes, n);
	http_parser_init(&r.p, what == H1_REQUESTS ? HTTP_REQUEST : HTTP_RESPONSE);
	r.p.data = &r;
	text_add(&as_sent, all.at, all.n);
	rename_fields(&r, &all);
	r.shown = all.at;
	r.as_sent = as_sent.at;
	size_t used = all.n ? http_parser_execute(&r.p, &settings, all.at, all.n) : 0;
	if (HTTP_PARSER_ERRNO(&r.p) != HPE_OK)
		heard_fault(h, "%s", http_errno_name(HTTP_PARSER_ERRNO(&r.p)));
	else if (r.p.upgrade && h->n)
		text_add(&h->list[h->n - 1].after, &all.at[used], all.n - used);
	else if (used != all.n)
		heard_fault(h, "%zu bytes left over", all.n - used);
	else if (is_end)
		(void)http_parser_execute(&r.p, &settings, NULL, 0); /* a message that is not whole stays that */
	if (!h->fault[0])
		by_the_letter(&r, &all);
	free(all.at);
	free(as_sent.at);
	free(r.name.at);
	free(r.value.at);
	free(r.target.at);
	free(r.method.at);
}
