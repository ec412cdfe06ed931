/* The text that a handler writes: one growing buffer, and JSON strings in it. Grows by doubling up to ADM_REPLY_BYTES_MAX; past that or
 * without memory the reply is broken and says so once, at the end. */
#include "ctrl/admin/admin_priv.h"

#include <stdio.h>
#include <stdlib.h>

void adm_reply_init(struct adm_reply *r)
{
	*r = (struct adm_reply){.status = 200, .type = "text/plain; charset=utf-8", .policy = "default-src 'none'; frame-ancestors 'none'"};
}

void adm_reply_fini(struct adm_reply *r)
{
	free(r->data);
	*r = (struct adm_reply){0};
}

void adm_reply_status(struct adm_reply *r, unsigned int status)
{
	r->status = status;
}

void adm_reply_type(struct adm_reply *r, const char *type)
{
	r->type = type;
}

static bool make_room(struct adm_reply *r, size_t n_bytes)
{
	if (r->is_broken)
		return false;
	if (n_bytes <= r->n_room - r->n_bytes)
		return true;
	if (n_bytes > ADM_REPLY_BYTES_MAX - r->n_bytes) {
		r->is_broken = true;
		return false;
	}
	size_t room = FOIL_MAX(r->n_room * 2, FOIL_MAX(r->n_bytes + n_bytes, (size_t)4096));
	char *data = realloc(r->data, room);
	if (!data) {
		r->is_broken = true;
		return false;
	}
	r->data = data;
	r->n_room = room;
	return true;
}

void adm_reply_bytes(struct adm_reply *r, const void *data, size_t n_bytes)
{
	if (n_bytes == 0 || !make_room(r, n_bytes))
		return;
	memcpy(r->data + r->n_bytes, data, n_bytes);
	r->n_bytes += n_bytes;
}

void adm_reply_printf(struct adm_reply *r, const char *fmt, ...)
{
	va_list ap, again;

	va_start(ap, fmt);
	va_copy(again, ap);
	int n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n >= 0 && make_room(r, (size_t)n + 1)) {
		(void)vsnprintf(r->data + r->n_bytes, (size_t)n + 1, fmt, again); /* cannot fail: measured above */
		r->n_bytes += (size_t)n;
	}
	va_end(again);
}

/* How many bytes the UTF-8 sequence at p has (RFC 3629), 0 when it is not one. */
static size_t utf8_bytes(const unsigned char *p, size_t n_left)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	size_t n = p[0] < 0x80 ? 1 : p[0] >> 5 == 6 ? 2 : p[0] >> 4 == 14 ? 3 : p[0] >> 3 == 30 ? 4 : 0;

	if (n < 2 || n > n_left)
		return n == 1 ? 1 : 0;
	uint32_t code = p[0] & (0x7fu >> n);
	for (size_t i = 1; i < n; i++) {
		if (p[i] >> 6 != 2)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	return code < least[n] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff) ? 0 : n;
}

void adm_reply_json(struct adm_reply *r, const char *text, size_t n_bytes)
{
	const unsigned char *p = (const unsigned char *)text;

	adm_reply_bytes(r, "\"", 1);
	for (size_t i = 0; i < n_bytes;) {
		size_t n = utf8_bytes(p + i, n_bytes - i);
		if (n == 0)
			adm_reply_bytes(r, "\xef\xbf\xbd", 3);
		else if (p[i] == '"' || p[i] == '\\')
			adm_reply_printf(r, "\\%c", p[i]);
		else if (p[i] < 0x20 || p[i] == 0x7f)
			adm_reply_printf(r, "\\u%04x", p[i]);
		else
			adm_reply_bytes(r, p + i, n);
		i += n ? n : 1;
	}
	adm_reply_bytes(r, "\"", 1);
}

void adm_reply_json_str(struct adm_reply *r, const char *text)
{
	if (text)
		adm_reply_json(r, text, strlen(text));
	else
		adm_reply_bytes(r, "null", 4);
}
