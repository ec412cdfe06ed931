/* Frames of HTTP/2 as bytes (RFC 9113 section 4.1), whose header h2_priv.h reads and writes. What a frame means is not known here. */
#include "dataplane/http/h2_priv.h"

const char h2_preface[24] = {'P', 'R', 'I', ' ', '*', ' ', 'H', 'T', 'T', 'P', '/', '2', '.', '0', '\r', '\n', '\r', '\n', 'S', 'M',
			     '\r', '\n', '\r', '\n'};

int h2_frame_append(struct foil_worker *w, struct foil_chain *out, const struct h2_frame *f, const void *payload)
{
	uint8_t bytes[H2_FRAME_HEADER_BYTES + 64];

	FOIL_ASSERT(f->length_bytes <= sizeof(bytes) - H2_FRAME_HEADER_BYTES);
	h2_frame_write(bytes, f);
	if (f->length_bytes)
		memcpy(&bytes[H2_FRAME_HEADER_BYTES], payload, f->length_bytes);
	return foil_chain_append(w, out, bytes, H2_FRAME_HEADER_BYTES + f->length_bytes);
}
