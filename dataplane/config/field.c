/* Single fields of resources, see config_priv.h: what a text, a number, an address may be, with the sentence for when it is not.
 * What no field's rule needs is not here. Invariant: path is the way from the resource's root to the message at hand, cut at SNAP_FIELD_BYTES. */
#include "dataplane/config/config_priv.h"

#include <arpa/inet.h>
#include <errno.h>

/* ---- where we are */

static uint16_t append(char *path, size_t at, const char *field, long index)
{
	int n;
	if (at + 1 >= SNAP_FIELD_BYTES)
		return (uint16_t)at;
	if (index < 0)
		n = snprintf(path + at, SNAP_FIELD_BYTES - at, "%s%s", at ? "." : "", field);
	else
		n = snprintf(path + at, SNAP_FIELD_BYTES - at, "%s%s[%ld]", at ? "." : "", field, index);
	return (uint16_t)FOIL_MIN(at + (n > 0 ? (size_t)n : 0), SNAP_FIELD_BYTES - 1);
}

uint16_t snap_enter(struct snap_dec *d, const char *field, long index)
{
	uint16_t mark = d->n_path;
	d->n_path = append(d->path, mark, field, index);
	return mark;
}

void snap_leave(struct snap_dec *d, uint16_t mark)
{
	d->n_path = mark;
	d->path[mark] = 0;
}

void snap_printable(char *text)
{
	for (char *p = text; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
}

int snap_fail(struct snap_dec *d, const char *field, const char *fmt, ...)
{
	va_list ap;
	memcpy(d->err->field, d->path, d->n_path);
	d->err->field[d->n_path] = 0;
	if (field)
		(void)append(d->err->field, d->n_path, field, -1);
	va_start(ap, fmt);
	(void)vsnprintf(d->err->text, sizeof(d->err->text), fmt, ap); /* a longer sentence is cut */
	va_end(ap);
	snap_printable(d->err->text);
	return -EINVAL;
}

int snap_no_memory(struct snap_dec *d)
{
	(void)snap_fail(d, NULL, "the snapshot is larger than the data plane's budget for one, or memory is short");
	return -ENOMEM;
}

/* ---- text */

static bool is_token(unsigned char c) /* RFC 9110 5.6.2, lower case */
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr("!#$%&'*+-.^_`|~", c));
}

static bool may_hold(enum snap_text kind, unsigned char c)
{
	switch (kind) {
	case SNAP_TEXT_ANY:
	case SNAP_TEXT_NAME:
		return c >= 0x20 && c != 0x7f;
	case SNAP_TEXT_VALUE:
		return (c >= 0x20 && c != 0x7f) || c == '\t';
	case SNAP_TEXT_HEADER:
		return is_token(c);
	case SNAP_TEXT_HOST:
		return c > 0x20 && c < 0x7f && !(c >= 'A' && c <= 'Z') && !strchr("/@?#*\\\"<>^`{|}", c);
	}
	FOIL_UNREACHABLE();
}

static const char *rule_of(enum snap_text kind)
{
	switch (kind) {
	case SNAP_TEXT_ANY:
	case SNAP_TEXT_NAME: return "a control character in a text";
	case SNAP_TEXT_VALUE: return "a character that no header's value may hold";
	case SNAP_TEXT_HEADER: return "not a header's name in lower case";
	case SNAP_TEXT_HOST: return "not a host in lower case";
	}
	FOIL_UNREACHABLE();
}

int snap_text(struct snap_dec *d, const char *field, const char *value, enum snap_text kind, struct foil_slice *out)
{
	size_t n = value ? strlen(value) : 0, max = kind == SNAP_TEXT_NAME ? SNAP_NAME_BYTES_MAX : SNAP_TEXT_BYTES_MAX;
	if (n == 0 && (kind == SNAP_TEXT_NAME || kind == SNAP_TEXT_HEADER))
		return snap_fail(d, field, "is empty");
	if (n > max)
		return snap_fail(d, field, "has %zu bytes; %zu at most", n, max);
	for (size_t i = 0; i < n; i++)
		if (!may_hold(kind, (unsigned char)value[i]))
			return snap_fail(d, field, "%s: \"%.100s\"", rule_of(kind), value);
	struct foil_slice copy = foil_blob_copy(d->b, value, n);
	if (!copy.data)
		return snap_no_memory(d);
	*out = copy;
	return 0;
}

int snap_texts(struct snap_dec *d, const char *field, char *const *list, size_t n, enum snap_text kind, const struct foil_slice **out, uint16_t *n_out)
{
	struct foil_slice *own;
	int rc = snap_list(d, field, n, 0, SNAP_ARRAY_MAX, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		uint16_t mark = snap_enter(d, field, (long)i);
		rc = snap_text(d, NULL, list[i], kind, &own[i]);
		if (rc == 0)
			snap_leave(d, mark);
	}
	if (rc < 0)
		return rc;
	*out = own;
	*n_out = (uint16_t)n;
	return 0;
}

int snap_own_name(struct snap_dec *d, const char *field, const char *name)
{
	struct foil_slice given = foil_slice_str(name);
	if (!foil_slice_eq(given, d->res->res->name))
		return snap_fail(d, field, "is \"%.100s\", which is not the resource's name", name ? name : "");
	return 0;
}

int snap_lower(struct snap_dec *d, struct foil_slice *text)
{
	char *p = foil_blob_alloc(d->b, text->n_bytes + 1);
	if (!p)
		return snap_no_memory(d);
	for (uint32_t i = 0; i < text->n_bytes; i++)
		p[i] = foil_ascii_lower(text->data[i]);
	*text = foil_slice_of(p, text->n_bytes);
	return 0;
}

/* ---- numbers and lists */

int snap_list(struct snap_dec *d, const char *field, size_t n, size_t n_min, size_t n_max, size_t bytes_each, void **out)
{
	if (n < n_min)
		return snap_fail(d, field, "has %zu entries; %zu at least", n, n_min);
	if (n > n_max)
		return snap_fail(d, field, "has %zu entries; %zu at most", n, n_max);
	void *p = foil_blob_array(d->b, n, bytes_each);
	if (!p)
		return snap_no_memory(d);
	*out = p;
	return 0;
}

int snap_range(struct snap_dec *d, const char *field, uint64_t value, uint64_t min, uint64_t max)
{
	if (value < min || value > max)
		return snap_fail(d, field, "is %llu; must be %llu to %llu", (unsigned long long)value, (unsigned long long)min, (unsigned long long)max);
	return 0;
}

int snap_duration(struct snap_dec *d, const char *field, bool has, uint64_t value_us, uint64_t default_us, uint64_t *out_us)
{
	if (has && value_us > SNAP_DURATION_US_MAX)
		return snap_fail(d, field, "is %llu us, longer than 31 years", (unsigned long long)value_us);
	*out_us = has ? value_us : default_us;
	return 0;
}

int snap_statuses(struct snap_dec *d, const char *field, const uint32_t *list, size_t n, const uint16_t **out, uint16_t *n_out)
{
	uint16_t *own;
	int rc = snap_list(d, field, n, 0, 500, sizeof(*own), (void **)&own);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		rc = snap_range(d, field, list[i], 100, 599);
		if (rc == 0)
			own[i] = (uint16_t)list[i];
	}
	if (rc < 0)
		return rc;
	*out = own;
	*n_out = (uint16_t)n;
	return 0;
}

/* ---- addresses */

static bool parse_ip(const char *text, uint8_t out[16], bool *is_v4)
{
	uint8_t v4[4];
	*is_v4 = inet_pton(AF_INET, text, v4) == 1;
	if (!*is_v4)
		return inet_pton(AF_INET6, text, out) == 1;
	memset(out, 0, 10);
	out[10] = out[11] = 0xff;
	memcpy(out + 12, v4, 4);
	return true;
}

int snap_ip(struct snap_dec *d, const char *field, const char *text, uint8_t out[16])
{
	bool is_v4;
	if (!text || !parse_ip(text, out, &is_v4))
		return snap_fail(d, field, "\"%.64s\" is no IPv4 or IPv6 address", text ? text : "");
	return 0;
}

int snap_port(struct snap_dec *d, const char *field, uint32_t value, uint16_t *out)
{
	int rc = snap_range(d, field, value, 1, 65535);
	if (rc == 0)
		*out = (uint16_t)value;
	return rc;
}

/* ADDRESS/LENGTH, or an address alone. */
static bool parse_cidr(const char *text, struct mesh_cidr *out)
{
	char address[64];
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	bool is_v4;
	if (n >= sizeof(address))
		return false;
	memcpy(address, text, n);
	address[n] = 0;
	if (!parse_ip(address, out->ip, &is_v4))
		return false;
	unsigned int len = 0, max = is_v4 ? 32 : 128;
	if (slash && (!slash[1] || strlen(slash + 1) > 3))
		return false;
	for (const char *p = slash ? slash + 1 : ""; *p; p++) {
		if (*p < '0' || *p > '9')
			return false;
		len = 10 * len + (unsigned int)(*p - '0');
	}
	if (len > max)
		return false;
	out->len = (uint8_t)((slash ? len : max) + (is_v4 ? 96 : 0));
	return true;
}

int snap_cidrs(struct snap_dec *d, const char *field, char *const *list, size_t n, const struct mesh_cidr **out, uint16_t *n_out)
{
	struct mesh_cidr *own;
	int rc = snap_list(d, field, n, 0, SNAP_ARRAY_MAX, sizeof(*own), (void **)&own);
	if (rc < 0)
		return rc;
	for (size_t i = 0; i < n; i++) {
		if (!parse_cidr(list[i], &own[i])) {
			(void)snap_enter(d, field, (long)i);
			return snap_fail(d, NULL, "\"%.64s\" is no address range", list[i]);
		}
	}
	*out = own;
	*n_out = (uint16_t)n;
	return 0;
}

/* ---- parts that have a rule of their own */

int snap_source(struct snap_dec *d, const Foil__Conf__SourceRef *m, struct mesh_source *out)
{
	if (!m)
		return 0;
	uint16_t mark = snap_enter(d, "source", -1);
	int rc = snap_text(d, "resource", m->resource, SNAP_TEXT_ANY, &out->resource);
	if (rc == 0)
		rc = snap_text(d, "file", m->file, SNAP_TEXT_ANY, &out->file);
	if (rc < 0)
		return rc;
	out->line = m->line;
	out->column = m->column;
	snap_leave(d, mark);
	return 0;
}

int snap_regex(struct snap_dec *d, const char *field, struct foil_slice pattern, bool ignore_case, const struct mesh_regex **out)
{
	struct foil_error err = {0};
	int rc = mesh_regex_compile(d->res->res, pattern, ignore_case, d->n_workers, out, &err);
	if (rc == -ENOMEM)
		return snap_no_memory(d);
	if (rc < 0)
		return snap_fail(d, field, "%.300s", err.text);
	d->n_regexes++;
	return 0;
}

static int slot_ref(struct snap_dec *d, struct snap_slots *table, struct foil_slice name, uint32_t *number)
{
	struct snap_ref *ref = foil_blob_alloc(d->b, sizeof(*ref));
	struct snap_slot *slot = ref ? snap_slot_get(table, name) : NULL;
	if (!slot)
		return snap_no_memory(d);
	*ref = (struct snap_ref){.next = d->res->refs, .table = table, .slot = slot};
	d->res->refs = ref;
	*number = slot->number;
	return 0;
}

static int name_ref(struct snap_dec *d, struct snap_slots *table, const char *field, const char *name, struct foil_slice *out, uint32_t *number)
{
	int rc = snap_text(d, field, name, SNAP_TEXT_NAME, out);
	return rc < 0 ? rc : slot_ref(d, table, *out, number);
}

int snap_cluster_ref(struct snap_dec *d, const char *field, const char *name, struct foil_slice *out, uint32_t *slot)
{
	return name_ref(d, &d->snap->clusters, field, name, out, slot);
}

int snap_secret_ref(struct snap_dec *d, const char *field, const char *name, struct foil_slice *out, uint32_t *slot)
{
	return name_ref(d, &d->snap->secrets, field, name, out, slot);
}

int snap_tls_ref(struct snap_dec *d, struct foil_slice rules, uint32_t *slot)
{
	return slot_ref(d, &d->snap->tls, rules, slot);
}

int snap_routes_ref(struct snap_dec *d, const char *field, const char *name, struct foil_slice *out, uint32_t *slot)
{
	return name_ref(d, &d->snap->routes, field, name, out, slot);
}
