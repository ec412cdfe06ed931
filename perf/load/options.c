/* foil-load's command line. Every option is checked here; engine and wires see decoded values only. */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <sched.h>
#include <stdlib.h>

#include "perf/load/load.h"

static const char usage[] =
	"usage: foil-load [OPTION...]\n"
	"Load on a proxy and the origin behind it, in one thread.\n"
	"\n"
	"the wire   --client URI --client-address A/LEN...   port and addresses of the client; URIs as in docs/node-file.md\n"
	"           --origin URI --origin-address A/LEN...   port and addresses of the origin; either side alone is fine\n"
	"           --sockets                                kernel sockets instead of ports; --origin-address says where to listen\n"
	"           --origin-port N (8080, 0: no origin)  --target A:PORT  --mtu N  --memory MB (256)  --cpu N  --idle poll|pause\n"
	"what       --work http|newconn|tcp|hold             requests; a connection each; bytes and back without HTTP; idle connections\n"
	"           --host H --path P --header 'N: V'... --pad-headers N --body BYTES (128) --request-body BYTES --tcp-bytes N (64)\n"
	"how much   --connections N (64)  --pipeline N (1)   closed loop, or with\n"
	"           --rate R                                 open loop: R a second, latency from when a request was due\n"
	"           --seconds S (5)  --warm-up S (1)  --settle S   not longer than S after every connection's first answer\n"
	"TLS        --tls --origin-tls --resume --tls-1.2    which side speaks it; sessions are resumed; 1.3 otherwise\n"
	"           --cert FILE --key FILE --ca FILE         of both sides; --ca: the peer must have a certificate by it\n"
	"HTTP/2     --http2 --origin-http2                   which side speaks it; --pipeline is streams of a connection then\n"
	"what it says   a line a second on stderr (--quiet: none), the result, --json FILE [--label NAME]\n";

static const struct option options[] = {
	{"client", required_argument, NULL, 'c'}, {"client-address", required_argument, NULL, 'C'}, {"origin", required_argument, NULL, 'o'},
	{"origin-address", required_argument, NULL, 'O'}, {"sockets", no_argument, NULL, 's'}, {"origin-port", required_argument, NULL, 'p'},
	{"target", required_argument, NULL, 't'}, {"mtu", required_argument, NULL, 'm'}, {"memory", required_argument, NULL, 'M'},
	{"cpu", required_argument, NULL, 'u'}, {"idle", required_argument, NULL, 'i'}, {"work", required_argument, NULL, 'w'},
	{"host", required_argument, NULL, 'h'}, {"path", required_argument, NULL, 'P'}, {"header", required_argument, NULL, 'H'},
	{"pad-headers", required_argument, NULL, 'd'}, {"body", required_argument, NULL, 'b'}, {"request-body", required_argument, NULL, 'B'},
	{"tcp-bytes", required_argument, NULL, 'T'}, {"connections", required_argument, NULL, 'n'}, {"pipeline", required_argument, NULL, 'l'},
	{"rate", required_argument, NULL, 'r'}, {"seconds", required_argument, NULL, 'S'}, {"warm-up", required_argument, NULL, 'W'},
	{"settle", required_argument, NULL, 'E'}, {"json", required_argument, NULL, 'j'}, {"label", required_argument, NULL, 'L'},
	{"quiet", no_argument, NULL, 'q'},
	{"tls", no_argument, NULL, '1'}, {"origin-tls", no_argument, NULL, '2'}, {"resume", no_argument, NULL, '3'}, {"tls-1.2", no_argument, NULL, '4'},
	{"http2", no_argument, NULL, '5'}, {"origin-http2", no_argument, NULL, '6'}, {"cert", required_argument, NULL, 'e'},
	{"key", required_argument, NULL, 'k'}, {"ca", required_argument, NULL, 'a'},
	{"help", no_argument, NULL, '?'}, {NULL, 0, NULL, 0}};

static bool number(const char *name, const char *text, double min, double max, double *out)
{
	char *end;

	errno = 0;
	double v = strtod(text, &end);
	if (errno || end == text || *end || !(v >= min && v <= max)) {
		fprintf(stderr, "foil-load: --%s '%s' is no number from %.0f to %.0f\n", name, text, min, max);
		return false;
	}
	*out = v;
	return true;
}

static bool whole(const char *name, const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
	double v;

	if (!number(name, text, min, max, &v))
		return false;
	*out = (uint32_t)v;
	return true;
}

static bool target_parse(const char *text, struct load_conf *k)
{
	char host[NET_ADDR_STRLEN];
	const char *colon = strrchr(text, ':');
	uint32_t port;

	if (!colon || (size_t)(colon - text) >= sizeof(host)) {
		fprintf(stderr, "foil-load: --target '%s': write ADDRESS:PORT\n", text);
		return false;
	}
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text), text);
	if (net_addr_parse(host, &k->target)) {
		fprintf(stderr, "foil-load: --target '%s': '%s' is no address\n", text, host);
		return false;
	}
	if (!whole("target", colon + 1, 1, 65535, &port))
		return false;
	k->target_port = (uint16_t)port;
	return true;
}

static bool work_parse(const char *text, enum load_work *out)
{
	static const char *const names[] = {"http", "newconn", "tcp", "hold"};

	for (unsigned int i = 0; i < FOIL_COUNT_OF(names); i++)
		if (strcmp(text, names[i]) == 0) {
			*out = (enum load_work)i;
			return true;
		}
	fprintf(stderr, "foil-load: --work '%s' is none of http, newconn, tcp, hold\n", text);
	return false;
}

static bool list_add(const char *name, const char *text, const char **list, int *n, int n_max)
{
	if (*n == n_max) {
		fprintf(stderr, "foil-load: --%s: at most %d\n", name, n_max);
		return false;
	}
	list[(*n)++] = text;
	return true;
}

static bool plain(const char *name, const char *text, const char **out)
{
	for (const char *at = text; *at; at++)
		if (iscntrl((unsigned char)*at) || *at == '"' || *at == '\\') {
			fprintf(stderr, "foil-load: --%s: a character that cannot stand there\n", name);
			return false;
		}
	*out = text;
	return true;
}

static bool take_string(int opt, const char *name, const char *text, struct load_conf *k)
{
	switch (opt) {
	case 'c':
		k->client_uri = text;
		return true;
	case 'o':
		k->origin_uri = text;
		return true;
	case 'C':
		return list_add(name, text, k->client_addresses, &k->n_client_addresses, LOAD_ADDRESSES_MAX);
	case 'O':
		return list_add(name, text, k->origin_addresses, &k->n_origin_addresses, LOAD_ADDRESSES_MAX);
	case 'H':
		return plain(name, text, &text) && list_add(name, text, k->headers, &k->n_headers, LOAD_HEADERS_MAX);
	case 'h':
		return plain(name, text, &k->host);
	case 'P':
		return plain(name, text, &k->path);
	case 'L':
		return plain(name, text, &k->label);
	case 'j':
		k->json = text;
		return true;
	case 'e':
		k->tls_cert = text;
		return true;
	case 'k':
		k->tls_key = text;
		return true;
	case 'a':
		k->tls_ca = text;
		return true;
	case 't':
		return target_parse(text, k);
	case 'w':
		return work_parse(text, &k->work);
	default: /* 'i' */
		if (nic_idle_mode_parse(text, &k->idle) == 0)
			return true;
		fprintf(stderr, "foil-load: --idle '%s' is none of poll, pause, interrupt\n", text);
		return false;
	}
}

static bool take_number(int opt, const char *name, const char *text, struct load_conf *k)
{
	uint32_t v;

	switch (opt) {
	case 'r':
		return number(name, text, 0, 1e8, &k->rate);
	case 'S':
		return number(name, text, 0.1, 86400, &k->seconds);
	case 'W':
		return number(name, text, 0, 3600, &k->warm_up_seconds);
	case 'E':
		return number(name, text, 0, 3600, &k->settle_seconds);
	case 'n':
		return whole(name, text, 0, 4000000, &k->connections);
	case 'l':
		return whole(name, text, 1, LOAD_PIPELINE_MAX, &k->pipeline);
	case 'd':
		return whole(name, text, 0, 200, &k->pad_headers);
	case 'b':
		return whole(name, text, 0, 1u << 28, &k->body_bytes);
	case 'B':
		return whole(name, text, 0, LOAD_REQUEST_BYTES_MAX, &k->request_body_bytes);
	case 'T':
		return whole(name, text, 1, LOAD_REQUEST_BYTES_MAX, &k->tcp_bytes);
	case 'M':
		return whole(name, text, 64, 1u << 20, &k->memory_mb);
	default:
		break;
	}
	if (!whole(name, text, 0, 65535, &v))
		return false;
	if (opt == 'p')
		k->origin_port = (uint16_t)v;
	else if (opt == 'm')
		k->mtu = (uint16_t)v;
	else
		k->cpu = (int)v;
	return true;
}

static bool complete(const struct load_conf *k)
{
	const char *missing = NULL;

	if (!k->sockets && !k->client_uri && !k->origin_uri)
		missing = "a wire: --client URI, --origin URI or --sockets";
	else if (k->client_uri && !k->n_client_addresses)
		missing = "--client-address";
	else if ((k->client_uri || (k->sockets && k->connections)) && !k->target_port)
		missing = "--target";
	else if (k->origin_uri && (!k->n_origin_addresses || !k->origin_port))
		missing = "--origin-address or --origin-port";
	if (missing)
		fprintf(stderr, "foil-load: %s is missing; --help says more\n", missing);
	else if (k->work == LOAD_TCP && (k->pipeline > 1 || k->request_body_bytes))
		fprintf(stderr, "foil-load: --work tcp has neither pipeline nor body\n");
	else if (k->work == LOAD_TCP && (k->tls || k->origin_tls || k->http2 || k->origin_http2))
		fprintf(stderr, "foil-load: --work tcp has neither TLS nor HTTP/2\n");
	else if (k->http2 && (k->work == LOAD_NEWCONN || k->request_body_bytes || k->n_headers || k->pad_headers))
		fprintf(stderr, "foil-load: --http2 has neither --work newconn nor bodies nor headers of its own in requests\n");
	else if (!k->tls_cert != !k->tls_key || (k->origin_tls && !k->tls_cert))
		fprintf(stderr, "foil-load: --cert and --key go together, and --origin-tls needs them\n");
	else if (k->work == LOAD_HOLD && k->rate > 0)
		fprintf(stderr, "foil-load: --work hold has no rate\n");
	else
		return true;
	return false;
}

int load_options(int argc, char **argv, struct load_conf *out)
{
	struct load_conf k = {.origin_port = 8080, .host = "load.example.com", .path = "/", .connections = 64, .pipeline = 1, .body_bytes = 128,
			      .tcp_bytes = 64, .seconds = 5, .warm_up_seconds = 1, .label = "", .cpu = -1, .memory_mb = 256, .idle = NIC_IDLE_POLL};
	int opt, index = 0;

	while ((opt = getopt_long(argc, argv, "", options, &index)) != -1) {
		bool fine = true;
		if (opt == '?') {
			bool asked = optind > 1 && strcmp(argv[optind - 1], "--help") == 0;
			(void)fputs(usage, asked ? stdout : stderr);
			return asked ? 1 : -1;
		}
		if (opt == 's')
			k.sockets = true;
		else if (opt == 'q')
			k.quiet = true;
		else if (opt >= '1' && opt <= '6')
			*(bool *[]){&k.tls, &k.origin_tls, &k.tls_resume, &k.tls_1_2, &k.http2, &k.origin_http2}[opt - '1'] = true;
		else if (strchr("coCOHhPLjtwieka", opt))
			fine = take_string(opt, options[index].name, optarg, &k);
		else
			fine = take_number(opt, options[index].name, optarg, &k);
		if (!fine)
			return -1;
	}
	if (optind < argc) {
		fprintf(stderr, "foil-load: '%s' is no option; --help says which there are\n", argv[optind]);
		return -1;
	}
	if (!complete(&k))
		return -1;
	*out = k;
	return 0;
}
