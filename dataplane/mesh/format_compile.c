/* Text with format operators into parts (config.h: mesh_format_compile). Set-up, housekeeping thread.
 *
 * The grammar is Envoy's: %NAME%, %NAME(argument)%, %NAME(argument):N% (the first N bytes), %% for a percent. A percent that begins none of these, and
 * an operator that format.def does not list, is refused with a sentence; Envoy would refuse the whole resource, too. */
#include <errno.h>

#include "dataplane/core/error.h"
#include "dataplane/mesh/format_priv.h"

#define PARTS_MAX 1024u
#define SHOWN_MAX 100u /* of a text in a sentence */

enum argument { ARGUMENT_NONE, ARGUMENT_HEADER, ARGUMENT_TIME, ARGUMENT_NAME, ARGUMENT_GRPC, ARGUMENT_ANY, ARGUMENT_PATH };

static const struct {
	struct foil_slice name;
	enum argument argument;
} operators[FORMAT_OP_COUNT] = {
#define X(ID, name_, argument_) [FORMAT_##ID] = {{name_, sizeof(name_) - 1}, ARGUMENT_##argument_},
#include "dataplane/mesh/format.def"
#undef X
};

/* One operator between percents, cut out but not yet understood. */
struct raw {
	struct foil_slice name, argument;
	bool has_argument, has_length;
	uint32_t bytes_max;
	uint32_t n_bytes; /* with both percents */
};

static int refuse(struct foil_error *err, struct foil_slice what, const char *why)
{
	return foil_error_set(err, -EINVAL, "format operator '%.*s' %s", (int)FOIL_MIN(what.n_bytes, SHOWN_MAX), what.data ? what.data : "", why);
}

static bool is_name_byte(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* text begins with a percent. */
static bool cut(struct foil_slice text, struct raw *raw)
{
	uint32_t at = 1, begin;

	*raw = (struct raw){.bytes_max = UINT32_MAX};
	while (at < text.n_bytes && is_name_byte(text.data[at]))
		at++;
	raw->name = foil_slice_of(text.data + 1, at - 1);
	if (at < text.n_bytes && text.data[at] == '(') {
		const char *end = memchr(text.data + at, ')', text.n_bytes - at);
		if (!end)
			return false;
		raw->has_argument = true;
		raw->argument = foil_slice_of(text.data + at + 1, (size_t)(end - text.data) - at - 1);
		at = (uint32_t)(end - text.data) + 1;
	}
	if (at < text.n_bytes && text.data[at] == ':') {
		uint64_t n = 0;
		for (begin = ++at; at < text.n_bytes && text.data[at] >= '0' && text.data[at] <= '9' && at - begin < 9; at++)
			n = n * 10 + (uint64_t)(text.data[at] - '0');
		raw->has_length = at > begin;
		raw->bytes_max = (uint32_t)n;
		if (!raw->has_length)
			return false;
	}
	raw->n_bytes = at + 1;
	return raw->name.n_bytes && at < text.n_bytes && text.data[at] == '%';
}

static enum format_op op_of(struct foil_slice name)
{
	for (int op = 1; op < FORMAT_OP_COUNT; op++)
		if (foil_slice_eq(operators[op].name, name))
			return (enum format_op)op;
	return FORMAT_LITERAL;
}

/* A field name (RFC 9110 5.1), or a pseudo header, in lower case. */
static int header_name(struct foil_blob *b, struct foil_slice text, struct foil_slice *name, uint16_t *id, struct foil_error *err)
{
	static const char others[] = "!#$&'*+-.^_`|~"; /* a percent would end the operator */
	struct foil_slice copy = foil_blob_copy(b, text.data, text.n_bytes);
	char *p = (char *)(uintptr_t)copy.data; /* the blob's own copy */

	if (!p)
		return foil_error_set(err, -ENOMEM, "no memory left for a format: the resource is larger than its budget");
	for (uint32_t i = 0; i < copy.n_bytes; i++) {
		bool is_word = (p[i] >= 'A' && p[i] <= 'Z') || (p[i] >= 'a' && p[i] <= 'z') || (p[i] >= '0' && p[i] <= '9');
		if (!is_word && !(p[i] && strchr(others, p[i])) && !(i == 0 && p[i] == ':'))
			return refuse(err, text, "names no header");
		p[i] = foil_ascii_lower(p[i]);
	}
	if (copy.n_bytes == 0 || (copy.n_bytes == 1 && p[0] == ':'))
		return refuse(err, text, "names no header");
	*name = copy;
	*id = (uint16_t)http_header_intern(copy);
	return 0;
}

static int header_argument(struct foil_blob *b, const struct raw *raw, struct mesh_format_part *part, struct foil_error *err)
{
	const char *mark = raw->argument.n_bytes ? memchr(raw->argument.data, '?', raw->argument.n_bytes) : NULL;
	uint32_t n = mark ? (uint32_t)(mark - raw->argument.data) : raw->argument.n_bytes;
	int rc = header_name(b, foil_slice_of(raw->argument.data, n), &part->text, &part->id, err);

	if (rc == 0 && mark)
		rc = header_name(b, foil_slice_of(mark + 1, raw->argument.n_bytes - n - 1), &part->other, &part->other_id, err);
	return rc;
}

static int grpc_argument(const struct raw *raw, struct mesh_format_part *part, struct foil_error *err)
{
	if (!raw->has_argument || foil_slice_eq(raw->argument, FOIL_SLICE("CAMEL_STRING")))
		part->grpc = FORMAT_GRPC_CAMEL;
	else if (foil_slice_eq(raw->argument, FOIL_SLICE("SNAKE_STRING")))
		part->grpc = FORMAT_GRPC_SNAKE;
	else if (foil_slice_eq(raw->argument, FOIL_SLICE("NUMBER")))
		part->grpc = FORMAT_GRPC_NUMBER;
	else
		return refuse(err, raw->name, "takes CAMEL_STRING, SNAKE_STRING or NUMBER in its brackets");
	return 0;
}

/* "WQ" or "NQ" (with or without query), then ":" and which path; of QUERY_PARAMS only which. */
static int path_argument(const struct raw *raw, struct mesh_format_part *part, struct foil_error *err)
{
	struct foil_slice which = raw->argument;

	if (part->op == FORMAT_PATH && which.n_bytes) {
		if (!foil_slice_has_prefix(which, FOIL_SLICE("WQ")) && !foil_slice_has_prefix(which, FOIL_SLICE("NQ")))
			return refuse(err, raw->name, "takes WQ or NQ, then ORIG, PATH or ORIG_OR_PATH after a colon");
		part->without_query = which.data[0] == 'N';
		if (which.n_bytes > 2 && which.data[2] != ':')
			return refuse(err, raw->name, "takes WQ or NQ, then ORIG, PATH or ORIG_OR_PATH after a colon");
		which = which.n_bytes > 2 ? foil_slice_of(which.data + 3, which.n_bytes - 3) : FOIL_SLICE("");
	}
	if (!which.n_bytes || foil_slice_eq(which, FOIL_SLICE("ORIG_OR_PATH")))
		part->path = FORMAT_PATH_ORIGINAL_OR_NOW;
	else if (foil_slice_eq(which, FOIL_SLICE("PATH")))
		part->path = FORMAT_PATH_NOW;
	else if (foil_slice_eq(which, FOIL_SLICE("ORIG")))
		part->path = FORMAT_PATH_ORIGINAL;
	else
		return refuse(err, raw->name, "takes ORIG, PATH or ORIG_OR_PATH in its brackets");
	return 0;
}

static int text_argument(struct foil_blob *b, struct foil_slice text, struct mesh_format_part *part, struct foil_error *err)
{
	part->text = foil_blob_copy(b, text.data, text.n_bytes);
	return part->text.data ? 0 : foil_error_set(err, -ENOMEM, "no memory left for a format: the resource is larger than its budget");
}

static int understand(struct foil_blob *b, const struct raw *raw, struct mesh_format_part *part, struct foil_error *err)
{
	*part = (struct mesh_format_part){.op = op_of(raw->name), .bytes_max = raw->bytes_max};
	if (part->op == FORMAT_LITERAL)
		return refuse(err, raw->name, "is not known");
	switch (operators[part->op].argument) {
	case ARGUMENT_NONE:
		return raw->has_argument ? refuse(err, raw->name, "takes nothing in brackets") : 0;
	case ARGUMENT_HEADER:
		return raw->has_argument ? header_argument(b, raw, part, err) : refuse(err, raw->name, "needs a header's name in brackets");
	case ARGUMENT_NAME:
		return raw->argument.n_bytes ? text_argument(b, raw->argument, part, err) : refuse(err, raw->name, "needs a name in brackets");
	case ARGUMENT_TIME:
		if (raw->has_argument && !mesh_format_time_check(raw->argument))
			return refuse(err, raw->argument, "is a time format with an unknown or too many words");
		return text_argument(b, raw->has_argument ? raw->argument : FORMAT_TIME_DEFAULT, part, err);
	case ARGUMENT_ANY:
		return 0;
	case ARGUMENT_PATH:
		return path_argument(raw, part, err);
	case ARGUMENT_GRPC:
		return grpc_argument(raw, part, err);
	}
	FOIL_UNREACHABLE();
}

/* The literal run at the start of text, "%%" as one percent, into data. *used: the bytes of text. */
static uint32_t literal_run(struct foil_slice text, char *data, uint32_t *used)
{
	uint32_t n = 0, at = 0;

	while (at < text.n_bytes) {
		bool is_percent = text.data[at] == '%';
		if (is_percent && !(at + 1 < text.n_bytes && text.data[at + 1] == '%'))
			break;
		data[n++] = text.data[at];
		at += 1 + is_percent;
	}
	*used = at;
	return n;
}

static uint32_t parts_at_most(struct foil_slice text)
{
	uint32_t n = 1;

	for (uint32_t i = 0; i < text.n_bytes; i++)
		n += text.data[i] == '%';
	return n;
}

static int compile_parts(struct foil_blob *b, struct foil_slice text, struct mesh_format_part *parts, uint16_t *n_parts, struct foil_error *err)
{
	char *literals = foil_blob_alloc(b, text.n_bytes + 1);
	struct raw raw;
	uint16_t n = 0;

	if (!literals)
		return foil_error_set(err, -ENOMEM, "no memory left for a format: the resource is larger than its budget");
	for (uint32_t at = 0; at < text.n_bytes;) {
		struct foil_slice rest = foil_slice_of(text.data + at, text.n_bytes - at);
		uint32_t used, n_literal = literal_run(rest, literals, &used);
		if (n_literal) {
			parts[n++] = (struct mesh_format_part){.op = FORMAT_LITERAL, .text = foil_slice_of(literals, n_literal), .bytes_max = UINT32_MAX};
			literals += n_literal;
			at += used;
			continue;
		}
		if (!cut(rest, &raw))
			return refuse(err, rest, "has no end, or is no operator; a percent sign is written %%");
		int rc = understand(b, &raw, &parts[n++], err);
		if (rc)
			return rc;
		at += raw.n_bytes;
	}
	*n_parts = n;
	return 0;
}

int mesh_format_compile(struct foil_blob *b, struct foil_slice text, struct mesh_format *out, struct foil_error *err)
{
	uint32_t n_max = parts_at_most(text);
	uint16_t n_parts = 0;

	if (n_max > PARTS_MAX)
		return foil_error_set(err, -EINVAL, "a format has more than %u percent signs", PARTS_MAX);
	struct mesh_format_part *parts = foil_blob_array(b, n_max, sizeof(*parts));
	if (!parts)
		return foil_error_set(err, -ENOMEM, "no memory left for a format: the resource is larger than its budget");
	int rc = compile_parts(b, text, parts, &n_parts, err);
	if (rc)
		return rc;
	bool is_literal = n_parts == 0 || (n_parts == 1 && parts[0].op == FORMAT_LITERAL);
	*out = (struct mesh_format){.parts = parts, .n_parts = n_parts, .is_literal = is_literal};
	if (is_literal)
		out->literal = n_parts ? parts[0].text : FOIL_SLICE("");
	return 0;
}

int mesh_log_capture_compile(struct foil_blob *b, struct foil_slice capture, struct mesh_format *out, struct foil_error *err)
{
	char *text = foil_blob_alloc(b, capture.n_bytes + 2u);

	if (!text)
		return foil_error_set(err, -ENOMEM, "no memory left for a format: the resource is larger than its budget");
	text[0] = text[capture.n_bytes + 1] = '%';
	memcpy(text + 1, capture.data, capture.n_bytes);
	int rc = mesh_format_compile(b, foil_slice_of(text, capture.n_bytes + 2u), out, err);
	if (rc == 0 && (out->n_parts != 1 || out->parts[0].op == FORMAT_LITERAL))
		return refuse(err, capture, "is not one operator");
	return rc;
}
