/* Questions about hosts that requests name, and their answers, as they go over the channel. Both ends read the other's as a stranger's. */
#pragma once

#include "ctrl/ring/channel.h"

#define RING_NAME_BYTES 256
#define RING_NAME_ADDRESSES_MAX 8

struct ring_name_answer {
	char name[RING_NAME_BYTES];
	unsigned int outcome; /* Foil__Conf__NameOutcome; what is not known is FAILED */
	uint32_t ttl_s;
	uint8_t n_addresses;  /* 0 unless FOUND */
	uint8_t ip[RING_NAME_ADDRESSES_MAX][16];
};

/* Lower case, letters, digits, hyphens and underscores between dots, at most 253 bytes, labels of at most 63, the last of them not a number. */
bool ring_name_is_good(const char *name);
/* False: they do not hold one whole, good message. */
bool ring_name_question_read(const uint8_t *payload, uint32_t n_bytes, char name[RING_NAME_BYTES]);
bool ring_name_answer_read(const uint8_t *payload, uint32_t n_bytes, struct ring_name_answer *out);
/* RING_FULL: it is lost. */
enum ring_result ring_name_answer_send(struct ring_channel *ch, const struct ring_name_answer *a);
