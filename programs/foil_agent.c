/* foil-agent: reads Istio and Kubernetes resources from a directory, compiles them for the data plane that it is connected to, keeps it up to date, and
 * answers over HTTP what stands where. This file: command line, loop and signals.
 *
 * It may die at any moment: it keeps nothing on disk, the data plane goes on with what it has, and a new agent sends the whole state again. */
#include "programs/foil_agent.h"

#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "programs/log.h"

#define TURN_MS 100
#define FDS_MAX (6 + DNS_FDS_MAX)

static const char usage[] =
	"usage: foil-agent --config DIR --socket PATH [--stats-socket PATH] [--address IP] [--log FILE]\n"
	"                  [--dns-servers LIST] [--resolv-conf FILE] [CA OPTIONS]\n"
	"\n"
	"  --config DIR         Istio and Kubernetes resources as YAML or JSON files; watched\n"
	"  --socket PATH        hydrofoil's agent_socket\n"
	"  --stats-socket PATH  hydrofoil's stats_socket; default: that of --socket with .stats appended\n"
	"  --address IP         where ports 15000 (admin), 15021 (readiness) and 15090 (metrics) listen; default: loopback\n"
	"  --log FILE           default: stderr\n"
	"  --dns-servers LIST   IP[:PORT],… that resolve names among the endpoints; default: those of --resolv-conf\n"
	"  --resolv-conf FILE   read again when it changes; default: /etc/resolv.conf. /etc/hosts comes first\n"
	"\n"
	"The certificate authority of the mesh:\n"
	"  --ca-dir DIR             ca-cert.pem, ca-key.pem, root-cert.pem, cert-chain.pem, as Istio's cacerts; watched. An empty directory\n"
	"                           gets a new root. Default: a root in memory, gone with the process\n"
	"  --ca-passphrase-file F   its first line protects ca-key.pem\n"
	"  --ca-key-in-clear        a new root's key may be written without a passphrase\n"
	"  --ca-ttl SECONDS         of workload certificates; default: 86400\n"
	"  --ca-overlap SECONDS     a new root is trusted that long before it signs; default: 60\n"
	"  --ca-address IP          signs for other proxies at port 15012 (Istio's CreateCertificate)\n"
	"  --ca-tokens FILE         lines \"TOKEN NAMESPACE/ACCOUNT\": who may ask with a token; else a client certificate of the mesh is needed\n"
	"  --ca-jwks FILE           the cluster's keys: Kubernetes' service-account tokens are taken, too\n"
	"  --ca-audience NAME       which such tokens must have (istio-ca); --ca-issuer URL: the same of their issuer (any)\n"
	"  --version, --help\n";

static uint64_t clock_ms(clockid_t clock)
{
	struct timespec ts;
	(void)clock_gettime(clock, &ts); /* cannot fail with the two that are used here */
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

uint64_t agent_now_ms(void)
{
	return clock_ms(CLOCK_MONOTONIC);
}

/* ---- the command line */

enum { /* in the order of options[] */
	OPT_CONFIG = 1000, OPT_SOCKET, OPT_STATS_SOCKET, OPT_ADDRESS, OPT_LOG, OPT_CA_DIR, OPT_CA_PASSPHRASE, OPT_CA_CLEAR, OPT_CA_TTL, OPT_CA_OVERLAP,
	OPT_CA_ADDRESS, OPT_CA_TOKENS, OPT_CA_JWKS, OPT_CA_AUDIENCE, OPT_CA_ISSUER, OPT_DNS_SERVERS, OPT_RESOLV_CONF, OPT_VERSION, OPT_HELP
};

static const struct option options[] = {
	{"config", required_argument, NULL, OPT_CONFIG}, {"socket", required_argument, NULL, OPT_SOCKET},
	{"stats-socket", required_argument, NULL, OPT_STATS_SOCKET}, {"address", required_argument, NULL, OPT_ADDRESS},
	{"log", required_argument, NULL, OPT_LOG}, {"ca-dir", required_argument, NULL, OPT_CA_DIR},
	{"ca-passphrase-file", required_argument, NULL, OPT_CA_PASSPHRASE},
	{"ca-key-in-clear", no_argument, NULL, OPT_CA_CLEAR}, {"ca-ttl", required_argument, NULL, OPT_CA_TTL},
	{"ca-overlap", required_argument, NULL, OPT_CA_OVERLAP}, {"ca-address", required_argument, NULL, OPT_CA_ADDRESS},
	{"ca-tokens", required_argument, NULL, OPT_CA_TOKENS},
	{"ca-jwks", required_argument, NULL, OPT_CA_JWKS},
	{"ca-audience", required_argument, NULL, OPT_CA_AUDIENCE},
	{"ca-issuer", required_argument, NULL, OPT_CA_ISSUER},
	{"dns-servers", required_argument, NULL, OPT_DNS_SERVERS}, {"resolv-conf", required_argument, NULL, OPT_RESOLV_CONF},
	{"version", no_argument, NULL, OPT_VERSION}, {"help", no_argument, NULL, OPT_HELP},
	{NULL, 0, NULL, 0}};

static const char **place_of(struct agent_options *o, int option)
{
	switch (option) {
	case OPT_CONFIG: return &o->config_dir;
	case OPT_SOCKET: return &o->socket_path;
	case OPT_STATS_SOCKET: return &o->stats_path;
	case OPT_ADDRESS: return &o->address;
	case OPT_LOG: return &o->log_path;
	case OPT_CA_DIR: return &o->ca_dir;
	case OPT_CA_PASSPHRASE: return &o->ca_passphrase_file;
	case OPT_CA_ADDRESS: return &o->ca_address;
	case OPT_CA_TOKENS: return &o->ca_tokens_file;
	case OPT_CA_JWKS: return &o->ca_jwks_file;
	case OPT_CA_AUDIENCE: return &o->ca_audience;
	case OPT_CA_ISSUER: return &o->ca_issuer;
	case OPT_DNS_SERVERS: return &o->dns_servers;
	case OPT_RESOLV_CONF: return &o->resolv_conf;
	default: return NULL;
	}
}

static int wrong(const char *fmt, const char *what)
{
	fputs("foil-agent: ", stderr);
	fprintf(stderr, fmt[0] == '-' ? "%s%s\n" : "%s: %s\n", what, fmt + (fmt[0] == '-'));
	fputs(usage, stderr);
	return 2;
}

static bool read_seconds(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
	char *end;
	unsigned long n = strtoul(text, &end, 10);

	if (text[0] < '0' || text[0] > '9' || *end || n < min || n > max)
		return false;
	*out = (uint32_t)n;
	return true;
}

/* True: it was one of these. *status: -1, or the exit status. */
static bool read_ca_option(struct agent_options *o, int c, int *status)
{
	*status = -1;
	switch (c) {
	case OPT_CA_CLEAR: o->ca_key_in_clear = true; return true;
	case OPT_CA_TTL:
		if (!read_seconds(optarg, CA_TTL_S_MIN, CA_TTL_S_MAX, &o->ca_ttl_s))
			*status = wrong("--ca-ttl must be seconds, 10 to 7776000", optarg);
		return true;
	case OPT_CA_OVERLAP:
		if (!read_seconds(optarg, 1, CA_TTL_S_MAX, &o->ca_overlap_s))
			*status = wrong("--ca-overlap must be seconds, 1 to 7776000", optarg);
		return true;
	default: return false;
	}
}

/* -1: go on. Else the exit status. */
static int read_command_line(int argc, char **argv, struct agent_options *o)
{
	static char stats_path[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int c;
	opterr = 0;
	while ((c = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		if (c == OPT_HELP) {
			fputs(usage, stdout);
			return 0;
		}
		if (c == OPT_VERSION) {
			puts("foil-agent " FOIL_VERSION);
			return 0;
		}
		if (c == ':')
			return wrong("- needs a value", argv[optind - 1]);
		int status;
		if (read_ca_option(o, c, &status)) {
			if (status >= 0)
				return status;
			continue;
		}
		const char **place = place_of(o, c);
		if (!place)
			return wrong("- is not an option", argv[optind - 1]);
		if (*place)
			return wrong("- is given twice", argv[optind - 1]);
		if (!optarg[0])
			return wrong("- needs a value that is not empty", options[c - OPT_CONFIG].name);
		*place = optarg;
	}
	if (optind < argc)
		return wrong("not an option", argv[optind]);
	if (!o->config_dir)
		return wrong("- is required: the directory of resources", "--config");
	if (!o->socket_path)
		return wrong("- is required: hydrofoil's agent_socket", "--socket");
	if (strlen(o->socket_path) >= sizeof(stats_path))
		return wrong("a socket's path has at most 107 bytes", o->socket_path);
	if (!o->stats_path) {
		if (snprintf(stats_path, sizeof(stats_path), "%s.stats", o->socket_path) >= (int)sizeof(stats_path))
			return wrong("too long to append .stats; give --stats-socket too", o->socket_path);
		o->stats_path = stats_path;
	}
	if (strlen(o->stats_path) >= sizeof(stats_path))
		return wrong("a socket's path has at most 107 bytes", o->stats_path);
	return -1;
}

/* ---- start and end */

static int open_sender(struct agent *a, struct foil_error *err)
{
	struct ring_sender_params p = {.socket_path = a->options.socket_path, .agent_version = FOIL_VERSION, .arg = a, .node = agent_config_node,
				       .result = agent_config_result, .event = agent_config_event, .question = agent_dns_question,
				       .disconnected = agent_config_disconnected};
	a->sender = ring_sender_new(&p);
	return a->sender ? 0 : foil_error_set(err, -ENOMEM, "no memory for the channel to the data plane");
}

static int open_admin(struct agent *a, struct foil_error *err)
{
	struct adm_route routes[ADM_STANDARD_MAX + 4];
	agent_pages_init(a);
	size_t n = adm_standard_routes(routes, &a->sources);
	routes[n++] = (struct adm_route){15000, "GET", "/ca", "the certificate authority; ?text for people", agent_ca_page, a};
	routes[n++] = (struct adm_route){15000, "POST", "/ca/rotate", "begins a change to a new root", agent_ca_rotate, a};
	routes[n++] = (struct adm_route){15000, "GET", "/secrets", "certificates and until when they are good; ?text for people", agent_ca_secrets_page, a};
	routes[n++] = (struct adm_route){15000, "GET", "/dns", "names among the endpoints and their addresses; ?text for people", agent_dns_page, a};
	struct adm_params p = {.address = a->options.address, .routes = routes, .n_routes = n, .now_ms = agent_now_ms()};
	return adm_open(&a->admin, &p, err);
}

static void close_all(struct agent *a)
{
	adm_close(a->admin);
	ring_sender_free(a->sender);
	agent_stats_forget(a);
	agent_config_close(a);
	agent_dns_close(a);
	agent_ca_close(a);
}

/* Termination and rotation come as a descriptor, so that they are handled between turns. -errno on failure. */
static int open_signals(void)
{
	sigset_t set;
	(void)sigemptyset(&set); /* these cannot fail with signals that exist */
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	if (signal(SIGPIPE, SIG_IGN) == SIG_ERR || sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd < 0 ? -errno : fd;
}

/* Returns the signal that ends the program, or 0. */
static int take_signals(int fd)
{
	struct signalfd_siginfo info;
	while (read(fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
		if (info.ssi_signo != SIGHUP)
			return (int)info.ssi_signo;
		log_reopen();
	}
	return 0;
}

static void run(struct agent *a, int signal_fd)
{
	int ended_by = 0;
	while (!ended_by) {
		struct pollfd fds[FDS_MAX] = {{.fd = signal_fd, .events = POLLIN}, {.fd = adm_fd(a->admin), .events = POLLIN},
					      {.fd = src_dir_fd(a->dir), .events = POLLIN}, /* -1 is passed over */
					      {.fd = a->ca.service ? ca_service_fd(a->ca.service) : -1, .events = POLLIN}};
		unsigned int n = 4 + ring_sender_fds(a->sender, fds + 4);
		n += dns_resolver_fds(a->dns.resolver, fds + n);
		if (poll(fds, n, TURN_MS) < 0 && errno != EINTR) {
			log_line(LOG_LEVEL_ERROR, "agent.poll", "poll: %s", strerror(errno));
			return;
		}
		uint64_t now_ms = agent_now_ms();
		ended_by = take_signals(signal_fd);
		agent_config_turn(a, now_ms);
		agent_dns_turn(a, now_ms);
		agent_ca_turn(a, now_ms);
		ring_sender_turn(a->sender, now_ms);
		adm_turn(a->admin, now_ms);
	}
	log_line(LOG_LEVEL_NOTICE, "agent.end", "%s; the data plane goes on with what it has", ended_by == SIGINT ? "SIGINT" : "SIGTERM");
}

int main(int argc, char **argv)
{
	static struct agent agent; /* a program's, not a room's */
	struct agent *a = &agent;
	struct foil_error err = {0};
	int status = read_command_line(argc, argv, &a->options);
	if (status >= 0)
		return status;
	if (a->options.log_path && log_open(a->options.log_path) < 0) {
		fprintf(stderr, "foil-agent: cannot open the log %s: %s\n", a->options.log_path, strerror(errno));
		return 1;
	}
	a->start_ms = agent_now_ms();
	a->start_wall_ms = clock_ms(CLOCK_REALTIME);
	int signal_fd = open_signals();
	int rc = signal_fd < 0 ? foil_error_set(&err, signal_fd, "cannot wait for signals: %s", strerror(-signal_fd)) : 0;
	if (rc == 0)
		rc = agent_ca_open(a, &err);
	if (rc == 0)
		rc = agent_dns_open(a, &err);
	if (rc == 0)
		rc = agent_config_open(a, &err);
	if (rc == 0)
		rc = open_admin(a, &err);
	if (rc == 0)
		rc = open_sender(a, &err);
	if (rc == 0) {
		log_line(LOG_LEVEL_NOTICE, "agent.start", "version %s, configuration %s, data plane at %s", FOIL_VERSION, a->options.config_dir,
			 a->options.socket_path);
		agent_config_read(a);
		run(a, signal_fd);
	} else {
		fprintf(stderr, "foil-agent: %s\n", err.text);
	}
	close_all(a);
	if (signal_fd >= 0)
		(void)close(signal_fd); /* the process ends */
	log_close();
	return rc == 0 ? 0 : 1;
}
