/* What opened records say, after the handshake: data, alerts, key updates, session tickets of a server (not kept), attempts to renegotiate (refused).
 * Invariants: handshake messages are looked at one after the other over records, KeyUpdate alone at its record's end; what carries no data is counted
 * and bounded between data, so that nobody can make us work for nothing. */
#include "dataplane/tls/tls_priv.h"

#define EMPTY_MAX 32u      /* records without data in a row, as OpenSSL */
#define MESSAGE_NEW_TICKET 4
#define MESSAGE_KEY_UPDATE 24
#define MESSAGE_CLIENT_HELLO 1
#define MESSAGE_HELLO_REQUEST 0
#define AD_USER_CANCELLED 90
#define AD_NO_RENEGOTIATION 100

static enum tls_heard bad(struct tls_records *r, uint8_t alert)
{
	r->alert = alert;
	return TLS_HEARD_BAD;
}

int tls_records_alert(struct foil_worker *w, struct tls_records *r, uint8_t level, uint8_t what, struct foil_chain *out)
{
	const uint8_t bytes[2] = {level, what};
	struct foil_chain plain = {0};
	int rc = foil_chain_append(w, &plain, bytes, sizeof(bytes));

	if (rc == 0)
		rc = tls_records_seal(w, r, TLS_TYPE_ALERT, &plain, 0, sizeof(bytes), out);
	foil_chain_clear(&plain);
	return rc;
}

static enum tls_heard hear_alert(struct tls_records *r, const struct foil_chain *c)
{
	uint8_t alert[2];

	if (c->n_bytes != sizeof(alert))
		return bad(r, SSL_AD_UNEXPECTED_MESSAGE); /* as OpenSSL, and as tlsfuzzer reads RFC 8446 5.1 */
	foil_chain_copy_out(c, 0, alert, sizeof(alert));
	r->alert = alert[1];
	if (alert[1] == SSL_AD_CLOSE_NOTIFY)
		return TLS_HEARD_CLOSE;
	if (alert[0] == SSL3_AL_WARNING && (!r->is_tls13 || alert[1] == AD_USER_CANCELLED))
		return TLS_HEARD_NOTHING;
	return TLS_HEARD_ALERT;
}

/* Sends our own when asked to; both go on under new keys. */
static enum tls_heard key_update(struct foil_worker *w, struct tls_records *r, uint8_t request, struct foil_chain *out)
{
	if (request > 1)
		return bad(r, SSL_AD_ILLEGAL_PARAMETER);
	if (!tls_records_update(w->tls->aead, r, false))
		return bad(r, SSL_AD_INTERNAL_ERROR);
	if (request && tls_records_send_update(w, r, out) != 0)
		return TLS_HEARD_NO_MEMORY;
	return TLS_HEARD_NOTHING;
}

int tls_records_send_update(struct foil_worker *w, struct tls_records *r, struct foil_chain *out)
{
	static const uint8_t message[5] = {MESSAGE_KEY_UPDATE, 0, 0, 1, 0};
	struct foil_chain plain = {0};
	int rc = foil_chain_append(w, &plain, message, sizeof(message));

	if (rc == 0)
		rc = tls_records_seal(w, r, TLS_TYPE_HANDSHAKE, &plain, 0, sizeof(message), out);
	foil_chain_clear(&plain);
	return rc == 0 && !tls_records_update(w->tls->aead, r, true) ? -1 : rc;
}

/* The message's header is whole. */
static enum tls_heard begin_message(struct foil_worker *w, struct tls_records *r, struct foil_chain *out)
{
	uint8_t type = r->message[0];
	uint32_t n = (uint32_t)r->message[1] << 16 | (uint32_t)r->message[2] << 8 | r->message[3];

	r->n_skip = n;
	if (r->is_tls13) {
		if (type == MESSAGE_KEY_UPDATE)
			return n == 1 ? TLS_HEARD_NOTHING : bad(r, SSL_AD_DECODE_ERROR);
		return type == MESSAGE_NEW_TICKET && !r->is_server ? TLS_HEARD_NOTHING : bad(r, SSL_AD_UNEXPECTED_MESSAGE);
	}
	if (type != (r->is_server ? MESSAGE_CLIENT_HELLO : MESSAGE_HELLO_REQUEST))
		return bad(r, SSL_AD_UNEXPECTED_MESSAGE);
	if (tls_records_alert(w, r, SSL3_AL_WARNING, AD_NO_RENEGOTIATION, out) != 0)
		return TLS_HEARD_NO_MEMORY;
	return TLS_HEARD_NOTHING;
}

static enum tls_heard hear_handshake(struct foil_worker *w, struct tls_records *r, struct foil_chain *c, struct foil_chain *out)
{
	if (!c->n_bytes)
		return bad(r, SSL_AD_UNEXPECTED_MESSAGE); /* RFC 8446 5.1: no empty fragments */
	while (c->n_bytes) {
		enum tls_heard heard = TLS_HEARD_NOTHING;
		if (r->n_message < 4) {
			foil_chain_copy_out(c, 0, &r->message[r->n_message], 1);
			foil_chain_consume(c, 1);
			if (++r->n_message == 4)
				heard = begin_message(w, r, out);
		} else if (r->is_tls13 && r->message[0] == MESSAGE_KEY_UPDATE) {
			uint8_t request;
			foil_chain_copy_out(c, 0, &request, 1);
			if (c->n_bytes != 1)
				return bad(r, SSL_AD_UNEXPECTED_MESSAGE); /* keys change at the end of a record */
			foil_chain_consume(c, 1);
			r->n_skip = 0;
			heard = key_update(w, r, request, out);
		} else {
			uint32_t n = FOIL_MIN(r->n_skip, c->n_bytes);
			foil_chain_consume(c, n);
			r->n_skip -= n;
		}
		if (r->n_message == 4 && r->n_skip == 0)
			r->n_message = 0;
		if (heard != TLS_HEARD_NOTHING)
			return heard;
	}
	return TLS_HEARD_NOTHING;
}

enum tls_heard tls_records_hear(struct foil_worker *w, struct tls_records *r, uint8_t type, struct foil_chain *c, struct foil_chain *out)
{
	enum tls_heard heard;

	if (r->n_message && type != TLS_TYPE_HANDSHAKE)
		return bad(r, SSL_AD_UNEXPECTED_MESSAGE); /* RFC 8446 5.1: nothing between the parts of a message */
	if (type == TLS_TYPE_DATA && c->n_bytes) {
		r->n_empty = 0;
		return TLS_HEARD_DATA;
	}
	if (++r->n_empty > EMPTY_MAX)
		return bad(r, SSL_AD_UNEXPECTED_MESSAGE);
	switch (type) {
	case TLS_TYPE_DATA: return TLS_HEARD_NOTHING;
	case TLS_TYPE_ALERT: heard = hear_alert(r, c); break;
	case TLS_TYPE_HANDSHAKE: heard = hear_handshake(w, r, c, out); break;
	default: heard = bad(r, SSL_AD_UNEXPECTED_MESSAGE);
	}
	foil_chain_clear(c);
	return heard;
}
