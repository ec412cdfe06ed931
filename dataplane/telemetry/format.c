/* Access log formats: Envoy's text with %OPERATORS%, or a JSON object of them, made into a list of operations once, when the configuration is read.
 * What cannot be read is refused here with a sentence, so that render.c has nothing to decide but values. An operator that this room does not know is a
 * capture: who records requests gives its value by its place in the list, or refuses the format (shared.h, tele_format_captures). Cold path, any thread.
 * Sources: Envoy's access log documentation (command operators), features.md AL-1, AL-2, AL-4, AL-5. No recursion: nesting is a bounded stack. */
#include "dataplane/telemetry/tele_priv.h"

#include <errno.h>

#define OPS_MAX 512u

static const char istio_text[] =
	"[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% %RESPONSE_FLAGS% "
	"%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
	"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" "
	"\"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% "
	"%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n";

static const char istio_json[] =
	"{\"start_time\":\"%START_TIME%\",\"route_name\":\"%ROUTE_NAME%\",\"method\":\"%REQ(:METHOD)%\","
	"\"path\":\"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%\",\"protocol\":\"%PROTOCOL%\",\"response_code\":\"%RESPONSE_CODE%\","
	"\"response_flags\":\"%RESPONSE_FLAGS%\",\"response_code_details\":\"%RESPONSE_CODE_DETAILS%\","
	"\"connection_termination_details\":\"%CONNECTION_TERMINATION_DETAILS%\",\"bytes_received\":\"%BYTES_RECEIVED%\","
	"\"bytes_sent\":\"%BYTES_SENT%\",\"duration\":\"%DURATION%\",\"upstream_service_time\":\"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%\","
	"\"x_forwarded_for\":\"%REQ(X-FORWARDED-FOR)%\",\"user_agent\":\"%REQ(USER-AGENT)%\",\"request_id\":\"%REQ(X-REQUEST-ID)%\","
	"\"authority\":\"%REQ(:AUTHORITY)%\",\"upstream_host\":\"%UPSTREAM_HOST%\",\"upstream_cluster\":\"%UPSTREAM_CLUSTER_RAW%\","
	"\"upstream_local_address\":\"%UPSTREAM_LOCAL_ADDRESS%\",\"downstream_local_address\":\"%DOWNSTREAM_LOCAL_ADDRESS%\","
	"\"downstream_remote_address\":\"%DOWNSTREAM_REMOTE_ADDRESS%\",\"requested_server_name\":\"%REQUESTED_SERVER_NAME%\","
	"\"upstream_transport_failure_reason\":\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\"}";

/* ---- what there is */

enum argument { ARG_NONE, ARG_REQUEST_HEADER, ARG_RESPONSE_HEADER, ARG_TIME, ARG_GRPC, ARG_PATH };

static const struct operator {
	const char *name;
	enum argument argument;
	enum tele_field field;
	uint32_t which;
} operators[] = {
	{"START_TIME", ARG_TIME, TELE_FIELD_START_TIME, 0},
	{"REQ", ARG_REQUEST_HEADER, TELE_FIELD_TEXT, 0},
	{"RESP", ARG_RESPONSE_HEADER, TELE_FIELD_TEXT, 0},
	{"REQ_WITHOUT_QUERY", ARG_PATH, TELE_FIELD_PATH_WITHOUT_QUERY, 0},
	{"PROTOCOL", ARG_NONE, TELE_FIELD_PROTOCOL, 0},
	{"RESPONSE_CODE", ARG_NONE, TELE_FIELD_RESPONSE_CODE, 0},
	{"RESPONSE_FLAGS", ARG_NONE, TELE_FIELD_RESPONSE_FLAGS, 0},
	{"RESPONSE_CODE_DETAILS", ARG_NONE, TELE_FIELD_TEXT, TELE_TEXT_DETAILS},
	{"CONNECTION_TERMINATION_DETAILS", ARG_NONE, TELE_FIELD_TEXT, TELE_TEXT_TERMINATION_DETAILS},
	{"UPSTREAM_TRANSPORT_FAILURE_REASON", ARG_NONE, TELE_FIELD_TEXT, TELE_TEXT_TRANSPORT_FAILURE},
	{"BYTES_RECEIVED", ARG_NONE, TELE_FIELD_BYTES_RECEIVED, 0},
	{"BYTES_SENT", ARG_NONE, TELE_FIELD_BYTES_SENT, 0},
	{"DURATION", ARG_NONE, TELE_FIELD_DURATION, 0},
	{"UPSTREAM_HOST", ARG_NONE, TELE_FIELD_ADDRESS, TELE_UPSTREAM_HOST},
	{"UPSTREAM_REMOTE_ADDRESS", ARG_NONE, TELE_FIELD_ADDRESS, TELE_UPSTREAM_HOST},
	{"UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", ARG_NONE, TELE_FIELD_ADDRESS_WITHOUT_PORT, TELE_UPSTREAM_HOST},
	{"UPSTREAM_REMOTE_PORT", ARG_NONE, TELE_FIELD_PORT, TELE_UPSTREAM_HOST},
	{"UPSTREAM_LOCAL_ADDRESS", ARG_NONE, TELE_FIELD_ADDRESS, TELE_UPSTREAM_LOCAL},
	{"UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", ARG_NONE, TELE_FIELD_ADDRESS_WITHOUT_PORT, TELE_UPSTREAM_LOCAL},
	{"UPSTREAM_LOCAL_PORT", ARG_NONE, TELE_FIELD_PORT, TELE_UPSTREAM_LOCAL},
	{"DOWNSTREAM_LOCAL_ADDRESS", ARG_NONE, TELE_FIELD_ADDRESS, TELE_DOWNSTREAM_LOCAL},
	{"DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT", ARG_NONE, TELE_FIELD_ADDRESS_WITHOUT_PORT, TELE_DOWNSTREAM_LOCAL},
	{"DOWNSTREAM_LOCAL_PORT", ARG_NONE, TELE_FIELD_PORT, TELE_DOWNSTREAM_LOCAL},
	{"DOWNSTREAM_REMOTE_ADDRESS", ARG_NONE, TELE_FIELD_ADDRESS, TELE_DOWNSTREAM_REMOTE},
	{"DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT", ARG_NONE, TELE_FIELD_ADDRESS_WITHOUT_PORT, TELE_DOWNSTREAM_REMOTE},
	{"DOWNSTREAM_REMOTE_PORT", ARG_NONE, TELE_FIELD_PORT, TELE_DOWNSTREAM_REMOTE},
	{"DOWNSTREAM_DIRECT_REMOTE_ADDRESS", ARG_NONE, TELE_FIELD_ADDRESS, TELE_DOWNSTREAM_REMOTE},
	{"UPSTREAM_CLUSTER", ARG_NONE, TELE_FIELD_STATISTICS_NAME, TELE_TEXT_CLUSTER},
	{"UPSTREAM_CLUSTER_RAW", ARG_NONE, TELE_FIELD_TEXT, TELE_TEXT_CLUSTER},
	{"REQUESTED_SERVER_NAME", ARG_NONE, TELE_FIELD_TEXT, TELE_TEXT_SNI},
	{"ROUTE_NAME", ARG_NONE, TELE_FIELD_TEXT, TELE_TEXT_ROUTE_NAME},
	{"RESPONSE_FLAGS_LONG", ARG_NONE, TELE_FIELD_FLAGS_LONG, 0},
	{"ACCESS_LOG_TYPE", ARG_NONE, TELE_FIELD_LOG_TYPE, 0},
	{"LOCAL_REPLY_BODY", ARG_NONE, TELE_FIELD_EMPTY, 0}, /* known only while the answer is made */
	{"REQUEST_DURATION", ARG_NONE, TELE_FIELD_CAPTURE_NUMBER, 0},
	{"RESPONSE_DURATION", ARG_NONE, TELE_FIELD_CAPTURE_NUMBER, 0},
	{"RESPONSE_TX_DURATION", ARG_NONE, TELE_FIELD_CAPTURE_NUMBER, 0},
	{"REQUEST_HEADERS_BYTES", ARG_NONE, TELE_FIELD_CAPTURE_NUMBER, 0},
	{"RESPONSE_HEADERS_BYTES", ARG_NONE, TELE_FIELD_CAPTURE_NUMBER, 0},
	{"GRPC_STATUS", ARG_GRPC, TELE_FIELD_GRPC_CAMEL, 0},
	{"GRPC_STATUS_NUMBER", ARG_NONE, TELE_FIELD_GRPC_NUMBER, 0},
	{"UPSTREAM_REQUEST_ATTEMPT_COUNT", ARG_NONE, TELE_FIELD_ATTEMPTS, 0},
	{"DOWNSTREAM_WIRE_BYTES_RECEIVED", ARG_NONE, TELE_FIELD_REQUEST_WIRE_BYTES, 0},
	{"DOWNSTREAM_WIRE_BYTES_SENT", ARG_NONE, TELE_FIELD_RESPONSE_WIRE_BYTES, 0},
};

static const struct {
	const char *name;
	bool is_response;
	uint32_t text;
} headers[] = {
	{":method", false, TELE_TEXT_METHOD}, {":path", false, TELE_TEXT_PATH}, {":authority", false, TELE_TEXT_AUTHORITY},
	{"host", false, TELE_TEXT_AUTHORITY}, {"x-envoy-original-path", false, TELE_TEXT_ORIGINAL_PATH},
	{"x-forwarded-for", false, TELE_TEXT_XFF}, {"user-agent", false, TELE_TEXT_USER_AGENT},
	{"x-request-id", false, TELE_TEXT_REQUEST_ID}, {"x-envoy-upstream-service-time", true, TELE_TEXT_SERVICE_TIME}};

/* ---- the list under construction */

struct builder {
	struct tele_format *f;
	struct foil_error *err;
	char *literal; /* room for the literal that grows: never more than the format's own length */
	uint32_t n_literal, n_literal_room;
	int rc;
};

static int refuse(struct builder *b, const char *what, struct foil_slice text)
{
	return b->rc = foil_error_set(b->err, -EINVAL, "access log format: %s: \"%.*s\"", what, (int)FOIL_MIN(text.n_bytes, 120u), text.data);
}

static void put_literal(struct builder *b, const char *data, size_t n)
{
	if (n > b->n_literal_room - b->n_literal) {
		b->rc = foil_error_set(b->err, -EINVAL, "access log format: more than %u bytes", TELE_FORMAT_BYTES_MAX);
		return;
	}
	memcpy(b->literal + b->n_literal, data, n);
	b->n_literal += (uint32_t)n;
}

/* Ends the literal so far; op may be NULL at the end of all. */
static void put_op(struct builder *b, const struct tele_op *op)
{
	struct tele_format *f = b->f;
	if (b->rc < 0 || (!op && !b->n_literal))
		return;
	if (f->n_ops == OPS_MAX) {
		b->rc = foil_error_set(b->err, -EINVAL, "access log format: more than %u operators", OPS_MAX);
		return;
	}
	struct foil_slice literal = foil_blob_copy(&f->mem, b->literal, b->n_literal);
	if (!literal.data) {
		b->rc = foil_error_set(b->err, -ENOMEM, "no memory for the access log format");
		return;
	}
	f->ops[f->n_ops] = op ? *op : (struct tele_op){0};
	f->ops[f->n_ops].literal = literal;
	f->ops[f->n_ops++].has_field = op != NULL;
	b->n_literal = 0;
}

/* ---- one operator */

static uint32_t find_header(struct foil_slice name, bool is_response)
{
	for (size_t i = 0; i < FOIL_COUNT_OF(headers); i++)
		if (headers[i].is_response == is_response && foil_slice_eq_nocase(name, foil_slice_str(headers[i].name)))
			return headers[i].text;
	return TELE_TEXT_NONE;
}

/* The place of this operator among the captures, which it gets now if it is new. */
static int capture(struct builder *b, struct foil_slice text, struct tele_op *op)
{
	struct tele_captures *c = &b->f->captures;
	for (op->which = 0; op->which < c->n; op->which++)
		if (foil_slice_eq(c->list[op->which], text))
			return 0;
	if (c->n == TELE_CAPTURES_MAX)
		return b->rc = foil_error_set(b->err, -EINVAL, "access log format: more than %u headers and the like", TELE_CAPTURES_MAX);
	c->list[c->n] = foil_blob_copy(&b->f->mem, text.data, text.n_bytes);
	if (!c->list[c->n].data)
		return b->rc = foil_error_set(b->err, -ENOMEM, "no memory for the access log format");
	c->n++;
	return 0;
}

/* NAME or NAME?OTHER: texts that every event has, else a capture. whole: the operator with its brackets. */
static int header_argument(struct builder *b, struct foil_slice whole, struct foil_slice arg, bool is_response, struct tele_op *op)
{
	const char *mark = arg.n_bytes ? memchr(arg.data, '?', arg.n_bytes) : NULL;
	struct foil_slice first = mark ? foil_slice_of(arg.data, (size_t)(mark - arg.data)) : arg;
	struct foil_slice second = mark ? foil_slice_of(mark + 1, arg.n_bytes - first.n_bytes - 1) : arg;
	op->which = find_header(first, is_response);
	op->other = mark ? find_header(second, is_response) : TELE_TEXT_NONE;
	op->is_header = true;
	if (op->which != TELE_TEXT_NONE && (!mark || op->other != TELE_TEXT_NONE))
		return 0;
	op->field = TELE_FIELD_CAPTURE;
	return capture(b, whole, op);
}

static int grpc_argument(struct builder *b, struct foil_slice arg, struct tele_op *op)
{
	if (!arg.n_bytes || foil_slice_eq(arg, FOIL_SLICE("CAMEL_STRING")))
		op->field = TELE_FIELD_GRPC_CAMEL;
	else if (foil_slice_eq(arg, FOIL_SLICE("SNAKE_STRING")))
		op->field = TELE_FIELD_GRPC_SNAKE;
	else if (foil_slice_eq(arg, FOIL_SLICE("NUMBER")))
		op->field = TELE_FIELD_GRPC_NUMBER;
	else
		return refuse(b, "GRPC_STATUS takes CAMEL_STRING, SNAKE_STRING or NUMBER", arg);
	return 0;
}

static int argument(struct builder *b, const struct operator *o, struct foil_slice whole, struct foil_slice arg, struct tele_op *op)
{
	switch (o->argument) {
	case ARG_NONE:
		if (arg.n_bytes)
			return refuse(b, "this operator takes no argument", arg);
		return o->field == TELE_FIELD_CAPTURE_NUMBER ? capture(b, whole, op) : 0;
	case ARG_REQUEST_HEADER:
	case ARG_PATH: return header_argument(b, whole, arg, false, op);
	case ARG_RESPONSE_HEADER: return header_argument(b, whole, arg, true, op);
	case ARG_GRPC: return grpc_argument(b, arg, op);
	case ARG_TIME:
		if (arg.n_bytes && !tele_time_format_is_valid(arg))
			return refuse(b, "this time format is not known", arg);
		op->time_format = foil_blob_copy(&b->f->mem, arg.data, arg.n_bytes);
		return op->time_format.data ? 0 : (b->rc = foil_error_set(b->err, -ENOMEM, "no memory for the access log format"));
	}
	FOIL_UNREACHABLE();
}

static bool is_name_byte(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

static int length_limit(struct builder *b, struct foil_slice digits, struct tele_op *op)
{
	for (uint32_t i = 0; i < digits.n_bytes; i++) {
		if (digits.data[i] < '0' || digits.data[i] > '9' || op->n_bytes_max > 100000)
			return refuse(b, "this length limit is no number up to 1000000", digits);
		op->n_bytes_max = op->n_bytes_max * 10 + (uint32_t)(digits.data[i] - '0');
	}
	return op->n_bytes_max ? 0 : refuse(b, "a length limit of nothing", digits);
}

/* text begins behind the first %. Returns how many bytes the operator takes with its last %, or 0 after a refusal. */
static uint32_t one_operator(struct builder *b, struct foil_slice text, enum tele_mode mode)
{
	struct tele_op op = {.mode = mode, .other = TELE_TEXT_NONE};
	struct foil_slice arg = {"", 0};
	uint32_t n = 0, at;
	while (n < text.n_bytes && is_name_byte(text.data[n]))
		n++;
	struct foil_slice name = foil_slice_of(text.data, n);
	at = n;
	if (at < text.n_bytes && text.data[at] == '(') { /* up to the last ) before the %: time formats hold % themselves */
		const char *end = memchr(text.data + at, ')', text.n_bytes - at);
		if (!end)
			return (uint32_t)(refuse(b, "a ( without its )", text), 0);
		arg = foil_slice_of(text.data + at + 1, (size_t)(end - text.data) - at - 1);
		at = (uint32_t)(end - text.data) + 1;
	}
	struct foil_slice whole = foil_slice_of(text.data, at);
	uint32_t limit_at = at;
	if (at < text.n_bytes && text.data[at] == ':')
		while (at < text.n_bytes && text.data[at] != '%')
			at++;
	if (at >= text.n_bytes || text.data[at] != '%')
		return (uint32_t)(refuse(b, "a % without its operator and second % (write %% for a percent sign)", text), 0);
	const struct operator *o = NULL;
	for (size_t i = 0; i < FOIL_COUNT_OF(operators); i++)
		if (foil_slice_eq(name, foil_slice_str(operators[i].name)))
			o = &operators[i];
	if (!name.n_bytes)
		return (uint32_t)(refuse(b, "a % without its operator and second % (write %% for a percent sign)", text), 0);
	op.field = o ? o->field : TELE_FIELD_CAPTURE;
	op.which = o ? o->which : 0;
	if ((o ? argument(b, o, whole, arg, &op) : capture(b, whole, &op)) < 0)
		return 0;
	if (at > limit_at && length_limit(b, foil_slice_of(text.data + limit_at + 1, at - limit_at - 1), &op) < 0)
		return 0;
	put_op(b, &op);
	return b->rc < 0 ? 0 : at + 1;
}

static void text_format(struct builder *b, struct foil_slice text, enum tele_mode mode)
{
	uint32_t i = 0;
	while (i < text.n_bytes && b->rc == 0) {
		if (text.data[i] != '%') {
			put_literal(b, text.data + i++, 1);
		} else if (i + 1 < text.n_bytes && text.data[i + 1] == '%') {
			put_literal(b, "%", 1);
			i += 2;
		} else {
			uint32_t n = one_operator(b, foil_slice_of(text.data + i + 1, text.n_bytes - i - 1), mode);
			i += n + 1;
		}
	}
}

/* ---- a JSON object: keys and values stay as they are, but strings with operators become values */

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

/* What follows a backslash, of n bytes: one of JSON's letters, or u and four digits that are no half of a surrogate pair. */
static bool is_escape(const char *at, uint32_t n)
{
	if (n == 0 || !memchr("\"\\/bfnrtu", at[0], 9))
		return false;
	if (at[0] != 'u')
		return true;
	for (uint32_t i = 1; i <= 4; i++)
		if (i >= n || !is_hex(at[i]))
			return false;
	return !((at[1] == 'd' || at[1] == 'D') && (at[2] >= '8'));
}

uint32_t tele_json_string(struct foil_slice text)
{
	for (uint32_t i = 1; i < text.n_bytes; i++) {
		if (text.data[i] == '"')
			return i + 1;
		if ((unsigned char)text.data[i] < 0x20)
			return 0;
		if (text.data[i] == '\\' && ++i < text.n_bytes && !is_escape(text.data + i, text.n_bytes - i))
			return 0;
	}
	return 0;
}

/* A string of exactly one operator has its type; others are strings with pieces in them. */
static void json_value_string(struct builder *b, struct foil_slice inside)
{
	uint32_t n_percent = 0;
	for (uint32_t i = 0; i < inside.n_bytes; i++)
		n_percent += inside.data[i] == '%';
	bool is_whole = inside.n_bytes > 2 && inside.data[0] == '%' && inside.data[1] != '%' && inside.data[inside.n_bytes - 1] == '%';
	if (is_whole) { /* one operator that ends with the string? a time format has more percent signs, in its parentheses */
		const char *open = memchr(inside.data, '(', inside.n_bytes);
		const char *close = open ? memchr(open, ')', inside.n_bytes - (size_t)(open - inside.data)) : NULL;
		uint32_t n_within = 0;
		for (const char *c = open; close && c < close; c++)
			n_within += *c == '%';
		is_whole = n_percent - n_within == 2;
	}
	if (is_whole) {
		text_format(b, inside, TELE_MODE_JSON_TYPED);
		return;
	}
	put_literal(b, "\"", 1);
	text_format(b, inside, TELE_MODE_JSON_INSIDE);
	put_literal(b, "\"", 1);
}

static bool is_space(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* true, false, null or a number: what JSON's own grammar lets stand without quotes, loosely; a reader of the log will say if it is not. */
static uint32_t json_word(struct foil_slice text)
{
	static const char *const words[] = {"true", "false", "null"};
	for (size_t i = 0; i < FOIL_COUNT_OF(words); i++)
		if (foil_slice_has_prefix(text, foil_slice_str(words[i])))
			return (uint32_t)strlen(words[i]);
	uint32_t n = text.n_bytes && text.data[0] == '-' ? 1 : 0, first = n;
	while (n < text.n_bytes && text.data[n] >= '0' && text.data[n] <= '9')
		n++;
	return n > first && !(text.data[first] == '0' && n > first + 1) ? n : 0;
}

/* What may come next at one place of an object. */
enum expect { EXPECT_KEY_OR_END, EXPECT_KEY, EXPECT_COLON, EXPECT_VALUE, EXPECT_COMMA_OR_END };

static void json_format(struct builder *b, struct foil_slice text)
{
	enum expect next = EXPECT_VALUE;
	uint32_t depth = 0, i = 0;
	while (b->rc == 0 && i < text.n_bytes) {
		struct foil_slice rest = foil_slice_of(text.data + i, text.n_bytes - i);
		char c = rest.data[0];
		uint32_t n = 1;
		if (is_space(c)) {
			i++;
			continue;
		}
		bool is_at_end = depth == 0 && next == EXPECT_COMMA_OR_END;
		if (is_at_end || (depth == 0 && c != '{')) {
			(void)refuse(b, "not one JSON object", rest);
		} else if (c == '{' && next == EXPECT_VALUE) {
			if (++depth > TELE_FORMAT_DEPTH_MAX)
				(void)refuse(b, "nested too deep", rest);
			next = EXPECT_KEY_OR_END;
			put_literal(b, "{", 1);
		} else if (c == '}' && (next == EXPECT_KEY_OR_END || next == EXPECT_COMMA_OR_END)) {
			depth--;
			next = EXPECT_COMMA_OR_END;
			put_literal(b, "}", 1);
		} else if (c == '"' && (n = tele_json_string(rest)) && (next == EXPECT_KEY || next == EXPECT_KEY_OR_END)) {
			put_literal(b, rest.data, n);
			next = EXPECT_COLON;
		} else if (c == '"' && n && next == EXPECT_VALUE) {
			json_value_string(b, foil_slice_of(rest.data + 1, n - 2));
			next = EXPECT_COMMA_OR_END;
		} else if (c == ':' && next == EXPECT_COLON) {
			put_literal(b, ":", 1);
			next = EXPECT_VALUE;
		} else if (c == ',' && next == EXPECT_COMMA_OR_END) {
			put_literal(b, ",", 1);
			next = EXPECT_KEY;
		} else if (next == EXPECT_VALUE && (n = json_word(rest))) {
			put_literal(b, rest.data, n);
			next = EXPECT_COMMA_OR_END;
		} else {
			(void)refuse(b, "this is not JSON", rest);
		}
		i += n;
	}
	if (b->rc == 0 && (depth || next != EXPECT_COMMA_OR_END))
		(void)refuse(b, "not one JSON object", text);
	put_literal(b, "\n", 1);
}

static void ordered_json_format(struct builder *b, struct foil_slice text)
{
	struct foil_slice own = foil_blob_copy(&b->f->mem, text.data, text.n_bytes);
	if (!own.data || tele_json_order((char *)(uintptr_t)own.data /* the blob's own copy */, own.n_bytes, &b->f->mem) < 0)
		b->rc = foil_error_set(b->err, -ENOMEM, "no memory for the access log format");
	else
		json_format(b, own);
}

/* ---- entry points */

struct tele_format *tele_format_new(struct foil_slice format, bool is_json, struct foil_error *err)
{
	struct foil_blob mem = {0};
	struct tele_format *f = foil_blob_alloc(&mem, sizeof(*f));
	struct foil_slice text = format.n_bytes ? format : is_json ? FOIL_SLICE(istio_json) : FOIL_SLICE(istio_text);
	struct builder b = {.f = f, .err = err};
	if (text.n_bytes > TELE_FORMAT_BYTES_MAX) {
		(void)foil_error_set(err, -EINVAL, "access log format: more than %u bytes", TELE_FORMAT_BYTES_MAX);
		foil_blob_free(&mem);
		return NULL;
	}
	if (f) {
		f->mem = mem;
		f->captures.key = tele_hash(is_json, text.data, text.n_bytes) | 1;
		f->ops = foil_blob_array(&f->mem, OPS_MAX, sizeof(*f->ops));
		b.n_literal_room = text.n_bytes + 16;
		b.literal = foil_blob_alloc(&f->mem, b.n_literal_room);
	}
	if (!f || !f->ops || !b.literal)
		b.rc = foil_error_set(err, -ENOMEM, "no memory for the access log format");
	else if (is_json)
		ordered_json_format(&b, text);
	else
		text_format(&b, text, TELE_MODE_TEXT);
	if (b.rc == 0 && !is_json && text.data[text.n_bytes - 1] != '\n')
		put_literal(&b, "\n", 1); /* a line is a line, as in Istio, which appends it too */
	if (b.rc == 0)
		put_op(&b, NULL);
	if (b.rc == 0)
		return f;
	tele_format_free(f);
	return NULL;
}

void tele_format_free(struct tele_format *f)
{
	if (!f)
		return;
	struct foil_blob mem = f->mem; /* f itself is in it */
	foil_blob_free(&mem);
}
