/* foil-agent itself, as a process, between a folder of YAML and a data plane that is this test: what it sends, what it says over HTTP, what it survives.
 * Its pages listen on an address of 127/8 that is this process's own, so that another agent on the machine does not meet it. */
#include "tests/unit/agent/fake_node.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <jansson.h>

#include "tests/unit/admin/exposition.h"
#include "tests/unit/dns/server.h"

#define WAIT_MS 10000

static const char *program; /* foil-agent, from the command line */
static char folder[] = "/tmp/foil-test-agent-XXXXXX", config[64], socket_path[64], log_path[64], address[32];
static struct fake_node node = {.stats_fd = -1};
static pid_t agent;
static struct expo expo;

static const char mesh_yaml[] =
	"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: front, namespace: app}\nspec:\n  selector: {istio: ingressgateway}\n"
	"  servers:\n  - port: {number: 80, name: http, protocol: HTTP}\n    hosts: [\"*\"]\n"
	"---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: one, namespace: app}\nspec:\n  hosts: [one.test]\n"
	"  ports:\n  - {number: 8080, name: http, protocol: HTTP}\n  resolution: STATIC\n  endpoints:\n  - {address: 198.19.0.10}\n";
static const char route_yaml[] =
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespace: app}\nspec:\n  hosts: [web.example.com]\n"
	"  gateways: [front]\n  http:\n  - route:\n    - destination: {host: one.test, port: {number: 8080}}\n";
static const char second_yaml[] =
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: two, namespace: app}\nspec:\n  hosts: [two.test]\n"
	"  ports:\n  - {number: 8080, name: http, protocol: HTTP}\n  resolution: STATIC\n  endpoints:\n  - {address: 198.19.0.11}\n"
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: two, namespace: app}\nspec:\n  hosts: [two.example.com]\n"
	"  gateways: [front]\n  http:\n  - route:\n    - destination: {host: two.test, port: {number: 8080}}\n";
static const char names_yaml[] =
	"apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: two, namespace: app}\nspec:\n  hosts: [two.test]\n"
	"  ports:\n  - {number: 8080, name: http, protocol: HTTP}\n  resolution: DNS\n"
	"---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: two, namespace: app}\nspec:\n  hosts: [two.example.com]\n"
	"  gateways: [front]\n  http:\n  - route:\n    - destination: {host: two.test, port: {number: 8080}}\n";
static const char bad_yaml[] =
	"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: bad, namespace: app}\nspec:\n  hosts: [bad.example.com]\n"
	"  gateways: [front]\n  httpx:\n  - route: []\n";

/* ---- the world around it */

static void write_file(const char *name, const char *text)
{
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/%s", config, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
}

static void remove_file(const char *name)
{
	char path[128];
	(void)snprintf(path, sizeof(path), "%s/%s", config, name);
	(void)unlink(path);
}

static uint64_t now_ms(void)
{
	struct timespec ts;
	(void)clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000 + (uint64_t)ts.tv_nsec / 1000000;
}

static pid_t spawn(char *const argv[], const char *output)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		int fd = open(output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		(void)dup2(fd, STDOUT_FILENO);
		(void)dup2(fd, STDERR_FILENO);
		(void)execv(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static void start_agent_with(char *option, char *value)
{
	char *const argv[] = {(char *)(uintptr_t)program, (char[]){"--config"}, config, (char[]){"--socket"}, socket_path,
			      (char[]){"--address"}, address, option, value, NULL};
	agent = spawn(argv, log_path);
}

static void start_agent(void)
{
	start_agent_with(NULL, NULL);
}

static int end_agent(int sig)
{
	int status = -1;
	if (agent <= 0)
		return -1;
	(void)kill(agent, sig);
	for (uint64_t end = now_ms() + WAIT_MS; waitpid(agent, &status, WNOHANG) == 0; (void)usleep(2000)) {
		fake_node_turn(&node);
		if (now_ms() > end) {
			(void)kill(agent, SIGKILL);
			(void)waitpid(agent, &status, 0);
			fail_msg("foil-agent does not end on signal %d", sig);
		}
	}
	agent = 0;
	return status;
}

static const char *log_text(void)
{
	static char text[65536];
	int fd = open(log_path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = 0;
	if (fd >= 0)
		(void)close(fd);
	return text;
}

/* GET; the node lives on meanwhile. The status, 0 when nobody answers. *body is freed by the caller. */
static int get(uint16_t port, const char *path, char **body, size_t *n_body)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
	char request[256];
	size_t n = 0, room = 1 << 20;
	*body = NULL;
	assert_int_equal(inet_pton(AF_INET, address, &a.sin_addr), 1);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (const struct sockaddr *)&a, sizeof(a)) < 0) {
		(void)close(fd);
		return 0;
	}
	int len = snprintf(request, sizeof(request), "GET %s HTTP/1.0\r\nHost: x\r\nConnection: close\r\n\r\n", path);
	assert_int_equal(send(fd, request, (size_t)len, MSG_NOSIGNAL), len);
	char *text = malloc(room + 1);
	for (uint64_t end = now_ms() + WAIT_MS; now_ms() < end;) {
		fake_node_turn(&node);
		if (n == room)
			text = realloc(text, (room *= 2) + 1);
		ssize_t got = recv(fd, text + n, room - n, MSG_DONTWAIT);
		if (got == 0)
			break;
		if (got > 0)
			n += (size_t)got;
		else if (errno == EAGAIN)
			(void)usleep(1000);
		else
			break;
	}
	(void)close(fd);
	text[n] = 0;
	char *blank = strstr(text, "\r\n\r\n");
	int status = n > 12 ? (int)strtol(text + 9, NULL, 10) : 0;
	if (blank) {
		*n_body = n - (size_t)(blank + 4 - text);
		*body = malloc(*n_body + 1);
		memcpy(*body, blank + 4, *n_body + 1);
	}
	free(text);
	return status;
}

static json_t *status_now(void)
{
	char *body;
	size_t n;
	json_error_t err;
	json_t *j = get(15000, "/status", &body, &n) == 200 ? json_loads(body, 0, &err) : NULL;
	free(body);
	return j;
}

static const char *text_at(const json_t *j, const char *group, const char *key)
{
	const char *s = json_string_value(json_object_get(json_object_get(j, group), key));
	return s ? s : "";
}

/* Waits until the snapshot has this state and, unless NULL, a version other than this; returns /status. */
static json_t *wait_for(const char *state, const char *not_version)
{
	for (uint64_t end = now_ms() + WAIT_MS; now_ms() < end; (void)usleep(5000)) {
		fake_node_turn(&node);
		json_t *j = status_now();
		bool is_there = j && strcmp(text_at(j, "snapshot", "state"), state) == 0;
		if (is_there && (!not_version || strcmp(text_at(j, "snapshot", "version"), not_version) != 0))
			return j;
		json_decref(j);
	}
	fail_msg("the snapshot never became %s; log:\n%s", state, log_text());
	return NULL;
}

static void remember_version(json_t *j, char version[128])
{
	(void)snprintf(version, 128, "%s", text_at(j, "snapshot", "version"));
	json_decref(j);
}

static bool has_reason(const json_t *j, const char *text)
{
	const json_t *reasons = json_object_get(json_object_get(j, "snapshot"), "reasons");
	for (size_t i = 0; i < json_array_size(reasons); i++)
		if (strstr(json_string_value(json_array_get(reasons, i)), text))
			return true;
	return false;
}

static int set_up(void **state)
{
	(void)state;
	t_eal();
	if (!mkdtemp(folder))
		return -1;
	(void)snprintf(config, sizeof(config), "%s/config", folder);
	(void)snprintf(socket_path, sizeof(socket_path), "%s/agent.sock", folder);
	(void)snprintf(log_path, sizeof(log_path), "%s/log", folder);
	(void)snprintf(address, sizeof(address), "127.%d.%d.%d", 1 + getpid() / 65536 % 200, getpid() / 256 % 256, 1 + getpid() % 254);
	return mkdir(config, 0700);
}

static int tear_down(void **state)
{
	static const char *const names[] = {"mesh.yaml", "route.yaml", "second.yaml", "bad.yaml"};
	(void)state;
	for (size_t i = 0; i < FOIL_COUNT_OF(names); i++)
		remove_file(names[i]);
	(void)unlink(log_path);
	(void)rmdir(config);
	return rmdir(folder);
}

static int one_begins(void **state)
{
	(void)state;
	static const char *const others[] = {"second.yaml", "bad.yaml"};
	for (size_t i = 0; i < FOIL_COUNT_OF(others); i++)
		remove_file(others[i]);
	write_file("mesh.yaml", mesh_yaml);
	write_file("route.yaml", route_yaml);
	(void)truncate(log_path, 0);
	return 0;
}

/* Whatever the test did: nothing stays. */
static int one_ends(void **state)
{
	(void)state;
	if (agent > 0) {
		(void)kill(agent, SIGKILL);
		(void)waitpid(agent, NULL, 0);
		agent = 0;
	}
	if (node.server)
		fake_node_close(&node);
	return 0;
}

/* ---- the tests */

static void test_wrong_command_lines_are_refused_with_a_sentence(void **state)
{
	static const struct {
		const char *words[6], *says;
		int status;
	} cases[] = {
		{{NULL}, "--config is required", 2},
		{{"--config", "/tmp"}, "--socket is required", 2},
		{{"--config"}, "--config needs a value", 2},
		{{"--config", "/tmp", "--config", "/tmp"}, "given twice", 2},
		{{"--nonsense"}, "--nonsense is not an option", 2},
		{{"--config", "/tmp", "--socket", "/tmp/x", "word"}, "word", 2},
		{{"--config", "", "--socket", "/tmp/x"}, "not empty", 2},
		{{"--config", "/nonexistent", "--socket", "/tmp/x"}, "/nonexistent", 1},
		{{"--config", "/tmp", "--socket", "/tmp/01234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890123456789012345678901234"},
		 "107 bytes", 2},
		{{"--config", "/tmp", "--socket", "/tmp/x", "--dns-servers", "nowhere"}, "--dns-servers takes IP", 1},
		{{"--version"}, "foil-agent ", 0},
		{{"--help"}, "usage: foil-agent", 0},
	};
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		char *argv[8] = {(char *)(uintptr_t)program};
		int status;
		for (size_t k = 0; k < 6; k++)
			argv[k + 1] = (char *)(uintptr_t)cases[i].words[k];
		(void)truncate(log_path, 0);
		pid_t pid = spawn(argv, log_path);
		assert_int_equal(waitpid(pid, &status, 0), pid);
		if (!WIFEXITED(status) || WEXITSTATUS(status) != cases[i].status || !strstr(log_text(), cases[i].says))
			fail_msg("case %zu: status %x, said: %s", i, status, log_text());
	}
	(void)state;
}

static void test_without_a_data_plane_it_says_so_and_still_has_metrics(void **state)
{
	char *body;
	size_t n;
	start_agent();
	json_t *j = wait_for("pending", NULL);
	assert_true(json_is_false(json_object_get(json_object_get(j, "data_plane"), "connected")));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "config"), "files")), 2);
	json_decref(j);
	assert_int_equal(get(15021, "/healthz/ready", &body, &n), 503);
	assert_non_null(strstr(body, "no data plane"));
	free(body);
	assert_int_equal(get(15090, "/metrics", &body, &n), 200);
	if (!expo_check(&expo, body, n))
		fail_msg("%s: %s", expo.fault, expo.line);
	assert_non_null(strstr(body, "foil_agent_connected 0\n"));
	assert_non_null(strstr(body, "foil_agent_config_files 2\n"));
	assert_null(strstr(body, "istio_requests_total"));
	free(body);
	int status = end_agent(SIGTERM);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
	(void)state;
}

static void test_full_state_then_deltas_and_each_reading_has_its_version(void **state)
{
	char before[128], *body;
	size_t n;
	json_error_t err;
	fake_node_open(&node, socket_path);
	start_agent();
	json_t *j = wait_for("applied", NULL);
	assert_true(json_is_true(json_object_get(json_object_get(j, "data_plane"), "connected")));
	assert_string_equal(text_at(j, "data_plane", "node"), "fake");
	assert_string_equal(text_at(j, "snapshot", "version"), node.version);
	assert_string_equal(text_at(j, "snapshot", "running_version"), node.version);
	remember_version(j, before);
	assert_true(node.was_full);
	assert_int_equal(node.n_listeners, 1);
	assert_true(node.n_clusters >= 1);
	assert_int_equal(get(15021, "/healthz/ready", &body, &n), 200);
	free(body);
	size_t n_all = node.n_resources;

	assert_int_equal(get(15000, "/config_dump", &body, &n), 200);
	j = json_loads(body, 0, &err);
	if (!j)
		fail_msg("%s: %s", err.text, body);
	assert_int_equal(json_array_size(json_object_get(j, "resources")), n_all);
	json_decref(j);
	free(body);
	assert_int_equal(get(15000, "/config_dump?type=listener", &body, &n), 200);
	j = json_loads(body, 0, &err);
	assert_int_equal(json_array_size(json_object_get(j, "resources")), 1);
	json_t *listener = json_object_get(json_array_get(json_object_get(j, "resources"), 0), "body");
	assert_string_equal(json_string_value(json_object_get(listener, "address")), "198.18.0.1");
	assert_int_equal(json_integer_value(json_object_get(listener, "port")), 80);
	assert_int_equal(json_array_size(json_object_get(listener, "filter_chains")), 1);
	json_decref(j);
	free(body);

	write_file("second.yaml", second_yaml);
	remember_version(wait_for("applied", before), before);
	assert_false(node.was_full);
	assert_int_equal(node.n_resources, 3); /* the routes, a cluster, its endpoints: not the listener, nor the first cluster */
	assert_int_equal(node.n_removed, 0);

	remove_file("second.yaml");
	remember_version(wait_for("applied", before), before);
	assert_int_equal(node.n_removed, 2);

	write_file("route.yaml", route_yaml); /* the same bytes: another reading, nothing to send */
	remember_version(wait_for("applied", before), before);
	assert_int_equal(node.n_resources, 0);
	(void)state;
}

static void test_one_bad_resource_is_named_and_the_rest_applied(void **state)
{
	char before[128], *body;
	size_t n;
	fake_node_open(&node, socket_path);
	start_agent();
	remember_version(wait_for("applied", NULL), before);
	write_file("bad.yaml", bad_yaml);
	write_file("second.yaml", second_yaml);
	json_t *j = wait_for("applied", before);
	assert_true(json_integer_value(json_object_get(json_object_get(j, "config"), "errors")) > 0);
	assert_true(has_reason(j, "httpx"));
	assert_true(has_reason(j, "bad.yaml:7"));
	remember_version(j, before);
	assert_true(node.n_clusters >= 1);
	assert_int_equal(get(15000, "/diagnostics", &body, &n), 200);
	assert_non_null(strstr(body, "VirtualService/app/bad"));
	free(body);
	assert_int_equal(get(15090, "/stats/prometheus", &body, &n), 200);
	if (!expo_check(&expo, body, n))
		fail_msg("%s: %s", expo.fault, expo.line);
	assert_non_null(strstr(body, "foil_agent_config_rejected{resource=\"VirtualService/app/bad\"} 1\n"));
	free(body);
	(void)state;
}

/* An editor saves in two steps, or a copy is under way: what ran goes on. */
static void test_half_written_file_keeps_its_last_good_contents(void **state)
{
	char before[128];
	fake_node_open(&node, socket_path);
	start_agent();
	remember_version(wait_for("applied", NULL), before);
	write_file("route.yaml", "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: web, namespa");
	json_t *j = wait_for("applied", before);
	assert_true(has_reason(j, "route.yaml"));
	remember_version(j, before);
	assert_int_equal(node.n_resources, 0);
	write_file("route.yaml", route_yaml);
	j = wait_for("applied", before);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "config"), "errors")), 0);
	json_decref(j);
	(void)state;
}

static void test_reading_with_nothing_to_run_is_rejected_and_not_sent(void **state)
{
	char before[128];
	remove_file("route.yaml");
	write_file("mesh.yaml", "kind: [unclosed\n");
	fake_node_open(&node, socket_path);
	start_agent();
	json_t *j = wait_for("rejected", NULL);
	assert_true(has_reason(j, "mesh.yaml"));
	remember_version(j, before);
	assert_int_equal(node.n_updates, 0);
	write_file("mesh.yaml", mesh_yaml);
	json_decref(wait_for("applied", before));
	assert_int_equal(node.n_updates, 1);
	(void)state;
}

static void test_what_the_data_plane_refuses_is_rejected_with_its_reason(void **state)
{
	char before[128], running[128];
	fake_node_open(&node, socket_path);
	start_agent();
	json_t *j = wait_for("applied", NULL);
	(void)snprintf(running, sizeof(running), "%s", text_at(j, "snapshot", "running_version"));
	remember_version(j, before);
	node.reject_with = "no address left";
	write_file("second.yaml", second_yaml);
	j = wait_for("rejected", before);
	assert_true(has_reason(j, "no address left"));
	assert_true(has_reason(j, "198.18.0.1_80"));
	assert_string_equal(text_at(j, "snapshot", "running_version"), running);
	remember_version(j, before);
	node.reject_with = NULL;
	remove_file("second.yaml");
	json_decref(wait_for("applied", before));
	(void)state;
}

static void test_new_data_plane_gets_the_full_state_again(void **state)
{
	char before[128];
	fake_node_open(&node, socket_path);
	start_agent();
	remember_version(wait_for("applied", NULL), before);
	fake_node_close(&node);
	json_decref(wait_for("pending", NULL));
	fake_node_open(&node, socket_path);
	json_decref(wait_for("applied", NULL));
	assert_true(node.was_full);
	assert_int_equal(node.n_listeners, 1);
	(void)state;
}

/* The folder goes away (a mount, a mistake): what ran goes on, a new data plane gets it too, and the state says what is wrong. */
static void test_folder_that_vanishes_changes_nothing_that_runs(void **state)
{
	char before[128], away[80];
	(void)snprintf(away, sizeof(away), "%s/away", folder);
	fake_node_open(&node, socket_path);
	start_agent();
	remember_version(wait_for("applied", NULL), before);
	assert_int_equal(rename(config, away), 0);
	json_t *j = wait_for("rejected", before);
	assert_true(has_reason(j, config));
	remember_version(j, before);
	assert_int_equal(node.n_updates, 1);
	fake_node_close(&node);
	fake_node_open(&node, socket_path);
	for (uint64_t end = now_ms() + WAIT_MS; node.n_updates == 0 && now_ms() < end; (void)usleep(2000))
		fake_node_turn(&node);
	assert_int_equal(node.n_updates, 1);
	assert_true(node.was_full);
	assert_int_equal(node.n_listeners, 1);
	json_decref(wait_for("rejected", NULL));
	assert_int_equal(rename(away, config), 0);
	json_decref(wait_for("applied", before));
	(void)state;
}

static void test_killed_agent_leaves_nothing_that_stops_the_next(void **state)
{
	char before[128];
	fake_node_open(&node, socket_path);
	for (int i = 0; i < 3; i++) {
		start_agent();
		remember_version(wait_for("applied", NULL), before);
		(void)end_agent(SIGKILL);
	}
	assert_int_equal(node.n_updates, 3);
	(void)state;
}

static void test_metrics_of_the_data_plane_come_through_its_segment(void **state)
{
	char *body;
	size_t n;
	fake_node_open(&node, socket_path);
	struct foil_worker *w = t_tele_worker(node.tele, 0);
	struct tele_request r = t_request();
	tele_request_done(w, &r);
	start_agent();
	json_decref(wait_for("applied", NULL));
	for (uint32_t i = 1; i <= 2; i++) { /* the second time from the mapping that it has */
		assert_int_equal(get(15090, "/stats/prometheus", &body, &n), 200);
		if (!expo_check(&expo, body, n))
			fail_msg("%s: %s", expo.fault, expo.line);
		char want[64];
		(void)snprintf(want, sizeof(want), "grpc_response_status=\"\"} %u\n", i);
		char *line = strstr(body, "\nistio_requests_total{");
		assert_non_null(line);
		*strchr(line + 1, '\n') = 0;
		assert_non_null(strstr(line, "destination_service=\"reviews.shop.svc.cluster.local\""));
		assert_int_equal(strtoul(strrchr(line, ' '), NULL, 10), i);
		free(body);
		tele_request_done(w, &r);
	}
	assert_int_equal(get(15090, "/metrics", &body, &n), 200);
	assert_non_null(strstr(body, "foil_agent_connected 1\n"));
	assert_non_null(strstr(body, "foil_agent_snapshot_state{state=\"applied\"} 1\n"));
	free(body);
	t_tele_worker_free(w);
	(void)state;
}

static void turn_until(struct dns_server *names, size_t n_updates)
{
	for (uint64_t end = now_ms() + WAIT_MS; node.n_updates < n_updates && now_ms() < end; (void)usleep(1000)) {
		fake_node_turn(&node);
		dns_server_turn(names);
	}
	assert_int_equal(node.n_updates, n_updates);
}

static void test_names_are_resolved_first_and_followed_by_patches(void **state)
{
	struct dns_zone zone = {"two.test", SAY_ADDRESSES, .ttl = 1, .a = {"198.19.0.20"}};
	struct dns_server names;
	char servers[32], version[128], *body;
	size_t n;
	dns_server_open(&names, &zone, 1);
	(void)snprintf(servers, sizeof(servers), "127.0.0.1:%u", names.port);
	write_file("second.yaml", names_yaml);
	fake_node_open(&node, socket_path);
	start_agent_with((char[]){"--dns-servers"}, servers);
	for (uint64_t end = now_ms() + WAIT_MS; zone.n_asked == 0 && now_ms() < end; (void)usleep(1000)) {
		fake_node_turn(&node);
		assert_int_equal(node.n_updates, 0); /* it waits for the answer */
		dns_server_turn(&names);
	}
	turn_until(&names, 1);
	assert_true(node.was_full);
	assert_string_equal(node.addresses, "198.19.0.10 198.19.0.20");
	(void)snprintf(version, sizeof(version), "%s", node.version);
	zone.a[0] = "198.19.0.21";
	turn_until(&names, 2);
	assert_false(node.was_full);
	assert_int_equal(node.n_resources, 1);
	assert_string_equal(node.addresses, "198.19.0.21");
	assert_string_equal(node.version, version);
	assert_int_equal(get(15000, "/dns", &body, &n), 200);
	assert_non_null(strstr(body, "{\"name\": \"two.test\", \"state\": \"ok\", \"ttl_s\": 1, "));
	assert_non_null(strstr(body, "\"addresses\": [\"198.19.0.21\"], \"last_good\": 1, \"error\": \"\"}]"));
	free(body);
	zone.say = SAY_NO_NAME;
	turn_until(&names, 3);
	assert_int_equal(node.n_resources, 1);
	assert_string_equal(node.addresses, "");
	assert_int_equal(get(15000, "/dns?text", &body, &n), 200);
	assert_non_null(strstr(body, "no_name   ttl 1"));
	free(body);
	assert_int_equal(get(15090, "/metrics", &body, &n), 200);
	if (!expo_check(&expo, body, n))
		fail_msg("%s: %s", expo.fault, expo.line);
	assert_non_null(strstr(body, "foil_agent_dns_names_without_address 1\n"));
	assert_non_null(strstr(body, "foil_agent_dns_answers_total{outcome=\"no_name\"} 1\n"));
	assert_non_null(strstr(body, "foil_agent_dns_patches_total 3\n"));
	free(body);
	assert_non_null(strstr(log_text(), "dns.failed two.test: no_name: "));
	json_decref(wait_for("applied", NULL));
	dns_server_close(&names);
	(void)state;
}

static void test_a_name_that_nobody_answers_for_does_not_hold_the_rest(void **state)
{
	struct dns_zone zone = {"two.test", SAY_NOTHING};
	struct dns_server names;
	char servers[32];
	dns_server_open(&names, &zone, 1);
	(void)snprintf(servers, sizeof(servers), "127.0.0.1:%u", names.port);
	write_file("second.yaml", names_yaml);
	fake_node_open(&node, socket_path);
	start_agent_with((char[]){"--dns-servers"}, servers);
	turn_until(&names, 1);
	assert_string_equal(node.addresses, "198.19.0.10");
	dns_server_close(&names);
	(void)state;
}

static void ask_for(struct dns_server *names, const char *name, size_t n_answers)
{
	node.ask = name;
	for (uint64_t end = now_ms() + WAIT_MS; node.n_answers < n_answers && now_ms() < end; (void)usleep(1000)) {
		fake_node_turn(&node);
		dns_server_turn(names);
	}
	assert_int_equal(node.n_answers, n_answers);
	assert_string_equal(node.answer.name, name);
}

static void test_hosts_that_requests_name_are_asked_for(void **state)
{
	static const uint8_t twenty[16] = {[10] = 0xff, [11] = 0xff, [12] = 198, [13] = 19, [15] = 20};
	struct dns_zone zone[] = {{"two.test", SAY_ADDRESSES, .ttl = 7, .a = {"127.0.0.1", "198.19.0.20"}},
				  {"none.test", SAY_NO_NAME}, {"bad.test", SAY_FAILURE}};
	struct dns_server names;
	char servers[32];
	dns_server_open(&names, zone, 3);
	(void)snprintf(servers, sizeof(servers), "127.0.0.1:%u", names.port);
	fake_node_open(&node, socket_path);
	start_agent_with((char[]){"--dns-servers"}, servers);
	turn_until(&names, 1);
	ask_for(&names, "two.test", 1);
	assert_int_equal(node.answer.outcome, FOIL__CONF__NAME_OUTCOME__NAME_FOUND);
	assert_int_equal(node.answer.n_addresses, 1);
	assert_memory_equal(node.answer.ip[0], twenty, 16);
	assert_int_equal(node.answer.ttl_s, 7);
	ask_for(&names, "none.test", 2);
	assert_int_equal(node.answer.outcome, FOIL__CONF__NAME_OUTCOME__NAME_NONE);
	ask_for(&names, "bad.test", 3);
	assert_int_equal(node.answer.outcome, FOIL__CONF__NAME_OUTCOME__NAME_FAILED);
	dns_server_close(&names);
	(void)state;
}

static void test_second_agent_on_the_same_ports_says_who_has_them(void **state)
{
	char *const argv[] = {(char *)(uintptr_t)program, (char[]){"--config"}, config, (char[]){"--socket"}, socket_path,
			      (char[]){"--address"}, address, NULL};
	char other_log[80];
	int status;
	start_agent();
	json_decref(wait_for("pending", NULL));
	(void)snprintf(other_log, sizeof(other_log), "%s/other", folder);
	pid_t pid = spawn(argv, other_log);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 1);
	char text[1024] = "";
	int fd = open(other_log, O_RDONLY | O_CLOEXEC);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	(void)close(fd);
	(void)unlink(other_log);
	assert_non_null(strstr(text, "150"));
	int interrupted = end_agent(SIGINT);
	assert_true(WIFEXITED(interrupted) && WEXITSTATUS(interrupted) == 0);
	(void)state;
}

int main(int argc, char **argv)
{
#define AGENT_TEST(f) cmocka_unit_test_setup_teardown(f, one_begins, one_ends)
	const struct CMUnitTest tests[] = {
		AGENT_TEST(test_wrong_command_lines_are_refused_with_a_sentence),
		AGENT_TEST(test_without_a_data_plane_it_says_so_and_still_has_metrics),
		AGENT_TEST(test_full_state_then_deltas_and_each_reading_has_its_version),
		AGENT_TEST(test_one_bad_resource_is_named_and_the_rest_applied),
		AGENT_TEST(test_half_written_file_keeps_its_last_good_contents),
		AGENT_TEST(test_reading_with_nothing_to_run_is_rejected_and_not_sent),
		AGENT_TEST(test_what_the_data_plane_refuses_is_rejected_with_its_reason),
		AGENT_TEST(test_new_data_plane_gets_the_full_state_again),
		AGENT_TEST(test_folder_that_vanishes_changes_nothing_that_runs),
		AGENT_TEST(test_killed_agent_leaves_nothing_that_stops_the_next),
		AGENT_TEST(test_metrics_of_the_data_plane_come_through_its_segment),
		AGENT_TEST(test_names_are_resolved_first_and_followed_by_patches),
		AGENT_TEST(test_a_name_that_nobody_answers_for_does_not_hold_the_rest),
		AGENT_TEST(test_hosts_that_requests_name_are_asked_for),
		AGENT_TEST(test_second_agent_on_the_same_ports_says_who_has_them),
	};
	if (argc != 2) {
		fputs("usage: test_agent FOIL_AGENT\n", stderr);
		return 2;
	}
	program = argv[1];
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
