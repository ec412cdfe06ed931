/* OpenSSL's error code into one of our reasons and a text for logs. */
#include <openssl/err.h>

#include <stdio.h>

#include "dataplane/tls/tls_priv.h"

static enum tls_reason handshake_reason(const struct tls_conn *c, int reason)
{
	switch (reason) {
	case SSL_R_CERTIFICATE_VERIFY_FAILED: return c->verify_error ? c->reason : TLS_REASON_VERIFY_CHAIN;
	case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE: return TLS_REASON_NO_CERTIFICATE;
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_UNKNOWN_PROTOCOL:
	case SSL_R_WRONG_SSL_VERSION:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_NO_PROTOCOLS_AVAILABLE: return TLS_REASON_NO_SHARED_VERSION;
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_GROUPS: return TLS_REASON_NO_SHARED_CIPHER;
	default: return TLS_REASON_HANDSHAKE_FAILED;
	}
}

/* Text for access logs, in the shape that Envoy's has. */
static void describe(struct tls_ctx *t, const struct tls_conn *c, unsigned long e)
{
	const char *what = e ? ERR_reason_error_string(e) : NULL;
	int n = c->verify_error ? snprintf(t->failure, sizeof(t->failure), "TLS_error:|SSL routines::%s: %s:TLS_error_end", what ? what : "failed",
					   X509_verify_cert_error_string(c->verify_error))
				: snprintf(t->failure, sizeof(t->failure), "TLS_error:|SSL routines::%s:TLS_error_end", what ? what : "failed");
	(void)n; /* cut is fine */
}

enum tls_reason tls_reason_of(struct foil_worker *w, struct tls_conn *c, unsigned long e)
{
	int reason = ERR_GET_REASON(e);
	enum tls_reason out;

	if (c->no_memory || (e && reason == ERR_R_MALLOC_FAILURE))
		out = TLS_REASON_OUT_OF_MEMORY;
	else if (ERR_GET_LIB(e) == ERR_LIB_SSL && reason >= SSL_AD_REASON_OFFSET)
		out = TLS_REASON_PEER_ALERT;
	else if (c->state == TLS_STATE_HANDSHAKE)
		out = handshake_reason(c, reason);
	else
		out = TLS_REASON_BAD_RECORD;
	describe(w->tls, c, e);
	ERR_clear_error();
	return out;
}
