/* Session ticket keys, see tickets.h. A key that leaves is wiped; a rotation for which there is no randomness is tried again at the next turn. */
#include "programs/tickets.h"

#include <errno.h>

#include <openssl/crypto.h>
#include <openssl/rand.h>

#define ROTATE_US 3600000000ull

static bool add_key(struct tickets *t)
{
	uint8_t fresh[TLS_TICKET_KEY_BYTES];
	if (RAND_priv_bytes(fresh, sizeof(fresh)) != 1)
		return false;
	memmove(t->recent[1], t->recent[0], (TLS_TICKET_KEYS_MAX - 1) * TLS_TICKET_KEY_BYTES);
	memcpy(t->recent[0], fresh, sizeof(fresh));
	OPENSSL_cleanse(fresh, sizeof(fresh));
	t->n = FOIL_MIN(t->n + 1, TLS_TICKET_KEYS_MAX);
	return true;
}

int tickets_start(struct tickets *t, uint64_t now_us, struct foil_error *err)
{
	*t = (struct tickets){.rotate_at_us = now_us + ROTATE_US};
	if (!add_key(t))
		return foil_error_set(err, -EIO, "no random bytes for the keys of TLS session tickets");
	t->keys = tls_tickets_new(t->recent, t->n);
	return t->keys ? 0 : foil_error_set(err, -ENOMEM, "no memory for the keys of TLS session tickets");
}

void tickets_turn(struct tickets *t, uint64_t now_us)
{
	if (!t->keys || now_us < t->rotate_at_us || !add_key(t))
		return;
	t->rotate_at_us = now_us + ROTATE_US;
	tls_tickets_rotate(t->keys, t->recent, t->n);
}

void tickets_stop(struct tickets *t)
{
	tls_tickets_free(t->keys);
	OPENSSL_cleanse(t, sizeof(*t));
}
