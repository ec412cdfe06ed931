/* hydrofoil: the data plane's program. Reads the node file, brings the node up, applies the snapshot of the disk, then keeps house on the main thread: the
 * agent's channel, the access log, the stats socket, signals. Packets are the workers' business (worker_loop.c).
 *
 * Exit status: 0 after a drain or a second signal, 1 when it cannot start (one sentence says why), 2 for a wrong command line. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "dataplane/config/config.h"
#include "programs/agent_link.h"
#include "programs/inspect.h"
#include "programs/log.h"
#include "programs/neighbourhood.h"
#include "programs/node.h"
#include "programs/port_lock.h"
#include "programs/tickets.h"

#define TURN_MS 100
#define LOG_TURN_MS 10 /* with an access log: at 70,000 requests a second a worker's ring of events holds 30 ms */
#define SOON_MS 1
#define NAMES_TURN_MS 4 /* where requests wait for addresses that workers ask for */
#define DRAIN_TURN_MS 10
#define LIFE_S_MAX (10ull * 365 * 24 * 3600)

struct house {
	struct node_conf conf;
	struct node node;
	struct tickets tickets;
	struct port_locks locks;
	struct agent_link *link;
	struct inspect *inspect;
	struct neighbourhood neighbourhood;
	struct snap *snap;
	int signal_fd, stats_fd;
	uint64_t end_us, drain_end_us; /* 0 = none */
	uint64_t overload_at_us; /* not told before */
	uint8_t overload_told;
	bool more_events, said_no_log, disk_failed;
};

struct arguments {
	const char *node_file;
	uint64_t max_life_s;
};

static void usage(FILE *to)
{
	(void)fprintf(to, "usage: hydrofoil NODE_FILE [--max-life SECONDS]\n"
			  "The node file is explained in docs/node-file.md. SIGTERM drains, a second one ends at once, SIGHUP opens the logs again.\n");
}

static bool parse_seconds(const char *text, uint64_t *out)
{
	char *end = NULL;
	errno = 0;
	unsigned long long v = strtoull(text, &end, 10);
	if (text[0] < '0' || text[0] > '9' || *end || errno || v == 0 || v > LIFE_S_MAX)
		return false;
	*out = v;
	return true;
}

/* -1: go on; else the exit status. */
static int parse_arguments(int argc, char **argv, struct arguments *out)
{
	*out = (struct arguments){0};
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--version") == 0) {
			(void)printf("hydrofoil %s\n", FOIL_VERSION);
			return 0;
		}
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			usage(stdout);
			return 0;
		}
		if (strcmp(argv[i], "--max-life") == 0 && i + 1 < argc && parse_seconds(argv[i + 1], &out->max_life_s)) {
			i++;
			continue;
		}
		if (argv[i][0] == '-' || out->node_file) {
			usage(stderr);
			return 2;
		}
		out->node_file = argv[i];
	}
	if (out->node_file)
		return -1;
	usage(stderr);
	return 2;
}

/* ---- start */

static void notice(void *arg, const char *text)
{
	(void)arg;
	log_line(LOG_LEVEL_NOTICE, "node.notice", "%s", text);
}

static int cannot_start(const struct house *h, const struct foil_error *err)
{
	if (strcmp(h->conf.log, "-") != 0)
		log_line(LOG_LEVEL_ERROR, "start.failed", "%s", err->text);
	(void)fprintf(stderr, "hydrofoil: %s\n", err->text);
	return 1;
}

/* Before any thread is made, so that all of them leave the signals to the descriptor. */
static int take_signals(struct house *h, struct foil_error *err)
{
	sigset_t set;
	(void)sigemptyset(&set); /* these cannot fail with signals that exist */
	(void)sigaddset(&set, SIGTERM);
	(void)sigaddset(&set, SIGINT);
	(void)sigaddset(&set, SIGHUP);
	(void)signal(SIGPIPE, SIG_IGN);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return foil_error_set(err, -errno, "signals cannot be blocked: %s", strerror(errno));
	h->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	return h->signal_fd < 0 ? foil_error_set(err, -errno, "no signalfd: %s", strerror(errno)) : 0;
}

static void log_ports(const struct house *h)
{
	for (uint16_t i = 0; i < h->conf.n_ports; i++) {
		struct nic_port_status st;
		nic_port_status(h->node.ports[i], &st);
		log_line(LOG_LEVEL_NOTICE, "port.open", "p%u %s: %s, " RTE_ETHER_ADDR_PRT_FMT ", mtu %u, %u queues%s%s%s%s%s", i,
			 h->conf.ports[i].uri, st.driver, RTE_ETHER_ADDR_BYTES(&st.mac), st.mtu, st.n_queues,
			 st.rss ? ", rss" : "", st.rx_cksum ? ", rx checksums" : "",
			 st.tx_cksum ? ", tx checksums" : "", st.tso ? ", tso" : "",
			 st.link_up ? "" : ", link down");
	}
}

static void load_snapshot(struct house *h)
{
	struct foil_error err = {0};
	int rc = snap_load(h->snap, &err);
	if (rc == -ENOENT)
		log_line(LOG_LEVEL_NOTICE, "config.none", "no snapshot in %s: waiting for an agent at %s", h->conf.state_dir, h->conf.agent_socket);
	else if (rc < 0)
		log_line(LOG_LEVEL_WARNING, "config.disk", "%s; waiting for an agent at %s", err.text, h->conf.agent_socket);
	else
		log_line(LOG_LEVEL_NOTICE, "config.loaded", "version %.*s from %s/snapshot.bin", (int)snap_version(h->snap).n_bytes,
			 snap_version(h->snap).data, h->conf.state_dir);
}

/* What the program itself takes from the mesh's settings: how lines of the access log look. Where they go says the node file alone. */
static void settings_applied(void *arg)
{
	struct house *h = arg;
	struct foil_error err = {0};
	const struct mesh_config *c = snap_config(h->snap);
	if (!c)
		return;
	if (tele_set_format(h->node.tele, c->settings.access_log_format, c->settings.access_log_json, &err) < 0)
		log_line(LOG_LEVEL_WARNING, "access_log.format", "%s; lines keep their form", err.text);
	if (c->settings.access_log_path.n_bytes && !h->conf.access_log[0] && !h->said_no_log) {
		log_line(LOG_LEVEL_NOTICE, "access_log.none", "the mesh asks for an access log (accessLogFile), the node file names none (access_log)");
		h->said_no_log = true;
	}
}

static void wake_workers(void *arg)
{
	node_wake(&((struct house *)arg)->node);
}

static int start_config(struct house *h, struct foil_error *err)
{
	struct snap_params p = {.shared = h->node.mesh, .n_workers = h->conf.n_workers, .state_dir = h->conf.state_dir, .abi = RING_ABI,
				.seed = h->node.seed};
	int rc = tickets_start(&h->tickets, nic_clock_us(), err);
	p.tickets = h->tickets.keys;
	if (rc == 0)
		rc = snap_new(&p, &h->snap, err);
	if (rc < 0)
		return rc;
	load_snapshot(h);
	settings_applied(h);
	struct agent_link_params lp = {.snap = h->snap, .mesh = h->node.mesh, .tele = h->node.tele, .wake = wake_workers,
				       .applied = settings_applied, .arg = h};
	agent_link_start(h->link, &lp);
	return 0;
}

static int start(struct house *h, struct foil_error *err)
{
	int rc = take_signals(h, err);
	if (rc == 0)
		rc = port_locks_take(&h->locks, &h->conf, err);
	if (rc == 0)
		rc = agent_link_open(&h->conf, &h->link, err);
	if (rc == 0)
		rc = node_open(&h->node, &h->conf, notice, err);
	if (rc == 0)
		rc = tele_log_open(h->node.tele, h->conf.access_log, err);
	if (rc == 0) {
		h->stats_fd = tele_handover_listen(h->conf.stats_socket, err);
		rc = FOIL_MIN(h->stats_fd, 0);
	}
	if (rc == 0)
		rc = inspect_open(h->conf.inspect_socket, &h->inspect, err);
	if (rc == 0)
		rc = start_config(h, err);
	if (rc == 0)
		rc = node_run(&h->node, err);
	if (rc == 0)
		inspect_start(h->inspect, &h->node);
	return rc;
}

static void stop(struct house *h)
{
	node_halt(&h->node);
	inspect_close(h->inspect);
	snap_free(h->snap);
	if (h->stats_fd >= 0) {
		(void)close(h->stats_fd);
		(void)unlink(h->conf.stats_socket); /* it may be gone already */
	}
	node_close(&h->node);
	tickets_stop(&h->tickets);
	agent_link_close(h->link);
	port_locks_drop(&h->locks);
	if (h->signal_fd >= 0)
		(void)close(h->signal_fd);
}

/* ---- house-keeping */

static void begin_drain(struct house *h, const char *why, uint64_t now_us)
{
	h->drain_end_us = now_us + (uint64_t)h->conf.drain_s * 1000000 + 1;
	log_line(LOG_LEVEL_NOTICE, "drain.begin", "%s: no new connections; up to %u s for %llu in flight", why, h->conf.drain_s,
		 (unsigned long long)node_in_flight(&h->node));
	agent_link_event(h->link, nic_wall_us(), "node.draining", why);
	node_drain(&h->node);
}

static void reopen_logs(struct house *h)
{
	struct foil_error err = {0};
	log_reopen();
	if (tele_log_reopen(h->node.tele, &err) < 0)
		log_line(LOG_LEVEL_ERROR, "access_log.reopen", "%s", err.text);
	log_line(LOG_LEVEL_NOTICE, "log.reopened", "SIGHUP: the logs are open again");
}

/* False: end now. */
static bool on_signals(struct house *h, uint64_t now_us)
{
	struct signalfd_siginfo si;
	while (read(h->signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si)) {
		if (si.ssi_signo == SIGHUP) {
			reopen_logs(h);
			continue;
		}
		if (h->drain_end_us) {
			log_line(LOG_LEVEL_NOTICE, "drain.cut", "a second signal: ending with %llu connections", (unsigned long long)node_in_flight(&h->node));
			return false;
		}
		begin_drain(h, si.ssi_signo == SIGTERM ? "SIGTERM" : "SIGINT", now_us);
	}
	return true;
}

/* False: it is over. */
static bool drain_goes_on(const struct house *h, uint64_t now_us)
{
	if (!h->drain_end_us)
		return true;
	if (node_is_drained(&h->node)) {
		log_line(LOG_LEVEL_NOTICE, "drain.end", "nothing is in flight");
		return false;
	}
	if (now_us < h->drain_end_us)
		return true;
	log_line(LOG_LEVEL_WARNING, "drain.end", "drain_s is over: ending with %llu connections", (unsigned long long)node_in_flight(&h->node));
	return false;
}

static void config_turn(struct house *h, uint64_t now_us)
{
	struct foil_error err = {0};
	int rc = snap_turn(h->snap, now_us, &err);
	tickets_turn(&h->tickets, now_us);
	if (rc < 0 && !h->disk_failed)
		log_line(LOG_LEVEL_ERROR, "config.disk", "%s", err.text);
	h->disk_failed = rc < 0;
}

/* A line a second at most: actions may come and go with every look. */
static void tell_overload(struct house *h, uint64_t now_us)
{
	static const char *const words[FOIL_OVERLOAD_ACTIONS] = {"shrink", "disable_keepalive", "stop_accepting_connections", "stop_accepting_requests"};
	uint8_t now = node_overload(&h->node);
	char text[128];
	size_t at = 0;
	if (now == h->overload_told || now_us < h->overload_at_us)
		return;
	h->overload_told = now;
	h->overload_at_us = now_us + 1000000;
	for (size_t i = 0; i < FOIL_OVERLOAD_ACTIONS; i++)
		if (now >> i & 1)
			at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? ", " : "", words[i]);
	if (!now)
		(void)snprintf(text, sizeof(text), "nothing runs short any more");
	log_line(now ? LOG_LEVEL_WARNING : LOG_LEVEL_NOTICE, now ? "node.overload" : "node.overload_over", "%s", text);
	agent_link_event(h->link, nic_wall_us(), now ? "node.overload" : "node.overload_over", text);
}

static int choose_wait_ms(const struct house *h)
{
	if (h->more_events || agent_link_is_waiting(h->link) || inspect_is_busy(h->inspect))
		return SOON_MS;
	if (agent_link_has_names(h->link))
		return NAMES_TURN_MS;
	if (h->drain_end_us)
		return DRAIN_TURN_MS;
	return h->conf.access_log[0] ? LOG_TURN_MS : TURN_MS;
}

static void wait_for_work(const struct house *h)
{
	struct pollfd fds[5 + INSPECT_FDS_MAX] = {{.fd = h->signal_fd, .events = POLLIN}, {.fd = h->stats_fd, .events = POLLIN}};
	nfds_t n = 2 + agent_link_fds(h->link, fds + 2);
	n += inspect_fds(h->inspect, fds + n);
	(void)poll(fds, n, choose_wait_ms(h)); /* every turn looks at all of them anyway */
}

static void keep_house(struct house *h)
{
	for (;;) {
		uint64_t now_us = nic_clock_us();
		if (!on_signals(h, now_us))
			return;
		if (h->end_us && now_us >= h->end_us && !h->drain_end_us)
			begin_drain(h, "--max-life", now_us);
		if (!drain_goes_on(h, now_us))
			return;
		agent_link_turn(h->link, now_us);
		h->more_events = tele_turn(h->node.tele, now_us);
		(void)tele_handover_turn(h->stats_fd, h->node.tele); /* how many came is nobody's business */
		inspect_turn(h->inspect);
		neighbourhood_turn(&h->neighbourhood, &h->node);
		nic_ports_tend(h->node.ports, h->conf.n_ports, now_us, notice, NULL);
		config_turn(h, now_us);
		tell_overload(h, now_us);
		wait_for_work(h);
	}
}

int main(int argc, char **argv)
{
	static struct house h; /* too large for a stack */
	struct arguments args;
	struct foil_error err = {0};
	int status = parse_arguments(argc, argv, &args);
	if (status >= 0)
		return status;
	h.signal_fd = h.stats_fd = -1;
	if (node_file_read(args.node_file, &h.conf, &err) < 0) {
		(void)fprintf(stderr, "hydrofoil: %s\n", err.text);
		return 1;
	}
	int rc = log_open(h.conf.log);
	if (rc < 0) {
		(void)fprintf(stderr, "hydrofoil: %s: log: %s: %s\n", args.node_file, h.conf.log, strerror(-rc));
		return 1;
	}
	if (start(&h, &err) < 0) {
		stop(&h);
		return cannot_start(&h, &err);
	}
	if (args.max_life_s)
		h.end_us = nic_clock_us() + args.max_life_s * 1000000;
	log_line(LOG_LEVEL_NOTICE, "start", "hydrofoil %s, node %s, %u workers%s", FOIL_VERSION, h.conf.node_name, h.conf.n_workers,
		 h.conf.has_seed ? ", with the node file's seed: chance is not chance" : "");
	log_ports(&h);
	keep_house(&h);
	stop(&h);
	log_line(LOG_LEVEL_NOTICE, "end", "hydrofoil has ended");
	log_close();
	return 0;
}
