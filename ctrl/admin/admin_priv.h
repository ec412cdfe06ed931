/* Shared inside ctrl/admin: the reply under construction and the parser's face. */
#pragma once

#include "ctrl/admin/admin.h"

struct adm_reply {
	char *data;
	size_t n_bytes, n_room;
	unsigned int status;
	const char *type, *policy; /* policy: what a browser may do with it (CSP) */
	bool is_broken; /* no memory, or past ADM_REPLY_BYTES_MAX: the answer becomes a 500 */
};

void adm_reply_init(struct adm_reply *r);
void adm_reply_fini(struct adm_reply *r);

enum adm_parse {
	ADM_PARSE_MORE,     /* the head or body is not all there yet */
	ADM_PARSE_OK,
	ADM_PARSE_BAD,      /* 400 */
	ADM_PARSE_TOO_LONG, /* 431 for a head, 413 for a body: parse.status says which */
	ADM_PARSE_VERSION,  /* 505 */
};

struct adm_parsed {
	struct adm_request request; /* path points into path_room, the rest into the input */
	char path_room[1024];
	size_t n_bytes;             /* of the input, head and body */
	unsigned int status;        /* what to answer when the result is not OK or MORE */
	bool keep_alive, is_head, is_1_1;
};

/* One request from data[0..n_bytes). Strict: no obs-fold, no bare CR, no transfer-encoding, one Content-Length, at most ADM_* bytes.
 * Effects: none but out. data may be read up to n_bytes and no further. */
enum adm_parse adm_parse(const char *data, size_t n_bytes, struct adm_parsed *out) FOIL_MUST_USE;

/* perf.html as the build embedded it, and its Content-Security-Policy. */
extern const unsigned char adm_perf_html[];
extern const size_t adm_perf_html_bytes;
extern const char adm_perf_html_policy[];
