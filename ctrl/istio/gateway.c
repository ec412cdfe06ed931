/* The field table of Gateway (features.md GW-1..GW-9). What certificates and modes mean is tls.c's. */
#include "ctrl/istio/rows.h"

#include <stdio.h>
#include <string.h>

static const struct istio_field port_rows[] = {
	ROW(object_port, number, "number", F_INT, .min = 1, .max = PORT_MAX),
	ROW(object_port, protocol, "protocol", F_STRING, .min = 1, .max = 64),
	ROW(object_port, name, "name", F_STRING, .min = 1, .max = 256),
	ROW(object_port, target_port, "targetPort", F_INT, .min = 0, .max = PORT_MAX),
};
static const struct istio_table table_port = TABLE(object_port, "Port", port_rows);

static const char *const tls_modes[] = {"PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL", NULL};
static const char *const tls_versions[] = {"TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3", NULL};

static const struct istio_field certificate_rows[] = {
	ROW(tls_certificate, chain, "serverCertificate", F_STRING),
	ROW(tls_certificate, key, "privateKey", F_STRING),
	ROW(tls_certificate, ca, "caCertificates", F_STRING),
};
static const struct istio_table table_certificate = TABLE(tls_certificate, "TLSCertificate", certificate_rows);

static const struct istio_field tls_rows[] = {
	ROW(gateway_tls, https_redirect, "httpsRedirect", F_BOOL),
	ROW(gateway_tls, mode, "mode", F_ENUM, .words = tls_modes),
	ROW(gateway_tls, credential_name, "credentialName", F_STRING),
	ROW(gateway_tls, credential_names, "credentialNames", F_STRINGS, .min = 0, .max = 2),
	ROW(gateway_tls, ca_credential_name, "caCertCredentialName", F_STRING),
	ROW(gateway_tls, certificates, "tlsCertificates", F_OBJECTS, .table = &table_certificate, .min = 0, .max = 2),
	ROW(gateway_tls, server_certificate, "serverCertificate", F_STRING),
	ROW(gateway_tls, private_key, "privateKey", F_STRING),
	ROW(gateway_tls, ca_certificates, "caCertificates", F_STRING),
	ROW(gateway_tls, ca_crl, "caCrl", F_STRING),
	ROW(gateway_tls, subject_alt_names, "subjectAltNames", F_STRINGS, .min = 0, .max = 1024),
	ROW(gateway_tls, verify_spki, "verifyCertificateSpki", F_STRINGS, .min = 0, .max = 1024),
	ROW(gateway_tls, verify_hash, "verifyCertificateHash", F_STRINGS, .min = 0, .max = 1024),
	ROW(gateway_tls, min_version, "minProtocolVersion", F_ENUM, .words = tls_versions),
	ROW(gateway_tls, max_version, "maxProtocolVersion", F_ENUM, .words = tls_versions),
	ROW(gateway_tls, cipher_suites, "cipherSuites", F_STRINGS, .min = 0, .max = 64),
	ROW(gateway_tls, skip_verify, "insecureSkipVerify", F_BOOL),
};

static bool asks_for_certificate(enum gateway_tls_mode mode)
{
	return mode == GATEWAY_TLS_MUTUAL || mode == GATEWAY_TLS_OPTIONAL_MUTUAL || mode == GATEWAY_TLS_ISTIO_MUTUAL;
}

static void check_tls(struct istio_decode *d, void *object)
{
	const struct gateway_tls *t = object;
	int64_t min = t->min_version.value ? t->min_version.value : 3, max = t->max_version.value ? t->max_version.value : 4;

	if (min > max)
		istio_decode_error(d, "IST0106", &t->head, "minProtocolVersion", "is above maxProtocolVersion");
	if (t->skip_verify.is_true && !asks_for_certificate((enum gateway_tls_mode)t->mode.value))
		istio_decode_warning(d, "HF0007", &t->head, "insecureSkipVerify", "has no effect in mode %s, which asks clients for no certificate: remove it",
				     tls_modes[t->mode.value]);
}

static const struct istio_table table_tls = TABLE(gateway_tls, "ServerTLSSettings", tls_rows, .check = check_tls);

static void check_server(struct istio_decode *d, void *object)
{
	struct gateway_server *s = object;

	if (!s->port || !s->port->number.is_set)
		istio_decode_error(d, "IST0106", &s->head, "port", "a server needs a port with a number");
	else if (!s->port->protocol)
		istio_decode_error(d, "IST0106", &s->head, "port.protocol", "a port needs a protocol: HTTP, HTTPS, HTTP2, GRPC, TCP or TLS");
	if (s->port && s->port->target_port.value)
		istio_decode_warning(d, "HF0007", &s->head, "port.targetPort", "has no effect on a Gateway: remove it");
	if (s->hosts.n == 0)
		istio_decode_error(d, "IST0106", &s->head, "hosts", "a server needs hosts; \"*\" is all of them");
	if (s->bind && !istio_is_ip(s->bind))
		istio_decode_error(d, "IST0106", &s->head, "bind", "\"%.60s\" is not an IP address", s->bind);
	for (uint32_t i = 0; i < s->hosts.n; i++) {
		const char *slash = strchr(s->hosts.list[i], '/');
		if (!istio_is_host(slash ? slash + 1 : s->hosts.list[i], true))
			istio_decode_error(d, "IST0106", &s->head, "hosts", "\"%.80s\" is not a host: a DNS name, \"*.example.com\", \"*\" or one of these "
					   "after \"namespace/\"",
				     s->hosts.list[i]);
	}
}

static const struct istio_field server_rows[] = {
	ROW(gateway_server, port, "port", F_OBJECT, .table = &table_port),
	ROW(gateway_server, bind, "bind", F_STRING),
	ROW(gateway_server, hosts, "hosts", F_STRINGS, .min = 0, .max = 10000),
	ROW(gateway_server, tls, "tls", F_OBJECT, .table = &table_tls),
	ROW(gateway_server, name, "name", F_STRING),
	ROW_IGNORED("defaultEndpoint", "Istio does nothing with it"),
};
static const struct istio_table table_server = TABLE(gateway_server, "Server", server_rows, .check = check_server);

static const struct istio_field gateway_rows[] = {
	ROW(gateway, servers, "servers", F_OBJECTS, .table = &table_server, .min = 0, .max = 10000),
	ROW(gateway, selector, "selector", F_STRING_MAP),
};

/* Istio's admission refuses them, istiod itself serves both (tests/recorded/gateways-2.yaml). */
static void check_name(struct istio_decode *d, const struct gateway *g, uint32_t i)
{
	const struct object_port *p = ISTIO_ITEM(g->servers, struct gateway_server, i)->port;
	char field[48];

	for (uint32_t j = 0; p && p->name && j < i; j++) {
		const struct object_port *q = ISTIO_ITEM(g->servers, struct gateway_server, j)->port;
		if (!q || !q->name || strcmp(p->name, q->name) != 0)
			continue;
		(void)snprintf(field, sizeof(field), "servers[%u].port.name", i); /* it fits */
		istio_decode_warning(d, "IST0106", &g->head, field, "a second port named \"%.80s\", which Istio's admission refuses: give it a name of "
				     "its own", p->name);
		return;
	}
}

static void check_gateway(struct istio_decode *d, void *object)
{
	struct gateway *g = object;

	if (g->servers.n == 0)
		istio_decode_error(d, "IST0106", &g->head, "servers", "a Gateway needs at least one server");
	for (uint32_t i = 0; i < g->servers.n; i++)
		check_name(d, g, i);
}

const struct istio_table istio_table_gateway = TABLE(gateway, "Gateway", gateway_rows, .check = check_gateway);
