/* See names.h. */
#include "ctrl/ring/names.h"

#include <string.h>

#include "channel.pb-c.h"

#define ANSWER_BYTES_MAX 512 /* a name, eight addresses and what is around them */

static bool is_label_byte(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool ring_name_is_good(const char *name)
{
	size_t n = strlen(name), n_label = 0, n_digits = 0;

	if (n == 0 || n > 253)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = name[i];
		if (c == '.' && n_label) {
			n_label = n_digits = 0;
			continue;
		}
		if (!is_label_byte(c) || ++n_label > 63 || (c == '-' && (n_label == 1 || i + 1 == n || name[i + 1] == '.')))
			return false;
		n_digits += c >= '0' && c <= '9';
	}
	return n_label && n_label != n_digits;
}

static bool keep_name(const char *from, char to[RING_NAME_BYTES])
{
	if (!from || !ring_name_is_good(from))
		return false;
	memcpy(to, from, strlen(from) + 1); /* a good one has at most 253 bytes */
	return true;
}

bool ring_name_question_read(const uint8_t *payload, uint32_t n_bytes, char name[RING_NAME_BYTES])
{
	Foil__Conf__NameQuestion *m = foil__conf__name_question__unpack(NULL, n_bytes, payload);
	bool is_good = m && keep_name(m->name, name);

	if (m)
		foil__conf__name_question__free_unpacked(m, NULL);
	return is_good;
}

static bool keep_answer(const Foil__Conf__NameAnswer *m, struct ring_name_answer *out)
{
	size_t n = m->has_addresses ? m->addresses.len : 0;

	if (!keep_name(m->name, out->name) || n % sizeof(out->ip[0]) != 0 || n > sizeof(out->ip))
		return false;
	out->outcome = m->outcome == FOIL__CONF__NAME_OUTCOME__NAME_FOUND || m->outcome == FOIL__CONF__NAME_OUTCOME__NAME_NONE
		? (unsigned int)m->outcome : FOIL__CONF__NAME_OUTCOME__NAME_FAILED;
	if (out->outcome != FOIL__CONF__NAME_OUTCOME__NAME_FOUND)
		return true;
	out->ttl_s = m->ttl_s;
	out->n_addresses = (uint8_t)(n / sizeof(out->ip[0]));
	if (n)
		memcpy(out->ip, m->addresses.data, n);
	return out->n_addresses != 0;
}

bool ring_name_answer_read(const uint8_t *payload, uint32_t n_bytes, struct ring_name_answer *out)
{
	Foil__Conf__NameAnswer *m = foil__conf__name_answer__unpack(NULL, n_bytes, payload);

	*out = (struct ring_name_answer){.n_addresses = 0};
	bool is_good = m && keep_answer(m, out);
	if (m)
		foil__conf__name_answer__free_unpacked(m, NULL);
	return is_good;
}

enum ring_result ring_name_answer_send(struct ring_channel *ch, const struct ring_name_answer *a)
{
	Foil__Conf__NameAnswer m = FOIL__CONF__NAME_ANSWER__INIT;
	uint8_t bytes[ANSWER_BYTES_MAX];

	m.name = (char *)(uintptr_t)a->name; /* packed, not changed */
	m.has_outcome = m.has_ttl_s = m.has_addresses = true;
	m.outcome = (Foil__Conf__NameOutcome)a->outcome;
	m.ttl_s = a->ttl_s;
	m.addresses = (ProtobufCBinaryData){.len = a->n_addresses * sizeof(a->ip[0]), .data = (uint8_t *)(uintptr_t)a->ip};
	if (foil__conf__name_answer__get_packed_size(&m) > sizeof(bytes))
		return RING_TOO_LARGE;
	return ring_channel_send(ch, RING_FRAME_NAME_ANSWER, bytes, (uint32_t)foil__conf__name_answer__pack(&m, bytes));
}
