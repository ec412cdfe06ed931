/* Frames of HTTP/2 as bytes (RFC 9113 section 4.1): their header read and written. What a frame means is not known here. */
#include "dataplane/http/h2_priv.h"

const char h2_preface[24] = {'P', 'R', 'I', ' ', '*', ' ', 'H', 'T', 'T', 'P', '/', '2', '.', '0', '\r', '\n', '\r', '\n', 'S', 'M',
			     '\r', '\n', '\r', '\n'};

struct h2_frame h2_frame_read(const uint8_t p[H2_FRAME_HEADER_BYTES])
{
	return (struct h2_frame){ /* nine bytes are there: the caller has counted */
		.length_bytes = (uint32_t)p[0] << 16 | (uint32_t)p[1] << 8 | p[2], .type = p[3], .flags = p[4],
		.stream_id = ((uint32_t)p[5] << 24 | (uint32_t)p[6] << 16 | (uint32_t)p[7] << 8 | p[8]) & H2_ID_MAX,
	};
}

void h2_frame_write(uint8_t p[H2_FRAME_HEADER_BYTES], const struct h2_frame *f)
{
	p[0] = (uint8_t)(f->length_bytes >> 16);
	p[1] = (uint8_t)(f->length_bytes >> 8);
	p[2] = (uint8_t)f->length_bytes;
	p[3] = f->type;
	p[4] = f->flags;
	p[5] = (uint8_t)(f->stream_id >> 24);
	p[6] = (uint8_t)(f->stream_id >> 16);
	p[7] = (uint8_t)(f->stream_id >> 8);
	p[8] = (uint8_t)f->stream_id;
}

int h2_frame_append(struct foil_worker *w, struct foil_chain *out, const struct h2_frame *f, const void *payload)
{
	uint8_t bytes[H2_FRAME_HEADER_BYTES + 64];

	FOIL_ASSERT(f->length_bytes <= sizeof(bytes) - H2_FRAME_HEADER_BYTES);
	h2_frame_write(bytes, f);
	if (f->length_bytes)
		memcpy(&bytes[H2_FRAME_HEADER_BYTES], payload, f->length_bytes);
	return foil_chain_append(w, out, bytes, H2_FRAME_HEADER_BYTES + f->length_bytes);
}
