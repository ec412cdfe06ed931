/* programs/node_file.c: docs/node-file.md's schema, each refusal with its line and field. */
#include "tests/unit/support.h"

#include <errno.h>

#include "programs/node_file.h"

static const char *source_root;

#define GOOD_TAIL "agent_socket: /run/x/agent.sock\nstate_dir: /var/lib/x\n"
#define GOOD_PORTS "ports: [{uri: 'ring:', addresses: [198.18.0.1/24]}]\n"

static int parse(const char *text, struct node_conf *c, struct foil_error *err)
{
	*err = (struct foil_error){0};
	return node_file_parse("node.yaml", text, strlen(text), c, err);
}

static void test_example_of_the_lab_reads_as_written(void **state)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct foil_error err = {0};
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/conf/examples/lab-node.yaml", source_root);
	if (node_file_read(path, c, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(c->n_ports, 2);
	assert_string_equal(c->ports[0].uri, "af_packet:iface=foil-m0");
	assert_int_equal(c->ports[0].addresses[0].len, 96 + 24);
	assert_int_equal(c->ports[0].addresses[1].len, 64);
	assert_int_equal(c->routes[0].port, 0);
	assert_int_equal(c->n_gateways, 2);
	assert_string_equal(c->gateways[0].label_values[0], "ingressgateway");
	assert_int_equal(c->n_workers, 1);
	assert_string_equal(c->stats_socket, "/run/foil-lab/agent.sock.stats");
	assert_string_equal(c->inspect_socket, "/run/foil-lab/agent.sock.inspect");
	free(c);
	(void)state;
}

static void test_example_of_sriov_reads(void **state)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct foil_error err = {0};
	char path[512];
	(void)snprintf(path, sizeof(path), "%s/conf/examples/sriov-node.yaml", source_root);
	if (node_file_read(path, c, &err) != 0)
		fail_msg("%s", err.text);
	assert_int_equal(c->n_workers, 4);
	assert_int_equal(c->cores[3], 8);
	assert_int_equal(c->ports[0].vlan, 110);
	assert_int_equal(c->hugepages, NODE_HUGEPAGES_ON);
	assert_int_equal(c->idle, NODE_IDLE_POLL);
	free(c);
	(void)state;
}

static void test_each_refusal_names_line_field_and_reason(void **state)
{
	static const struct {
		const char *text, *field, *says;
		unsigned int line;
	} cases[] = {
		{"", "", "empty", 1},
		{"prots: []\n", "", "unknown key \"prots\"", 1},
		{GOOD_PORTS "idle: sometimes\n" GOOD_TAIL, "idle", "not one of", 2},
		{GOOD_PORTS "idle: poll\nidle: poll\n" GOOD_TAIL, "", "given twice", 3},
		{"ports: [{uri: 'ring:', addresses: [198.18.0.1]}]\n" GOOD_TAIL, "ports[0].addresses[0]", "prefix length", 1},
		{"ports: [{uri: 'ring:', addresses: [198.18.0.1/24], vlna: 3}]\n" GOOD_TAIL, "ports[0]", "unknown key \"vlna\"", 1},
		{"ports: [{uri: 'ring:', addresses: [198.18.0.1/24], vlan: 4095}]\n" GOOD_TAIL, "ports[0].vlan", "not a number", 1},
		{"ports: [{addresses: [198.18.0.1/24]}]\n" GOOD_TAIL, "ports[0]", "has no uri", 1},
		{"ports: [{uri: 'ring:'}]\n" GOOD_TAIL, "", "ports[0]: has no addresses", 1},
		{GOOD_PORTS "routes: [{to: 10.0.0.0/8, via: 10.9.9.9}]\n" GOOD_TAIL, "", "in no port's prefix", 1},
		{GOOD_PORTS "routes: [{to: 10.0.0.0/8, via: 198.18.0.2, port: 1}]\n" GOOD_TAIL, "", "not reached from port 1", 1},
		{"ports: [{uri: 'ring:', addresses: ['fd00:f011::1/64']}, {uri: 'ring:', addresses: ['fd00:f011:1::1/64']}]\n"
		 "routes: [{to: '::/0', via: 'fe80::1'}]\n" GOOD_TAIL,
		 "", "say which", 1},
		{GOOD_PORTS "routes: [{to: 10.0.0.1/8, via: 198.18.0.2}]\n" GOOD_TAIL, "routes[0]", "beyond its prefix length", 2},
		{GOOD_PORTS "gateways: [{labels: {a: b}, addresses: [1.2.3.4]}]\n" GOOD_TAIL, "", "neither a port's address", 1},
		{GOOD_PORTS "captured: [203.0.113.0]\n" GOOD_TAIL, "captured[0]", "prefix length", 2},
		{GOOD_PORTS "names: {max: 15}\n" GOOD_TAIL, "names.max", "15", 2},
		{GOOD_PORTS "names: {refused: [10.0.0.1]}\n" GOOD_TAIL, "names.refused[0]", "prefix length", 2},
		{GOOD_PORTS "locality: r1/z1/a/b\n" GOOD_TAIL, "locality", "expected region", 2},
		{GOOD_PORTS "locality: r1//a\n" GOOD_TAIL, "locality", "expected region", 2},
		{GOOD_PORTS "locality: r1/*\n" GOOD_TAIL, "locality", "expected region", 2},
		{GOOD_PORTS "labels: [a]\n" GOOD_TAIL, "labels", "expected a mapping", 2},
		{GOOD_PORTS "workers: {count: 2, cores: [1]}\n" GOOD_TAIL, "", "must agree", 1},
		{GOOD_PORTS "memory: {megabytes: 1e3}\n" GOOD_TAIL, "memory.megabytes", "not a number", 2},
		{GOOD_PORTS "agent_socket: run/agent.sock\nstate_dir: /x\n", "agent_socket", "relative path", 2},
		{GOOD_PORTS "state_dir: /x\n", "", "agent_socket and state_dir are required", 1},
		{GOOD_PORTS "tcp: {congestion: vegas}\n" GOOD_TAIL, "tcp.congestion", "not one of", 2},
		{GOOD_PORTS "tcp: {congestion: [bbr]}\n" GOOD_TAIL, "tcp.congestion", "one plain value", 2},
		{GOOD_PORTS "tcp: {ecn: 1}\n" GOOD_TAIL, "tcp.ecn", "not true or false", 2},
		{GOOD_PORTS "crypto_workers: 65\n" GOOD_TAIL, "crypto_workers", "not a number", 2},
		{GOOD_PORTS "overload: {shrink: 49}\n" GOOD_TAIL, "overload.shrink", "neither a percentage from 50 to 100 nor \"never\"", 2},
		{GOOD_PORTS "overload: {shrink: 1000}\n" GOOD_TAIL, "overload.shrink", "neither a percentage", 2},
		{GOOD_PORTS "overload: {stop_accepting_requests: 99x}\n" GOOD_TAIL, "overload.stop_accepting_requests", "\"99x\"", 2},
		{GOOD_PORTS "overload: {busy: [1]}\n" GOOD_TAIL, "overload.busy", "", 2},
		{GOOD_PORTS "tls: {handshakes: 0}\n" GOOD_TAIL, "tls.handshakes", "not a number", 2},
		{GOOD_PORTS "tls: {handshakes: 100, handshakes_per_network: 101}\n" GOOD_TAIL, "", "is more than tls.handshakes 100", 1},
		{GOOD_PORTS "tls: {engine: qat}\n" GOOD_TAIL, "tls.engine", "not one of", 2},
		{GOOD_PORTS "tls: {shakes: 1}\n" GOOD_TAIL, "tls", "unknown key \"shakes\"", 2},
		{GOOD_PORTS "tcp: bbr\n" GOOD_TAIL, "tcp", "expected a mapping", 2},
		{GOOD_PORTS "exception_path: yes\n" GOOD_TAIL, "exception_path", "not true or false", 2},
		{"ports: &p [{uri: 'ring:', addresses: [198.18.0.1/24]}]\nservices: *p\n" GOOD_TAIL, "", "anchors and aliases", 1},
		{GOOD_PORTS GOOD_TAIL "---\nidle: poll\n", "", "second document", 4},
		{"a: [[[[[[[[[[[]]]]]]]]]]]\n", "", "nested deeper", 1},
		{"ports: [\n", "", "not YAML", 2},
	};
	struct node_conf *c = calloc(1, sizeof(*c));
	for (size_t i = 0; i < FOIL_COUNT_OF(cases); i++) {
		struct foil_error err;
		assert_int_equal(parse(cases[i].text, c, &err), -EINVAL);
		if (!strstr(err.text, cases[i].says) || strcmp(err.field, cases[i].field) != 0 || err.line != cases[i].line)
			fail_msg("case %zu: line %u field \"%s\": %s", i, err.line, err.field, err.text);
	}
	free(c);
	(void)state;
}

static void test_locality_and_labels_of_the_node(void **state)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct foil_error err;
	assert_int_equal(parse(GOOD_PORTS "locality: r1/z1/a\nlabels: {rack: '7', tier: gold}\n" GOOD_TAIL, c, &err), 0);
	assert_string_equal(c->locality, "r1/z1/a");
	assert_int_equal(c->n_labels, 2);
	assert_string_equal(c->label_keys[1], "tier");
	assert_string_equal(c->label_values[1], "gold");
	assert_int_equal(parse(GOOD_PORTS GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->idle, NODE_IDLE_AUTO);
	assert_string_equal(c->locality, "");
	assert_int_equal(c->n_labels, 0);
	free(c);
	(void)state;
}

static void test_hosts_that_requests_name_are_limited(void **state)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct foil_error err;
	assert_int_equal(parse(GOOD_PORTS GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->names_max, 1024);
	assert_int_equal(c->n_names_refused, 5); /* links' own, and clouds' */
	assert_int_equal(c->names_refused[0].len, 112);
	assert_int_equal(c->names_refused[0].addr.b[12], 169);
	assert_int_equal(parse(GOOD_PORTS "names: {max: 4096, refused: [10.0.0.0/8, 169.254.0.0/16, 'fd00::/8']}\n" GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->names_max, 4096);
	assert_int_equal(c->n_names_refused, 3);
	assert_int_equal(c->names_refused[0].addr.b[12], 10);
	assert_int_equal(parse(GOOD_PORTS "names: {refused: []}\n" GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->n_names_refused, 0);
	free(c);
	(void)state;
}

static void test_congestion_control_is_chosen_for_the_node(void **state)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct foil_error err;
	assert_int_equal(parse(GOOD_PORTS "tcp: {congestion: bbr, ecn: true}\n" GOOD_TAIL, c, &err), 0);
	assert_string_equal(c->tcp_congestion, "bbr");
	assert_true(c->tcp_ecn);
	assert_int_equal(parse(GOOD_PORTS GOOD_TAIL, c, &err), 0);
	assert_string_equal(c->tcp_congestion, "cubic");
	assert_false(c->tcp_ecn);
	free(c);
	(void)state;
}

static void test_limits_of_handshakes_and_who_does_them(void **state)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct foil_error err;
	assert_int_equal(parse(GOOD_PORTS "crypto_workers: 2\ntls: {handshakes: 10, handshakes_per_network: 7}\n" GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->n_crypto_workers, 2);
	assert_int_equal(c->tls_handshakes_max, 10);
	assert_int_equal(c->tls_handshakes_network_max, 7);
	assert_int_equal(parse(GOOD_PORTS "tls: {handshakes: 10}\n" GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->tls_handshakes_network_max, 3);
	assert_false(c->tls_openssl);
	assert_int_equal(parse(GOOD_PORTS "tls: {engine: openssl}\n" GOOD_TAIL, c, &err), 0);
	assert_true(c->tls_openssl);
	assert_int_equal(parse(GOOD_PORTS GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->n_crypto_workers, 0);
	assert_int_equal(c->tls_handshakes_max, 8192);
	assert_int_equal(c->tls_handshakes_network_max, 2048);
	free(c);
	(void)state;
}

static void test_thresholds_of_overload(void **state)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct foil_error err;
	assert_int_equal(parse(GOOD_PORTS "overload: {shrink: 80, disable_keepalive: never, stop_accepting_requests: 100, busy: stop_accepting_connections}\n"
			       GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->overload.at_percent[0], 80);
	assert_int_equal(c->overload.at_percent[1], 0);
	assert_int_equal(c->overload.at_percent[2], 98);
	assert_int_equal(c->overload.at_percent[3], 100);
	assert_true(c->overload.cycles_stop_connections);
	assert_int_equal(parse(GOOD_PORTS GOOD_TAIL, c, &err), 0);
	assert_int_equal(c->overload.at_percent[0], 95);
	assert_int_equal(c->overload.at_percent[1], 95);
	assert_int_equal(c->overload.at_percent[3], 98);
	assert_false(c->overload.cycles_stop_connections);
	free(c);
	(void)state;
}

static void test_missing_file_and_folder_are_told_apart(void **state)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	struct foil_error err = {0};
	assert_int_equal(node_file_read("/nonexistent/node.yaml", c, &err), -ENOENT);
	assert_non_null(strstr(err.text, "No such file"));
	assert_int_equal(node_file_read("/", c, &err), -EIO);
	free(c);
	(void)state;
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_example_of_the_lab_reads_as_written),
		cmocka_unit_test(test_example_of_sriov_reads),
		cmocka_unit_test(test_each_refusal_names_line_field_and_reason),
		cmocka_unit_test(test_locality_and_labels_of_the_node),
		cmocka_unit_test(test_hosts_that_requests_name_are_limited),
		cmocka_unit_test(test_congestion_control_is_chosen_for_the_node),
		cmocka_unit_test(test_limits_of_handshakes_and_who_does_them),
		cmocka_unit_test(test_thresholds_of_overload),
		cmocka_unit_test(test_missing_file_and_folder_are_told_apart),
	};
	source_root = argc > 1 ? argv[1] : ".";
	return cmocka_run_group_tests_name("node file", tests, NULL, NULL);
}
