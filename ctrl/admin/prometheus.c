/* Writes metrics as Prometheus reads them (exposition format 0.0.4, "text format details" of its documentation). Names are valid already (the reader
 * checks them, ours are literals); label values and help are any bytes and are made valid UTF-8 and escaped here. */
#include "ctrl/admin/prometheus.h"

#include "ctrl/admin/admin_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define LABELS_BYTES_MAX 16384u

struct text {
	char data[LABELS_BYTES_MAX];
	size_t n_bytes;
	bool is_cut;
};

static void put(struct text *t, const char *data, size_t n)
{
	if (n > sizeof(t->data) - t->n_bytes) {
		t->is_cut = true;
		return;
	}
	memcpy(t->data + t->n_bytes, data, n);
	t->n_bytes += n;
}

/* How many bytes the well-formed UTF-8 character at s takes (RFC 3629), 0 if none. */
static size_t utf8_bytes(const unsigned char *s, size_t n)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t want = s[0] < 0x80 ? 1 : s[0] >= 0xc2 && s[0] < 0xe0 ? 2 : (s[0] & 0xf0) == 0xe0 ? 3 : s[0] >= 0xf0 && s[0] < 0xf5 ? 4 : 0;
	if (!want || want > n)
		return 0;
	uint32_t v = want == 1 ? s[0] : s[0] & (0x7fu >> want);
	for (size_t i = 1; i < want; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		v = v << 6 | (s[i] & 0x3fu);
	}
	return v >= least[want] && v < 0x110000 && !(v >= 0xd800 && v < 0xe000) ? want : 0;
}

/* Backslash and line feed, in label values the quote too. */
static void put_escaped(struct text *t, struct foil_slice s, bool is_label)
{
	for (size_t i = 0; i < s.n_bytes;) {
		size_t n = utf8_bytes((const unsigned char *)s.data + i, s.n_bytes - i);
		char c = s.data[i];
		if (n == 0)
			put(t, "\xef\xbf\xbd", 3);
		else if (c == '\n')
			put(t, "\\n", 2);
		else if (c == '\\' || (c == '"' && is_label))
			put(t, (const char[]){'\\', c}, 2);
		else
			put(t, s.data + i, n);
		i += n ? n : 1;
	}
}

static void labels(struct text *t, const struct tele_sample *s)
{
	for (uint32_t i = 0; i < s->n_labels; i++) {
		put(t, ",", i ? 1 : 0);
		put(t, s->labels[i].name.data, s->labels[i].name.n_bytes);
		put(t, "=\"", 2);
		put_escaped(t, s->labels[i].value, true);
		put(t, "\"", 1);
	}
}

static const char *type_word(enum tele_segment_kind kind)
{
	switch (kind) {
	case TELE_SEGMENT_COUNTER: return "counter";
	case TELE_SEGMENT_GAUGE: return "gauge";
	case TELE_SEGMENT_HISTOGRAM: return "histogram";
	}
	FOIL_UNREACHABLE();
}

static void begin_metric(struct adm_prometheus *p, const struct tele_sample *s)
{
	struct text help;
	if (strlen(p->last_name) == s->name.n_bytes && memcmp(p->last_name, s->name.data, s->name.n_bytes) == 0)
		return;
	memcpy(p->last_name, s->name.data, s->name.n_bytes);
	p->last_name[s->name.n_bytes] = 0;
	help.n_bytes = 0; /* not the whole room: this is once a sample */
	help.is_cut = false;
	if (s->help.n_bytes) {
		put_escaped(&help, s->help, false);
		adm_reply_printf(p->reply, "# HELP %s %.*s\n", p->last_name, (int)help.n_bytes, help.data);
	}
	adm_reply_printf(p->reply, "# TYPE %s %s\n", p->last_name, type_word(s->kind));
}

static void line(struct adm_prometheus *p, const char *suffix, const struct text *t, const char *le, const char *value)
{
	struct adm_reply *r = p->reply;
	adm_reply_bytes(r, p->last_name, strlen(p->last_name));
	adm_reply_bytes(r, suffix, strlen(suffix));
	if (t->n_bytes || le) {
		adm_reply_bytes(r, "{", 1);
		adm_reply_bytes(r, t->data, t->n_bytes);
		if (le) {
			adm_reply_bytes(r, ",le=\"", t->n_bytes ? 5 : 0);
			adm_reply_bytes(r, "le=\"", t->n_bytes ? 0 : 4);
			adm_reply_bytes(r, le, strlen(le));
			adm_reply_bytes(r, "\"", 1);
		}
		adm_reply_bytes(r, "}", 1);
	}
	adm_reply_bytes(r, " ", 1);
	adm_reply_bytes(r, value, strlen(value));
	adm_reply_bytes(r, "\n", 1);
	p->n_samples++;
}

static void histogram(struct adm_prometheus *p, const struct tele_sample *s, const struct text *t)
{
	char le[32], value[32];
	uint64_t total = 0;
	for (uint32_t i = 0; i <= s->n_buckets; i++) {
		total += s->counts[i];
		(void)snprintf(value, sizeof(value), "%" PRIu64, total); /* fits */
		if (i < s->n_buckets)
			(void)snprintf(le, sizeof(le), "%.15g", s->bounds[i]); /* fits */
		line(p, "_bucket", t, i < s->n_buckets ? le : "+Inf", value);
	}
	(void)snprintf(value, sizeof(value), "%.15g", s->sum); /* fits */
	line(p, "_sum", t, NULL, value);
	(void)snprintf(value, sizeof(value), "%" PRIu64, total); /* fits */
	line(p, "_count", t, NULL, value);
}

void adm_prometheus_sample(void *to, const struct tele_sample *s)
{
	struct adm_prometheus *p = to;
	struct text t;
	char value[32];
	t.n_bytes = 0; /* not the whole room: this is once a sample */
	t.is_cut = false;
	labels(&t, s);
	bool is_too_much = s->kind == TELE_SEGMENT_HISTOGRAM && p->reply->n_bytes > ADM_PROMETHEUS_HISTOGRAM_BYTES_MAX;
	if (s->name.n_bytes >= sizeof(p->last_name) || t.is_cut || is_too_much) {
		p->n_left_out++;
		return;
	}
	begin_metric(p, s);
	switch (s->kind) {
	case TELE_SEGMENT_COUNTER: (void)snprintf(value, sizeof(value), "%" PRIu64, s->value); break;
	case TELE_SEGMENT_GAUGE: (void)snprintf(value, sizeof(value), "%" PRId64, (int64_t)s->value); break;
	case TELE_SEGMENT_HISTOGRAM: histogram(p, s, &t); return;
	}
	line(p, "", &t, NULL, value);
}

static void own(struct adm_prometheus *p, enum tele_segment_kind kind, const char *name, const char *help, const char *label, const char *label_value,
		uint64_t n)
{
	struct tele_pair pair = {foil_slice_str(label), foil_slice_str(label_value)};
	adm_prometheus_sample(p, &(struct tele_sample){.name = foil_slice_str(name), .help = foil_slice_str(help), .kind = kind, .labels = &pair,
						       .n_labels = label ? 1 : 0, .value = n});
}

void adm_prometheus_counter(struct adm_prometheus *p, const char *name, const char *help, const char *label, const char *label_value, uint64_t n)
{
	own(p, TELE_SEGMENT_COUNTER, name, help, label, label_value, n);
}

void adm_prometheus_gauge(struct adm_prometheus *p, const char *name, const char *help, const char *label, const char *label_value, int64_t n)
{
	own(p, TELE_SEGMENT_GAUGE, name, help, label, label_value, (uint64_t)n);
}
