/* Access log formats and lines: bytes up to the first NUL are a format, text or JSON by the first bit, what follows is what a client sent. A format that
 * is taken makes one line, without control bytes in it, and, if it is JSON, JSON's own quotes only. */
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "dataplane/telemetry/tele_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

static void render(const struct tele_format *f, struct foil_slice sent, bool is_json, bool has_own_controls)
{
	static char line[1 << 20];
	struct foil_slice texts[TELE_TEXT_COUNT];
	struct tele_event e = {.start_wall_us = 1700000000123456ull, .status = 200, .grpc_status = 3, .version = 1, .flags = TELE_FLAG_UF};
	struct tele_second second = {0};
	struct tele_out out = {line, 0, sizeof(line), false, &second};
	json_error_t err;
	for (uint32_t i = 0; i < TELE_TEXT_COUNT; i++)
		texts[i] = sent;
	tele_format_render(f, &e, texts, &out);
	if (out.is_short)
		return;
	if (out.n_bytes == 0 || line[out.n_bytes - 1] != '\n')
		abort();
	for (size_t i = 0; !has_own_controls && i + 1 < out.n_bytes; i++)
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			abort();
	json_t *j = is_json ? json_loadb(line, out.n_bytes, JSON_DISABLE_EOF_CHECK, &err) : NULL;
	if (is_json && !has_own_controls && !j && json_error_code(&err) == json_error_invalid_syntax)
		abort();
	json_decref(j);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes)
{
	if (n_bytes < 2 || n_bytes > 8192)
		return 0;
	bool is_json = data[0] & 1, has_own_controls = false;
	const uint8_t *end = memchr(data + 1, 0, n_bytes - 1);
	size_t n_format = end ? (size_t)(end - data) - 1 : n_bytes - 1;
	struct foil_slice sent = end ? foil_slice_of(end + 1, n_bytes - n_format - 2) : (struct foil_slice){NULL, 0};
	struct foil_error err;
	for (size_t i = 1; i <= n_format; i++) {
		bool is_time_control = data[i] == '%' && i < n_format && (data[i + 1] == 'n' || data[i + 1] == 't');
		has_own_controls |= data[i] < 0x20 || data[i] == 0x7f || data[i] >= 0x80 || is_time_control;
	}
	struct tele_format *f = tele_format_new(foil_slice_of(data + 1, n_format), is_json, &err);
	if (!f)
		return 0;
	render(f, sent, is_json, has_own_controls);
	tele_format_free(f);
	return 0;
}
