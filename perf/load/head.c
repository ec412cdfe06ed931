/* Reads as much of a head as foil-load wants to know: where it ends, status, Content-Length, Connection: close. It is no parser for strangers: what
 * it talks to is a proxy under test, and whatever does not look right is an error that is counted. */
#include <stdlib.h>
#include <strings.h>

#include "perf/load/load.h"

static int digits_3(const char *at)
{
	return (at[0] - '0') * 100 + (at[1] - '0') * 10 + (at[2] - '0');
}

static void line_read(const char *line, uint32_t n, struct load_head *out)
{
	static const char length[] = "content-length:", connection[] = "connection:";
	char first = foil_ascii_lower(line[0]);

	if (first != 'c')
		return;
	if (n > sizeof(length) && strncasecmp(line, length, sizeof(length) - 1) == 0) {
		out->has_length = true;
		out->content_length = strtoull(line + sizeof(length) - 1, NULL, 10); /* ends at the CR */
	} else if (n > sizeof(connection) && strncasecmp(line, connection, sizeof(connection) - 1) == 0) {
		out->close = memmem(line, n, "close", 5) != NULL;
	}
}

void load_head_scan(const char *data, uint32_t n_bytes, struct load_head *out)
{
	const char *at = data, *end = data + n_bytes;

	*out = (struct load_head){0};
	while (at < end) {
		const char *nl = memchr(at, '\n', (size_t)(end - at));
		if (!nl)
			return;
		uint32_t n = (uint32_t)(nl - at);
		if (at == data) {
			if (n > 12 && memcmp(at, "HTTP/1.", 7) == 0)
				out->status = digits_3(at + 9);
		} else if (n <= 1) {
			out->n_bytes = (uint32_t)(nl + 1 - data);
			return;
		} else {
			line_read(at, n, out);
		}
		at = nl + 1;
	}
}
