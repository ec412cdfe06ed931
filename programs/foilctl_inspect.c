/* foilctl connections and foilctl capture: asks hydrofoil's inspect_socket (inspect.h has the protocol). What comes is shown, or written into a file, as it
 * comes; the data plane formats it. */
#include "programs/foilctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "programs/node_file.h"

#define SOCKET_DEFAULT "/run/hydrofoil/agent.sock.inspect"
#define REQUEST_BYTES_MAX 1000u
#define ANSWER_TIMEOUT_MS 10000

static const char connections_usage[] =
	"connections [--state NAME] [--local ADDRESS[:PORT]] [--remote ADDRESS[:PORT]] [--json] [--node NODE_FILE | --socket PATH]";
static const char capture_usage[] =
	"capture -w FILE [--reason NAME]... [--flow END[,END]] [--count N] [--seconds N] [--snap BYTES] [--node NODE_FILE | --socket PATH]\n"
	"  --reason any: whatever is dropped; --flow 198.18.0.2:80 or 198.18.0.2,[fd00::1]:443 or :80: packets of it, with the reason of those dropped;\n"
	"  neither: everything. FILE may be -";

struct request {
	char text[REQUEST_BYTES_MAX];
	size_t n;
	bool is_wrong;
};

static void add(struct request *r, const char *name, const char *value)
{
	int n = snprintf(r->text + r->n, sizeof(r->text) - r->n, " %s=%s", name, value);
	if (n < 0 || (size_t)n >= sizeof(r->text) - r->n || strpbrk(value, " \n"))
		r->is_wrong = true;
	else
		r->n += (size_t)n;
}

/* ADDRESS, ADDRESS:PORT, [ADDRESS6]:PORT or :PORT. name: the words are name and name_port. */
static void add_end(struct request *r, const char *name, const char *text)
{
	char address[128], port_name[32];
	const char *port = NULL, *colon = strrchr(text, ':');
	bool bracket = text[0] == '[';
	size_t n = strlen(text);
	if (bracket) {
		const char *close = strchr(text, ']');
		if (!close || (close[1] && close[1] != ':')) {
			r->is_wrong = true;
			return;
		}
		port = close[1] ? close + 2 : NULL;
		n = (size_t)(close - ++text);
	} else if (colon && strchr(text, ':') == colon) { /* one colon: not an IPv6 address */
		port = colon + 1;
		n = (size_t)(colon - text);
	}
	if (n >= sizeof(address)) {
		r->is_wrong = true;
		return;
	}
	memcpy(address, text, n);
	address[n] = 0;
	(void)snprintf(port_name, sizeof(port_name), "%s_port", name); /* fits */
	if (n)
		add(r, name, address);
	if (port)
		add(r, port_name, port);
}

static void add_flow(struct request *r, const char *text)
{
	char first[256];
	size_t n = strcspn(text, ",");
	(void)snprintf(first, sizeof(first), "%.*s", (int)n, text); /* a longer one is no address either */
	add_end(r, "a", first);
	if (text[n])
		add_end(r, "b", text + n + 1);
}

/* ---- the way to the data plane */

static int socket_path(const char *command, const char *node, const char *path, char *out, size_t n_out)
{
	struct node_conf *conf = node ? calloc(1, sizeof(*conf)) : NULL;
	struct foil_error err = {0};
	int rc = 0;
	if (conf && node_file_read(node, conf, &err) < 0) {
		fprintf(stderr, "foilctl %s: %s\n", command, err.text);
		rc = 1;
	} else {
		snprintf(out, n_out, "%s", path ? path : conf ? conf->inspect_socket : SOCKET_DEFAULT);
	}
	free(conf);
	return rc;
}

static int dial(const char *command, const char *path)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (strlen(path) >= sizeof(a.sun_path)) {
		errno = ENAMETOOLONG;
	} else if (fd >= 0) {
		memcpy(a.sun_path, path, strlen(path) + 1);
		if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
			return fd;
	}
	fprintf(stderr, "foilctl %s: %s: %s; is hydrofoil running? name its node file with --node, or inspect_socket with --socket\n", command, path,
		strerror(errno));
	if (fd >= 0)
		close(fd);
	return -1;
}

/* Reads the answer's first line, byte by byte. 0: "ok". */
static int first_line(const char *command, int fd)
{
	char line[600];
	size_t n = 0;
	struct pollfd p = {.fd = fd, .events = POLLIN};
	while (n < sizeof(line) - 1 && poll(&p, 1, ANSWER_TIMEOUT_MS) == 1 && recv(fd, line + n, 1, 0) == 1 && line[n] != '\n')
		n++;
	line[n] = 0;
	if (strcmp(line, "ok") == 0)
		return 0;
	fprintf(stderr, "foilctl %s: %s\n", command, strncmp(line, "error ", 6) == 0 ? line + 6 : "the data plane does not answer");
	return 1;
}

static int ask(const char *command, struct request *r, const char *node, const char *path_given, int *fd)
{
	char path[256];
	if (r->is_wrong) {
		fprintf(stderr, "foilctl %s: an address, a port or a name is not well-formed\n", command);
		return 2;
	}
	if (socket_path(command, node, path_given, path, sizeof(path)))
		return 1;
	*fd = dial(command, path);
	if (*fd < 0)
		return 1;
	r->text[r->n++] = '\n';
	if (send(*fd, r->text, r->n, MSG_NOSIGNAL) == (ssize_t)r->n && first_line(command, *fd) == 0)
		return 0;
	close(*fd);
	return 1;
}

/* ---- connections */

static const char *text_of(const json_t *o, const char *key)
{
	const char *text = json_string_value(json_object_get(o, key));
	return text ? text : "-";
}

static json_int_t number_of(const json_t *o, const char *key)
{
	return json_integer_value(json_object_get(o, key));
}

static void print_end(const json_t *o, const char *name)
{
	char text[96], port_name[32];
	const char *address = text_of(o, name);
	snprintf(port_name, sizeof(port_name), "%s_port", name);
	snprintf(text, sizeof(text), strchr(address, ':') ? "[%s]:%" JSON_INTEGER_FORMAT : "%s:%" JSON_INTEGER_FORMAT, address, number_of(o, port_name));
	printf("%-26s ", text);
}

static void print_connection(const json_t *o)
{
	const json_t *ssthresh = json_object_get(o, "ssthresh_bytes");
	char rtt[48] = "-", limit[24] = "-";
	print_end(o, "local");
	print_end(o, "remote");
	printf("%-12s ", text_of(o, "state"));
	if (!json_object_get(o, "cwnd_bytes")) {
		putchar('\n');
		return;
	}
	snprintf(rtt, sizeof(rtt), "%.1f/%.1f", (double)number_of(o, "srtt_us") / 1000, (double)number_of(o, "rttvar_us") / 1000);
	if (json_is_integer(ssthresh))
		snprintf(limit, sizeof(limit), "%" JSON_INTEGER_FORMAT, json_integer_value(ssthresh));
	printf("%-8s %-8s %9" JSON_INTEGER_FORMAT " %9s %11s %9" JSON_INTEGER_FORMAT " %6" JSON_INTEGER_FORMAT " %9" JSON_INTEGER_FORMAT
	       " %9" JSON_INTEGER_FORMAT " %5" JSON_INTEGER_FORMAT " %s\n",
	       text_of(o, "congestion"), text_of(o, "phase"), number_of(o, "cwnd_bytes"), limit, rtt, number_of(o, "in_flight_bytes"),
	       number_of(o, "resent"), number_of(o, "send_window_bytes"), number_of(o, "receive_window_bytes"), number_of(o, "dropped"),
	       text_of(o, "last_drop"));
}

static void print_head(void)
{
	printf("%-26s %-26s %-12s %-8s %-8s %9s %9s %11s %9s %6s %9s %9s %5s %s\n", "LOCAL", "REMOTE", "STATE", "CC", "PHASE", "CWND", "SSTHRESH", "RTT/VAR_MS",
	       "IN_FLIGHT", "RESENT", "SND_WND", "RCV_WND", "DROPS", "LAST");
}

/* false: a line that is not what the data plane writes. */
static bool show_lines(FILE *in, bool as_json)
{
	char *line = NULL;
	size_t n_line = 0, n = 0;
	bool ok = true;
	if (as_json)
		putchar('[');
	else
		print_head();
	while (ok && getline(&line, &n_line, in) > 0) {
		json_t *o = json_loads(line, 0, NULL);
		ok = json_is_object(o);
		if (ok && as_json)
			printf("%s%.*s", n ? ",\n" : "\n", (int)strcspn(line, "\n"), line);
		else if (ok)
			print_connection(o);
		json_decref(o);
		n++;
	}
	if (as_json)
		puts("\n]");
	free(line);
	return ok;
}

int foilctl_connections(int argc, char **argv)
{
	struct request r = {.text = "connections", .n = strlen("connections")};
	bool as_json = foilctl_flag(&argc, argv, "--json");
	const char *node = foilctl_option(&argc, argv, "--node"), *path = foilctl_option(&argc, argv, "--socket");
	const char *state = foilctl_option(&argc, argv, "--state"), *local = foilctl_option(&argc, argv, "--local");
	const char *remote = foilctl_option(&argc, argv, "--remote");
	int fd;
	if (foilctl_unknown(argc, argv, connections_usage))
		return 2;
	if (argc > 1) {
		fprintf(stderr, "usage: foilctl %s\n", connections_usage);
		return 2;
	}
	if (state)
		add(&r, "state", state);
	if (local)
		add_end(&r, "local", local);
	if (remote)
		add_end(&r, "remote", remote);
	int rc = ask("connections", &r, node, path, &fd);
	if (rc)
		return rc;
	FILE *in = fdopen(fd, "r");
	if (!in) {
		close(fd);
		return 1;
	}
	bool ok = show_lines(in, as_json);
	fclose(in);
	if (!ok)
		fprintf(stderr, "foilctl connections: the data plane's answer is cut or of another version\n");
	return !ok;
}

/* ---- capture */

static int signals(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return signalfd(-1, &set, SFD_CLOEXEC);
}

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Copies until the data plane has no more; asks it to end at a signal or when time is over. 0, or 1 after a sentence. */
static int copy(int fd, FILE *out, const char *name, uint64_t end_ms)
{
	static char bytes[65536];
	struct pollfd p[2] = {{.fd = fd, .events = POLLIN}, {.fd = signals(), .events = POLLIN}};
	bool is_shut = false;
	for (;;) {
		uint64_t now = now_ms();
		int wait_ms = is_shut ? ANSWER_TIMEOUT_MS : end_ms ? (int)(now < end_ms ? end_ms - now : 0) : -1;
		int n_ready = poll(p, 2, wait_ms);
		if (n_ready == 0 && is_shut) {
			fprintf(stderr, "foilctl capture: the data plane does not answer any more; %s may be cut\n", name);
			return 1;
		}
		if (!is_shut && (n_ready == 0 || p[1].revents)) {
			shutdown(fd, SHUT_WR);
			is_shut = true;
			p[1].fd = -1;
		}
		if (!p[0].revents)
			continue;
		ssize_t n = recv(fd, bytes, sizeof(bytes), 0);
		if (n <= 0)
			return 0;
		if (fwrite(bytes, 1, (size_t)n, out) != (size_t)n || fflush(out)) {
			fprintf(stderr, "foilctl capture: %s: %s\n", name, strerror(errno));
			return 1;
		}
	}
}

int foilctl_capture(int argc, char **argv)
{
	struct request r = {.text = "capture", .n = strlen("capture")};
	const char *node = foilctl_option(&argc, argv, "--node"), *path = foilctl_option(&argc, argv, "--socket"), *value;
	const char *name = foilctl_option(&argc, argv, "-w"), *seconds = foilctl_option(&argc, argv, "--seconds");
	char *end = NULL;
	unsigned long n_seconds = seconds ? strtoul(seconds, &end, 10) : 0;
	int fd;
	while ((value = foilctl_option(&argc, argv, "--reason")))
		add(&r, "reason", value);
	if ((value = foilctl_option(&argc, argv, "--flow")))
		add_flow(&r, value);
	if ((value = foilctl_option(&argc, argv, "--count")))
		add(&r, "count", value);
	if ((value = foilctl_option(&argc, argv, "--snap")))
		add(&r, "snap", value);
	if (foilctl_unknown(argc, argv, capture_usage))
		return 2;
	if (argc > 1 || !name || (seconds && (*end || n_seconds == 0 || n_seconds > 1000000))) {
		fprintf(stderr, "usage: foilctl %s\n", capture_usage);
		return 2;
	}
	int rc = ask("capture", &r, node, path, &fd);
	if (rc)
		return rc;
	FILE *out = strcmp(name, "-") == 0 ? stdout : fopen(name, "wb");
	if (!out) {
		fprintf(stderr, "foilctl capture: %s: %s\n", name, strerror(errno));
		close(fd);
		return 1;
	}
	fprintf(stderr, "foilctl capture: capturing%s\n", seconds ? "" : "; end with Ctrl-C");
	rc = copy(fd, out, name, seconds ? now_ms() + n_seconds * 1000 : 0);
	close(fd);
	if (out != stdout && fclose(out))
		rc = 1;
	return rc;
}
