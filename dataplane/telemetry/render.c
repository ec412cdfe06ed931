/* A line of the access log from one event, after a format (format.c). Values are Envoy's to the byte: what is empty is "-" in text and null in typed
 * JSON. What a client sent is escaped, so that no header can forge a line or a field (features.md AL-12). Housekeeping only. */
#include "dataplane/telemetry/tele_priv.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <time.h>

#define VALUE_BYTES_MAX 256
#define TIME_BYTES_MAX 512

static void put(struct tele_out *out, const char *data, size_t n)
{
	if (n > out->n_room - out->n_bytes) {
		out->is_short = true;
		return;
	}
	if (n)
		memcpy(out->data + out->n_bytes, data, n);
	out->n_bytes += n;
}

static const char hex[] = "0123456789abcdef";

/* Text: control bytes and the quote, by their codes, so that no reader who splits at quotes is misled. Other bytes pass: a path may be UTF-8,
 * and Envoy writes a backslash as it is. */
static void put_escaped_text(struct tele_out *out, struct foil_slice s)
{
	for (uint32_t i = 0, from = 0; i <= s.n_bytes; i++) {
		unsigned char c = i < s.n_bytes ? (unsigned char)s.data[i] : 0;
		if (i < s.n_bytes && c >= 0x20 && c != '"' && c != 0x7f)
			continue;
		put(out, s.data + from, i - from);
		from = i + 1;
		if (i == s.n_bytes)
			break;
		char code[4] = {'\\', 'x', hex[c >> 4], hex[c & 15]};
		put(out, code, sizeof(code));
	}
}

/* How many bytes the well-formed UTF-8 character at s takes (RFC 3629); 0 when it is not one. */
static uint32_t utf8_bytes(const unsigned char *s, uint32_t n)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	uint32_t want = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
	if (!want || want > n)
		return 0;
	uint32_t v = want == 1 ? s[0] : s[0] & (0x7fu >> want);
	for (uint32_t i = 1; i < want; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (s[i] & 0x3fu);
	}
	return v >= least[want] && v < 0x110000 && !(v >= 0xd800 && v < 0xe000) ? want : 0;
}

static void put_escaped_json(struct tele_out *out, struct foil_slice s)
{
	for (uint32_t i = 0; i < s.n_bytes;) {
		unsigned char c = (unsigned char)s.data[i];
		uint32_t n = utf8_bytes((const unsigned char *)s.data + i, s.n_bytes - i);
		char code[6] = {'\\', 'u', '0', '0', hex[c >> 4], hex[c & 15]};
		if (n == 0)
			put(out, "\xef\xbf\xbd", 3);
		else if (c == '"' || c == '\\')
			put(out, (const char[]){'\\', (char)c}, 2);
		else if (c < 0x20 || c == 0x7f)
			put(out, code, sizeof(code));
		else
			put(out, s.data + i, n);
		i += n ? n : 1;
	}
}

/* ---- time */

static bool is_strftime(char c)
{
	return c && strchr("aAbBcCdDeFgGhHIjmMnprRStTuUVwWxXyYzZ%", c) != NULL;
}

bool tele_time_format_is_valid(struct foil_slice f)
{
	for (uint32_t i = 0; i < f.n_bytes; i++) {
		if (f.data[i] != '%')
			continue;
		char c = i + 1 < f.n_bytes ? f.data[i + 1] : 0, d = i + 2 < f.n_bytes ? f.data[i + 2] : 0, e = i + 3 < f.n_bytes ? f.data[i + 3] : 0;
		if (is_strftime(c) || c == 's' || c == 'f')
			i += 1;
		else if (c >= '1' && c <= '9' && d == 'f')
			i += 2;
		else if (c == 'E' && d >= '1' && d <= '9' && e == 'S')
			i += 3;
		else
			return false;
	}
	return f.n_bytes < TIME_BYTES_MAX / 8;
}

static void put_fraction(struct tele_out *out, uint64_t wall_us, uint32_t n_digits)
{
	char digits[16];
	(void)snprintf(digits, sizeof(digits), "%06u000", (unsigned int)(wall_us % 1000000)); /* nine digits always */
	put(out, digits, n_digits);
}

/* One conversion that tele_time_format_is_valid let pass. */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* the format is the configuration's, checked when it was read */
static void put_strftime(struct tele_out *out, char c, const struct tm *tm)
{
	const char spec[3] = {'%', c, 0};
	char piece[VALUE_BYTES_MAX];
	put(out, piece, strftime(piece, sizeof(piece), spec, tm));
}
#pragma GCC diagnostic pop

static void put_time(struct tele_out *out, uint64_t wall_us, struct foil_slice f)
{
	time_t s = (time_t)(wall_us / 1000000);
	struct tm tm;
	char piece[VALUE_BYTES_MAX];
	if (!gmtime_r(&s, &tm))
		return;
	for (uint32_t i = 0; i < f.n_bytes; i++) {
		if (f.data[i] != '%' || i + 1 == f.n_bytes) {
			put(out, f.data + i, 1);
			continue;
		}
		char c = f.data[++i];
		if (c == 's') {
			put(out, piece, (size_t)snprintf(piece, sizeof(piece), "%llu", (unsigned long long)(wall_us / 1000000)));
		} else if (c == 'f') {
			put_fraction(out, wall_us, 9);
		} else if (c >= '1' && c <= '9') {
			put_fraction(out, wall_us, (uint32_t)(c - '0'));
			i++;
		} else if (c == 'E') {
			put(out, piece, (size_t)snprintf(piece, sizeof(piece), "%02d.", tm.tm_sec));
			put_fraction(out, wall_us, (uint32_t)(f.data[i + 1] - '0'));
			i += 2;
		} else {
			put_strftime(out, c, &tm);
		}
	}
}

/* Two digits, as in a date. */
static char *two(char *at, int n)
{
	*at++ = (char)('0' + n / 10 % 10);
	*at++ = (char)('0' + n % 10);
	return at;
}

static bool set_second(struct tele_second *second, uint64_t s)
{
	time_t t = (time_t)s;
	struct tm tm;
	if (second->text[0] && second->s == s)
		return true;
	if (!gmtime_r(&t, &tm) || tm.tm_year < -1900 || tm.tm_year > 9999 - 1900)
		return false;
	char *at = two(second->text, (tm.tm_year + 1900) / 100);
	at = two(at, (tm.tm_year + 1900) % 100);
	*at++ = '-';
	at = two(at, tm.tm_mon + 1);
	*at++ = '-';
	at = two(at, tm.tm_mday);
	*at++ = 'T';
	at = two(at, tm.tm_hour);
	*at++ = ':';
	at = two(at, tm.tm_min);
	*at++ = ':';
	at = two(at, tm.tm_sec);
	*at = 0;
	second->s = s;
	return true;
}

/* %Y-%m-%dT%H:%M:%E3SZ */
static size_t default_time(char *to, struct tele_second *second, uint64_t wall_us)
{
	unsigned int ms = (unsigned int)(wall_us / 1000 % 1000);
	if (!set_second(second, wall_us / 1000000))
		return 0;
	memcpy(to, second->text, sizeof(second->text) - 1);
	to[19] = '.';
	to[20] = (char)('0' + ms / 100);
	(void)two(to + 21, (int)(ms % 100));
	to[23] = 'Z';
	return 24;
}

/* ---- values */

enum kind { KIND_NONE, KIND_NUMBER, KIND_PLAIN /* ours, needs no escaping */, KIND_FOREIGN };

struct value {
	enum kind kind;
	struct foil_slice text;
	char room[TIME_BYTES_MAX];
};

/* Decimal digits of n at the end of room[0..n_room), at most 20; returns where they begin. */
static char *digits_of(char *room, size_t n_room, uint64_t n)
{
	char *at = room + n_room;
	do
		*--at = (char)('0' + n % 10);
	while (n /= 10);
	return at;
}

static void set_number(struct value *v, uint64_t n)
{
	char *at = digits_of(v->room, 24, n);
	v->kind = KIND_NUMBER;
	v->text = foil_slice_of(at, (size_t)(v->room + 24 - at));
}

static void set_plain(struct value *v, size_t n)
{
	v->kind = n ? KIND_PLAIN : KIND_NONE;
	v->text = foil_slice_of(v->room, n);
}

static char *put_digits(char *at, uint32_t n)
{
	char room[24];
	const char *from = digits_of(room, sizeof(room), n);
	size_t len = (size_t)(room + sizeof(room) - from);
	memcpy(at, from, len);
	return at + len;
}

/* Not inet_ntop for IPv4: it prints through sprintf, and a line has four addresses. */
static char *put_ip(char *at, const struct tele_addr *a, bool is_v4, bool in_brackets)
{
	char v6[INET6_ADDRSTRLEN];
	for (uint32_t i = 12; is_v4 && i < 16; i++) {
		at = put_digits(at, a->ip[i]);
		*at++ = '.';
	}
	if (is_v4)
		return at - 1;
	if (!inet_ntop(AF_INET6, a->ip, v6, sizeof(v6)))
		v6[0] = 0; /* cannot be: the room is enough */
	size_t n = strlen(v6);
	if (in_brackets)
		*at++ = '[';
	memcpy(at, v6, n);
	at += n;
	if (in_brackets)
		*at++ = ']';
	return at;
}

static void set_address(struct value *v, const struct tele_addr *a, bool with_port)
{
	static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
	bool is_v4 = memcmp(a->ip, v4_mapped, sizeof(v4_mapped)) == 0;
	if (!a->port)
		return;
	char *at = put_ip(v->room, a, is_v4, with_port);
	if (with_port) {
		*at++ = ':';
		at = put_digits(at, a->port);
	}
	set_plain(v, (size_t)(at - v->room));
}

static const struct tele_addr *address_of(const struct tele_event *e, uint32_t which)
{
	switch ((enum tele_address)which) {
	case TELE_UPSTREAM_HOST: return &e->upstream_host;
	case TELE_UPSTREAM_LOCAL: return &e->upstream_local;
	case TELE_DOWNSTREAM_LOCAL: return &e->downstream_local;
	case TELE_DOWNSTREAM_REMOTE: return &e->downstream_remote;
	}
	FOIL_UNREACHABLE();
}

static void set_grpc(struct value *v, int status, enum tele_field field)
{
	static const char *const camel[] = {"OK", "Canceled", "Unknown", "InvalidArgument", "DeadlineExceeded", "NotFound", "AlreadyExists",
					    "PermissionDenied", "ResourceExhausted", "FailedPrecondition", "Aborted", "OutOfRange", "Unimplemented",
					    "Internal", "Unavailable", "DataLoss", "Unauthenticated"};
	static const char *const snake[] = {"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
					    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED",
					    "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"};
	if (status < 0)
		return;
	if (field == TELE_FIELD_GRPC_NUMBER || (size_t)status >= FOIL_COUNT_OF(camel)) {
		set_number(v, (uint64_t)status);
		return;
	}
	v->kind = KIND_PLAIN;
	v->text = foil_slice_str(field == TELE_FIELD_GRPC_CAMEL ? camel[status] : snake[status]);
}

static void set_protocol(struct value *v, const struct tele_event *e)
{
	static const char *const words[] = {"HTTP/1.0", "HTTP/1.1", "HTTP/2"}; /* enum http_version */
	if (e->is_tcp || e->version >= FOIL_COUNT_OF(words))
		return;
	v->kind = KIND_PLAIN;
	v->text = foil_slice_str(words[e->version]);
}

static void set_text(struct value *v, const struct tele_op *op, const struct foil_slice *texts)
{
	v->text = texts[op->which];
	if (!v->text.data && op->other != TELE_TEXT_NONE)
		v->text = texts[op->other];
	const char *query = op->field == TELE_FIELD_PATH_WITHOUT_QUERY && v->text.n_bytes ? memchr(v->text.data, '?', v->text.n_bytes) : NULL;
	if (query)
		v->text.n_bytes = (uint32_t)(query - v->text.data);
	v->kind = v->text.n_bytes || (v->text.data && op->is_header) ? KIND_FOREIGN : KIND_NONE;
}

/* Clusters of services are called so in Istio's statistics, as mesh/format.c says in headers. */
static void set_statistics_name(struct value *v, const struct tele_op *op, const struct foil_slice *texts)
{
	set_text(v, op, texts);
	if (!v->text.n_bytes || v->text.n_bytes >= sizeof(v->room) || !memchr(v->text.data, '|', v->text.n_bytes))
		return;
	memcpy(v->room, v->text.data, v->text.n_bytes);
	v->room[v->text.n_bytes] = ';';
	v->text = foil_slice_of(v->room, v->text.n_bytes + 1u);
}

/* Not there when the event is of another format, or its recorder knew nothing. */
static void set_capture(struct value *v, const struct tele_op *op, const struct tele_event *e, const struct foil_slice *captures)
{
	if (op->which >= e->n_captures || !captures[op->which].data)
		return;
	v->text = captures[op->which];
	v->kind = op->field == TELE_FIELD_CAPTURE_NUMBER ? KIND_NUMBER : KIND_FOREIGN;
}

static void value_of(const struct tele_op *op, const struct tele_event *e, const struct foil_slice *texts, struct tele_second *second, struct value *v)
{
	struct tele_out time = {v->room, 0, sizeof(v->room), false, second};
	v->kind = KIND_NONE;
	switch (op->field) {
	case TELE_FIELD_TEXT:
	case TELE_FIELD_PATH_WITHOUT_QUERY: set_text(v, op, texts); return;
	case TELE_FIELD_STATISTICS_NAME: set_statistics_name(v, op, texts); return;
	case TELE_FIELD_CAPTURE:
	case TELE_FIELD_CAPTURE_NUMBER: set_capture(v, op, e, texts + TELE_TEXT_COUNT); return;
	case TELE_FIELD_START_TIME:
		if (!op->time_format.n_bytes) {
			set_plain(v, default_time(v->room, second, e->start_wall_us));
			return;
		}
		put_time(&time, e->start_wall_us, op->time_format);
		v->kind = KIND_FOREIGN; /* the format's own words may hold a quote */
		v->text = foil_slice_of(v->room, time.n_bytes);
		return;
	case TELE_FIELD_PROTOCOL: set_protocol(v, e); return;
	case TELE_FIELD_RESPONSE_CODE: set_number(v, e->status); return;
	case TELE_FIELD_RESPONSE_FLAGS: set_plain(v, tele_flags_text(e->flags, e->is_tcp, v->room, sizeof(v->room))); return;
	case TELE_FIELD_FLAGS_LONG: set_plain(v, tele_flags_long(e->flags, e->is_tcp, v->room, sizeof(v->room))); return;
	case TELE_FIELD_LOG_TYPE:
		v->kind = KIND_PLAIN;
		v->text = e->is_tcp ? FOIL_SLICE("TcpConnectionEnd") : FOIL_SLICE("DownstreamEnd");
		return;
	case TELE_FIELD_EMPTY:
		v->kind = KIND_PLAIN;
		v->text = FOIL_SLICE("");
		return;
	case TELE_FIELD_BYTES_RECEIVED: set_number(v, e->bytes_received); return;
	case TELE_FIELD_BYTES_SENT: set_number(v, e->bytes_sent); return;
	case TELE_FIELD_DURATION: set_number(v, e->duration_us / 1000); return;
	case TELE_FIELD_ATTEMPTS: set_number(v, e->attempts); return;
	case TELE_FIELD_REQUEST_WIRE_BYTES: set_number(v, e->request_wire_bytes); return;
	case TELE_FIELD_RESPONSE_WIRE_BYTES: set_number(v, e->response_wire_bytes); return;
	case TELE_FIELD_ADDRESS: set_address(v, address_of(e, op->which), true); return;
	case TELE_FIELD_ADDRESS_WITHOUT_PORT: set_address(v, address_of(e, op->which), false); return;
	case TELE_FIELD_PORT:
		if (address_of(e, op->which)->port)
			set_number(v, address_of(e, op->which)->port);
		return;
	case TELE_FIELD_GRPC_CAMEL:
	case TELE_FIELD_GRPC_SNAKE:
	case TELE_FIELD_GRPC_NUMBER: set_grpc(v, e->grpc_status, op->field); return;
	}
	FOIL_UNREACHABLE();
}

static void put_value(struct tele_out *out, const struct tele_op *op, const struct value *v)
{
	struct foil_slice s = v->text;
	if (op->n_bytes_max)
		s.n_bytes = FOIL_MIN(s.n_bytes, op->n_bytes_max);
	if (v->kind == KIND_NONE) {
		if (op->mode == TELE_MODE_JSON_TYPED)
			put(out, "null", 4);
		else
			put(out, "-", 1);
	} else if (op->mode == TELE_MODE_JSON_TYPED && v->kind != KIND_NUMBER) {
		put(out, "\"", 1);
		put_escaped_json(out, s);
		put(out, "\"", 1);
	} else if (v->kind != KIND_FOREIGN) {
		put(out, s.data, s.n_bytes);
	} else if (op->mode == TELE_MODE_TEXT) {
		put_escaped_text(out, s);
	} else {
		put_escaped_json(out, s);
	}
}

void tele_format_render(const struct tele_format *f, const struct tele_event *e, const struct foil_slice texts[TELE_TEXTS_MAX], struct tele_out *out)
{
	struct value v;
	for (uint32_t i = 0; i < f->n_ops && !out->is_short; i++) {
		const struct tele_op *op = &f->ops[i];
		put(out, op->literal.data, op->literal.n_bytes);
		if (!op->has_field)
			continue;
		value_of(op, e, texts, out->second, &v);
		put_value(out, op, &v);
	}
}
