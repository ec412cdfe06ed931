/* The chunked coding's framing (RFC 9112 section 7.1), decoder: a state machine over bytes, so that a cut anywhere changes nothing.
 * Data is not looked at here: h1_receive.c moves it by reference. Strict: hexadecimal digits only, CRLF only, nothing after the size but
 * an extension that begins with ";"; extensions are skipped and bounded.
 * Invariant: in DATA left_bytes > 0; line_bytes counts the framing of one chunk. */
#include "dataplane/http/h1_priv.h"
#include "dataplane/http/h1_scan.h"

static uint8_t hex_value(uint8_t c)
{
	return (uint8_t)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

static enum http_reason size_byte(struct h1_chunked *ch, uint8_t c)
{
	if (h1_is(c, H1_HEX)) {
		if (ch->left_bytes > (uint64_t)INT64_MAX >> 4 || ch->n_digits >= H1_CHUNK_DIGITS_MAX)
			return HTTP_REASON_INVALID_CHUNK_SIZE;
		ch->left_bytes = ch->left_bytes << 4 | hex_value(c);
		ch->n_digits++;
		return HTTP_REASON_OK;
	}
	if (ch->n_digits == 0)
		return HTTP_REASON_INVALID_CHUNK_SIZE;
	if (c == '\r')
		ch->state = H1_CHUNK_SIZE_LF;
	else if (c == ';')
		ch->state = H1_CHUNK_EXT;
	else if (h1_is(c, H1_SPACE))
		ch->state = H1_CHUNK_BWS;
	else
		return HTTP_REASON_INVALID_CHUNK_SIZE;
	return HTTP_REASON_OK;
}

static enum http_reason extension_byte(struct h1_chunked *ch, uint8_t c)
{
	if (c == '\r') {
		ch->state = H1_CHUNK_SIZE_LF;
		return HTTP_REASON_OK;
	}
	if (!h1_is(c, H1_TARGET | H1_SPACE)) /* visible ASCII and white space: narrower than a quoted string may be, as llhttp */
		return HTTP_REASON_INVALID_CHUNK_EXTENSION;
	if (++ch->ext_bytes > H1_CHUNK_EXT_BYTES_MAX)
		return HTTP_REASON_CHUNK_EXTENSIONS_TOO_LARGE;
	return HTTP_REASON_OK;
}

static enum http_reason line_byte(struct h1_chunked *ch, uint8_t c)
{
	switch ((enum h1_chunk_state)ch->state) {
	case H1_CHUNK_SIZE:
		return size_byte(ch, c);
	case H1_CHUNK_BWS: /* white space only before ";" (RFC 9112 7.1.1) */
		if (c == ';')
			ch->state = H1_CHUNK_EXT;
		return c == ';' || h1_is(c, H1_SPACE) ? HTTP_REASON_OK : HTTP_REASON_INVALID_CHUNK_SIZE;
	case H1_CHUNK_EXT:
		return extension_byte(ch, c);
	case H1_CHUNK_SIZE_LF:
		ch->state = ch->left_bytes ? H1_CHUNK_DATA : H1_CHUNK_LAST;
		return c == '\n' ? HTTP_REASON_OK : HTTP_REASON_INVALID_CHUNK_SIZE;
	case H1_CHUNK_DATA_CR:
		ch->state = H1_CHUNK_DATA_LF;
		return c == '\r' ? HTTP_REASON_OK : HTTP_REASON_INVALID_CHUNK_END;
	case H1_CHUNK_DATA_LF:
		ch->state = H1_CHUNK_SIZE;
		ch->n_digits = 0;
		ch->line_bytes = 0;
		return c == '\n' ? HTTP_REASON_OK : HTTP_REASON_INVALID_CHUNK_END;
	case H1_CHUNK_DATA:
	case H1_CHUNK_LAST:
		break;
	}
	FOIL_UNREACHABLE();
}

enum http_reason h1_chunked_line(struct h1_chunked *ch, const char *p, uint32_t n_bytes, uint32_t *n_used)
{
	uint32_t i = 0;

	while (i < n_bytes && ch->state != H1_CHUNK_DATA && ch->state != H1_CHUNK_LAST) {
		if (++ch->line_bytes > H1_CHUNK_LINE_BYTES_MAX)
			return HTTP_REASON_CHUNK_EXTENSIONS_TOO_LARGE;
		enum http_reason why = line_byte(ch, (uint8_t)p[i++]);
		if (why != HTTP_REASON_OK)
			return why;
	}
	*n_used = i;
	return HTTP_REASON_OK;
}
