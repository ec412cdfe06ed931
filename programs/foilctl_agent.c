/* foilctl's commands that ask the running agent: status, stats, diagnostics, config dump. A small HTTP/1.0 client over a blocking socket
 * with a time limit; what it gets is the agent's word and is printed as text, control characters included only as JSON has them. */
#include "programs/foilctl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <jansson.h>

#define PAGE_BYTES_MAX (256u << 20)
#define PORT_ADMIN 15000
#define PORT_PROMETHEUS 15090

/* ---- the client ---- */

static int connect_to(const char *address, uint16_t port)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons(port)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)};
	bool is_v4 = inet_pton(AF_INET, address, &v4.sin_addr) == 1;
	struct timeval limit = {.tv_sec = 5};

	if (!is_v4 && inet_pton(AF_INET6, address, &v6.sin6_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	int fd = socket(is_v4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* without the limit it only waits longer */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	int rc = is_v4 ? connect(fd, (const struct sockaddr *)&v4, sizeof(v4)) : connect(fd, (const struct sockaddr *)&v6, sizeof(v6));
	if (rc != 0) {
		int why = errno;
		close(fd);
		errno = why;
		return -1;
	}
	return fd;
}

static bool send_all(int fd, const char *data, size_t n_bytes)
{
	while (n_bytes) {
		ssize_t n = send(fd, data, n_bytes, MSG_NOSIGNAL);
		if (n <= 0)
			return false;
		data += n;
		n_bytes -= (size_t)n;
	}
	return true;
}

/* Everything until the other side closes. NULL with errno on failure. */
static char *receive_all(int fd, size_t *n_bytes)
{
	size_t n = 0, room = 65536;
	char *data = malloc(room + 1);

	while (data) {
		ssize_t got = recv(fd, data + n, room - n, 0);
		if (got == 0) {
			data[n] = 0;
			*n_bytes = n;
			return data;
		}
		if (got < 0)
			break;
		n += (size_t)got;
		if (n < room)
			continue;
		char *more = room < PAGE_BYTES_MAX ? realloc(data, room * 2 + 1) : NULL;
		if (!more) {
			errno = EFBIG;
			break;
		}
		data = more;
		room *= 2;
	}
	free(data);
	return NULL;
}

static bool split_answer(char *text, size_t n_bytes, struct foilctl_page *out)
{
	char *body = strstr(text, "\r\n\r\n");

	if (!body || n_bytes < 12 || strncmp(text, "HTTP/1.1 ", 9) != 0)
		return false;
	out->status = (unsigned int)strtoul(text + 9, NULL, 10);
	body += 4;
	out->n_bytes = n_bytes - (size_t)(body - text);
	memmove(text, body, out->n_bytes + 1);
	out->body = text;
	return true;
}

int foilctl_get(const char *address, uint16_t port, const char *path, struct foilctl_page *out)
{
	return foilctl_ask(address, port, "GET", path, out);
}

int foilctl_ask(const char *address, uint16_t port, const char *method, const char *path, struct foilctl_page *out)
{
	char request[512];
	size_t n_bytes = 0;

	address = address ? address : "127.0.0.1";
	*out = (struct foilctl_page){0};
	const char *length = strcmp(method, "POST") == 0 ? "Content-Length: 0\r\n" : "";
	int n = snprintf(request, sizeof(request), "%s %s HTTP/1.0\r\nHost: %s\r\n%sConnection: close\r\n\r\n", method, path, address, length);
	int fd = connect_to(address, port);
	if (fd < 0) {
		fprintf(stderr, "foilctl: no foil-agent at %s port %u: %s; is it running (systemctl status foil-agent, ./foil lab status)?\n", address,
			port, strerror(errno));
		return 1;
	}
	char *text = send_all(fd, request, (size_t)n) ? receive_all(fd, &n_bytes) : NULL;
	int why = errno;
	close(fd);
	if (!text) {
		fprintf(stderr, "foilctl: %s port %u does not answer GET %s: %s\n", address, port, path, strerror(why));
		return 1;
	}
	if (!split_answer(text, n_bytes, out)) {
		fprintf(stderr, "foilctl: what listens at %s port %u does not speak HTTP/1.1; is it foil-agent?\n", address, port);
		free(text);
		return 1;
	}
	if (out->status != 200) {
		fprintf(stderr, "foilctl: GET %s: status %u: %s", path, out->status, out->body);
		foilctl_page_free(out);
		return 1;
	}
	return 0;
}

void foilctl_page_free(struct foilctl_page *page)
{
	free(page->body);
	*page = (struct foilctl_page){0};
}

/* GET and print as it is. */
static int print_page(const char *agent, uint16_t port, const char *path)
{
	struct foilctl_page page;

	if (foilctl_get(agent, port, path, &page))
		return 1;
	fwrite(page.body, 1, page.n_bytes, stdout);
	foilctl_page_free(&page);
	return 0;
}

/* ---- status ---- */

static const char *text_of(const json_t *object, const char *group, const char *key)
{
	const char *s = json_string_value(json_object_get(json_object_get(object, group), key));

	return s && s[0] ? s : "-";
}

static long long number_of(const json_t *object, const char *group, const char *key)
{
	return (long long)json_integer_value(json_object_get(json_object_get(object, group), key));
}

static int print_status(const json_t *s)
{
	const json_t *reasons = json_object_get(json_object_get(s, "snapshot"), "reasons");
	bool is_connected = json_is_true(json_object_get(json_object_get(s, "data_plane"), "connected"));
	const char *state = text_of(s, "snapshot", "state");

	printf("agent       version %s, process %lld, up %lld s\n", text_of(s, "agent", "version"), number_of(s, "agent", "pid"),
	       number_of(s, "agent", "uptime_s"));
	printf("data plane  %s, node %s, version %s\n", is_connected ? "connected" : "NOT CONNECTED", text_of(s, "data_plane", "node"),
	       text_of(s, "data_plane", "version"));
	printf("config      %lld files, %lld resources, %lld errors, %lld warnings\n", number_of(s, "config", "files"),
	       number_of(s, "config", "resources"), number_of(s, "config", "errors"), number_of(s, "config", "warnings"));
	printf("snapshot    %s: %s; the data plane runs on %s\n", text_of(s, "snapshot", "version"), state, text_of(s, "snapshot", "running_version"));
	for (size_t i = 0; i < json_array_size(reasons); i++)
		printf("            %s\n", json_string_value(json_array_get(reasons, i)));
	return is_connected && strcmp(state, "applied") == 0 ? 0 : 1;
}

int foilctl_status(int argc, char **argv)
{
	bool as_json = foilctl_flag(&argc, argv, "--json");
	const char *agent = foilctl_option(&argc, argv, "--agent");
	struct foilctl_page page;
	json_error_t err;

	if (foilctl_unknown(argc, argv, "status [--json] [--agent IP]"))
		return 2;
	if (as_json)
		return print_page(agent, PORT_ADMIN, "/status");
	if (foilctl_get(agent, PORT_ADMIN, "/status", &page))
		return 1;
	json_t *s = json_loadb(page.body, page.n_bytes, 0, &err);
	foilctl_page_free(&page);
	if (!s) {
		fprintf(stderr, "foilctl: the agent's /status is no JSON: %s (line %d)\n", err.text, err.line);
		return 1;
	}
	int rc = print_status(s);
	json_decref(s);
	return rc;
}

/* ---- stats ---- */

static bool has_words(const char *line, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (!strstr(line, argv[i]))
			return false;
	return true;
}

/* "name{labels} value" to {"sample": "name{labels}", "value": value}; labels stay Prometheus's own text. */
static void add_sample(json_t *list, const char *line)
{
	const char *value = strrchr(line, ' ');

	if (value)
		json_array_append_new(list, json_pack("{s:s%, s:f}", "sample", line, (int)(value - line), "value", strtod(value + 1, NULL)));
}

int foilctl_stats(int argc, char **argv)
{
	bool as_json = foilctl_flag(&argc, argv, "--json");
	const char *agent = foilctl_option(&argc, argv, "--agent");
	struct foilctl_page page;
	char *rest = NULL;

	if (foilctl_unknown(argc, argv, "stats [WORD...] [--json] [--agent IP]"))
		return 2;
	if (foilctl_get(agent, PORT_PROMETHEUS, "/stats/prometheus", &page))
		return 1;
	json_t *list = json_array();
	for (char *line = strtok_r(page.body, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
		if (line[0] == '#' || !has_words(line, argc, argv))
			continue;
		if (as_json)
			add_sample(list, line);
		else
			puts(line);
	}
	if (as_json) {
		(void)json_dumpf(list, stdout, JSON_INDENT(1)); /* a closed stdout is nobody's news */
		puts("");
	}
	json_decref(list);
	foilctl_page_free(&page);
	return 0;
}

/* ---- pages as they are ---- */

int foilctl_diagnostics(int argc, char **argv)
{
	bool as_json = foilctl_flag(&argc, argv, "--json");
	const char *agent = foilctl_option(&argc, argv, "--agent");

	if (foilctl_unknown(argc, argv, "diagnostics [--json] [--agent IP]"))
		return 2;
	return print_page(agent, PORT_ADMIN, as_json ? "/diagnostics?format=json" : "/diagnostics");
}

int foilctl_config(int argc, char **argv)
{
	const char *agent = foilctl_option(&argc, argv, "--agent");

	(void)foilctl_flag(&argc, argv, "--json"); /* it is JSON already */
	if (argc != 2 || strcmp(argv[1], "dump") != 0) {
		fputs("usage: foilctl config dump [--agent IP]\n", stderr);
		return 2;
	}
	return print_page(agent, PORT_ADMIN, "/config_dump");
}
