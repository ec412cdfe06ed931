/* The agent's resolver against a name server of the test's: rules of Envoy's DNS clusters, and answers that no honest server gives. */
#include "tests/unit/support.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctrl/dns/dns.h"
#include "ctrl/dns/dns_priv.h"
#include "tests/unit/dns/server.h"

#define WAIT_MS 5000

static struct dns_server server;
static struct dns_resolver *r;
static uint64_t clock_ms; /* the resolver's; c-ares has the machine's */
static enum dns_outcome told;
static uint32_t n_told;

static void changed(void *arg, const struct dns_name *n, enum dns_outcome before)
{
	assert_ptr_equal(arg, &server);
	assert_int_not_equal(n->last, before);
	told = n->last;
	n_told++;
}

static struct {
	char name[256], addresses[512];
	enum dns_outcome outcome;
	uint32_t n, ttl_s;
} heard; /* of names that are asked for once: the last, and how many */

static void once(void *arg, const char *name, enum dns_outcome outcome, const struct dns_address *addresses, uint32_t n_addresses, uint32_t ttl_s)
{
	assert_ptr_equal(arg, &server);
	heard.n++;
	heard.outcome = outcome;
	heard.ttl_s = ttl_s;
	heard.addresses[0] = 0;
	(void)snprintf(heard.name, sizeof(heard.name), "%s", name);
	for (uint32_t i = 0; i < n_addresses; i++) {
		size_t at = strlen(heard.addresses);
		(void)snprintf(heard.addresses + at, sizeof(heard.addresses) - at, "%s%s", i ? " " : "", addresses[i].text);
	}
}

static void begin(struct dns_zone *zones, uint32_t n_zones)
{
	char servers[32];
	const char *why = NULL;

	dns_server_open(&server, zones, n_zones);
	(void)snprintf(servers, sizeof(servers), "127.0.0.1:%u", server.port);
	const struct dns_params p = {.servers = servers, .timeout_ms = 60, .n_tries = 2, .arg = &server, .changed = changed, .once = once};
	r = dns_resolver_new(&p, &why);
	assert_non_null(r);
	memset(&heard, 0, sizeof(heard));
	clock_ms = 1000000;
	n_told = 0;
}

static void end(void)
{
	dns_resolver_free(r);
	dns_server_close(&server);
}

static void want(const char *name, enum dns_family family)
{
	assert_int_equal(dns_resolver_want(r, &name, name != NULL, family, 60000, clock_ms), 0);
}

static void turn(void)
{
	const struct timespec pause = {.tv_nsec = 500000};

	dns_resolver_turn(r, clock_ms);
	dns_server_turn(&server);
	(void)nanosleep(&pause, NULL); /* both are polled: this only keeps the machine cool */
}

/* Until the name is not being asked. */
static const struct dns_name *settle(const char *name)
{
	const struct dns_name *n = NULL;

	for (int i = 0; i < WAIT_MS * 2; i++) {
		turn();
		n = dns_resolver_find(r, name);
		assert_non_null(n);
		if (n->next_ms > clock_ms)
			return n;
	}
	fail_msg("%s is asked for ever", name);
	return n;
}

/* The next answer after so many seconds. */
static const struct dns_name *after(const char *name, uint64_t s)
{
	clock_ms += s * 1000;
	return settle(name);
}

static uint64_t pause_after(const char *name, uint64_t s)
{
	const struct dns_name *n = after(name, s);

	return n->next_ms - clock_ms;
}

static void assert_addresses(const struct dns_name *n, const char *expected)
{
	char text[1024] = "";

	for (uint32_t i = 0; i < n->n_addresses; i++) {
		size_t at = strlen(text);
		(void)snprintf(text + at, sizeof(text) - at, "%s%s", i ? " " : "", n->addresses[i].text);
	}
	assert_string_equal(text, expected);
}

static bool take(const char *name)
{
	const char *names[4];
	size_t n = dns_resolver_take_changed(r, names, 4);

	for (size_t i = 0; i < n; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* ---- rules ---- */

static void test_both_families_are_asked_and_ipv4_comes_first(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_ADDRESSES, .ttl = 30, .a = {"198.19.0.11", "198.19.0.10"}, .aaaa = {"fd00::1"}}};

	begin(z, 1);
	want("one.test", DNS_FAMILY_ALL);
	assert_int_equal(dns_resolver_n_unanswered(r), 1);
	const struct dns_name *n = settle("one.test");
	assert_addresses(n, "198.19.0.11 198.19.0.10 fd00::1");
	assert_int_equal(n->ttl_s, 30);
	assert_int_equal(n->last, DNS_OK);
	assert_int_equal(dns_resolver_n_unanswered(r), 0);
	assert_true(take("one.test"));
	assert_false(take("one.test"));
	want("one.test", DNS_FAMILY_V6);
	assert_addresses(settle("one.test"), "fd00::1");
	want("one.test", DNS_FAMILY_V4);
	assert_addresses(settle("one.test"), "198.19.0.11 198.19.0.10");
	end();
}

static void test_the_ttl_says_when_a_name_is_asked_again(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_ADDRESSES, .ttl = 7, .a = {"198.19.0.10"}}};

	begin(z, 1);
	want("one.test", DNS_FAMILY_V4);
	assert_int_equal(settle("one.test")->next_ms, clock_ms + 7000);
	assert_int_equal(z[0].n_asked, 1);
	z[0].a[0] = "198.19.0.12";
	assert_addresses(after("one.test", 6), "198.19.0.10");
	assert_int_equal(z[0].n_asked, 1);
	assert_addresses(after("one.test", 1), "198.19.0.12");
	assert_int_equal(z[0].n_asked, 2);
	z[0].ttl = 0; /* the refresh rate, and up to a tenth */
	assert_in_range(pause_after("one.test", 7), 60000, 66000);
	z[0].ttl = 0x7fffffff;
	assert_int_equal(pause_after("one.test", 67), DNS_TTL_MAX_S * 1000ull);
	end();
}

static void test_no_answer_keeps_the_addresses_and_no_name_takes_them_away(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_ADDRESSES, .ttl = 1, .a = {"198.19.0.10"}}};
	static const struct {
		enum dns_say say;
		enum dns_outcome outcome;
		bool stays;
	} cases[] = {{SAY_FAILURE, DNS_FAILED, true}, {SAY_REFUSED, DNS_FAILED, true}, {SAY_NOTHING, DNS_TIMEOUT, true}, {SAY_NO_NAME, DNS_NO_NAME, false},
		     {SAY_CUT, DNS_EMPTY, false}};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		z[0].say = SAY_ADDRESSES;
		begin(z, 1);
		want("one.test", DNS_FAMILY_V4);
		assert_addresses(settle("one.test"), "198.19.0.10");
		assert_true(take("one.test"));
		z[0].say = cases[i].say;
		const struct dns_name *n = after("one.test", 1);
		assert_int_equal(n->last, cases[i].outcome);
		assert_int_equal(told, cases[i].outcome);
		assert_int_equal(n->n_failures, 1);
		assert_true(n->error[0] != 0);
		assert_addresses(n, cases[i].stays ? "198.19.0.10" : "");
		assert_int_equal(n->n_last_good, 1); /* for DNS_ROUND_ROBIN */
		assert_string_equal(n->addresses[0].text, "198.19.0.10");
		assert_int_equal(take("one.test"), !cases[i].stays);
		assert_in_range(n->next_ms - clock_ms, 60000, 66000);
		z[0].say = SAY_ADDRESSES;
		n = after("one.test", 66);
		assert_addresses(n, "198.19.0.10");
		assert_int_equal(n->n_failures, 0);
		assert_string_equal(n->error, "");
		end();
	}
}

static void test_a_name_that_never_had_an_address_is_asked_again_soon(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_NOTHING, .ttl = 1, .a = {"198.19.0.10"}}};

	begin(z, 1);
	want("one.test", DNS_FAMILY_V4);
	assert_int_equal(settle("one.test")->next_ms, clock_ms + 1000);
	assert_int_equal(pause_after("one.test", 1), 2000);
	assert_int_equal(pause_after("one.test", 2), 4000);
	z[0].say = SAY_FAILURE;
	assert_int_equal(pause_after("one.test", 4), 8000);
	z[0].say = SAY_ADDRESSES;
	assert_addresses(after("one.test", 8), "198.19.0.10");
	end();
}

static void test_the_least_ttl_of_aliases_and_addresses_counts(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_CNAME, .ttl = 300, .cname_ttl = 5, .a = {"198.19.0.10"}}};

	begin(z, 1);
	want("one.test", DNS_FAMILY_V4);
	const struct dns_name *n = settle("one.test");
	assert_addresses(n, "198.19.0.10");
	assert_int_equal(n->ttl_s, 5);
	end();
}

static void test_names_that_stay_keep_what_is_known(void **state)
{
	struct dns_zone z[] = {{"a.test", SAY_ADDRESSES, .ttl = 30, .a = {"198.19.0.10"}}, {"b.test", SAY_NOTHING}};
	const char *both[] = {"b.test", "a.test", "b.test"}, *wrong[] = {"*.a.test", "", "a..test", "with space.test", "a.test"};

	begin(z, 2);
	assert_int_equal(dns_resolver_want(r, both, 3, DNS_FAMILY_V4, 60000, clock_ms), 0);
	assert_int_equal(dns_resolver_n(r), 2);
	(void)settle("a.test");
	want("a.test", DNS_FAMILY_V4); /* b.test is being asked */
	assert_null(dns_resolver_find(r, "b.test"));
	assert_addresses(settle("a.test"), "198.19.0.10");
	assert_int_equal(z[0].n_asked, 1);
	for (int i = 0; i < 300; i++) /* the answer of b.test, a timeout, finds nobody */
		turn();
	assert_int_equal(dns_resolver_n_unanswered(r), 0);
	assert_int_equal(dns_resolver_want(r, wrong, 5, DNS_FAMILY_V4, 60000, clock_ms), 0);
	assert_int_equal(dns_resolver_n(r), 1);
	want(NULL, DNS_FAMILY_V4);
	assert_int_equal(dns_resolver_n(r), 0);
	end();
}

static void test_many_names_are_asked_a_few_at_a_time(void **state)
{
	enum { N = 500 };
	static struct dns_zone z[N];
	static char text[N][16];
	const char *names[N];

	for (int i = 0; i < N; i++) {
		(void)snprintf(text[i], sizeof(text[i]), "n%d.test", i);
		names[i] = text[i];
		z[i] = (struct dns_zone){text[i], SAY_ADDRESSES, .ttl = 60, .a = {"198.19.0.10"}};
	}
	begin(z, N);
	assert_int_equal(dns_resolver_want(r, names, N, DNS_FAMILY_V4, 60000, clock_ms), 0);
	dns_resolver_turn(r, clock_ms);
	assert_int_equal(dns_resolver_counters(r).n_questions, DNS_IN_FLIGHT_MAX);
	for (int i = 0; i < WAIT_MS && dns_resolver_n_unanswered(r); i++)
		turn();
	assert_int_equal(dns_resolver_n_unanswered(r), 0);
	assert_int_equal(dns_resolver_counters(r).n_answers[DNS_OK], N);
	end();
}

static void test_the_hosts_file_comes_first(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_ADDRESSES, .ttl = 30, .a = {"198.19.0.10"}}};
	char path[] = "/tmp/foil-test-hosts-XXXXXX";
	static const char text[] = "198.19.0.77 one.test other.test\n";
	int fd = mkstemp(path);

	assert_int_equal(write(fd, text, sizeof(text) - 1), (ssize_t)sizeof(text) - 1);
	(void)close(fd);
	(void)setenv("CARES_HOSTS", path, 1);
	begin(z, 1);
	want("one.test", DNS_FAMILY_V4);
	const struct dns_name *n = settle("one.test");
	(void)unsetenv("CARES_HOSTS");
	(void)unlink(path);
	assert_addresses(n, "198.19.0.77");
	assert_int_equal(z[0].n_asked, 0);
	end();
}

static void test_a_dead_server_that_returns_is_asked_again(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_ADDRESSES, .ttl = 1, .a = {"198.19.0.10"}}};

	begin(z, 1);
	want("one.test", DNS_FAMILY_V4);
	assert_addresses(settle("one.test"), "198.19.0.10");
	server.is_dead = true;
	assert_addresses(after("one.test", 1), "198.19.0.10");
	assert_int_equal(dns_resolver_find(r, "one.test")->last, DNS_TIMEOUT);
	server.is_dead = false;
	z[0].a[0] = "198.19.0.11";
	assert_addresses(after("one.test", 66), "198.19.0.11");
	end();
}

static void write_conf(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC);

	assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
	(void)close(fd);
}

static void test_a_changed_resolv_conf_begins_anew_and_loses_no_question(void **state)
{
	char path[] = "/tmp/foil-test-resolv-XXXXXX";
	const char *why, *name = "one.test";
	int fd = mkstemp(path);

	(void)close(fd);
	write_conf(path, "nameserver 127.0.0.254\n");
	const struct dns_params p = {.resolv_conf = path, .timeout_ms = 30000, .n_tries = 1};
	struct dns_resolver *own = dns_resolver_new(&p, &why);
	assert_non_null(own);
	assert_int_equal(dns_resolver_want(own, &name, 1, DNS_FAMILY_V4, 60000, 10000), 0);
	dns_resolver_turn(own, 10000);
	assert_int_equal(dns_resolver_counters(own).n_questions, 1);
	write_conf(path, "nameserver 127.0.0.253\noptions rotate\n");
	dns_resolver_turn(own, 13000);
	assert_int_equal(dns_resolver_counters(own).n_restarts, 1);
	assert_int_equal(dns_resolver_counters(own).n_questions, 2);
	dns_resolver_turn(own, 16000);
	assert_int_equal(dns_resolver_counters(own).n_restarts, 1);
	(void)unlink(path);
	dns_resolver_free(own);
}

static void test_servers_that_are_no_addresses_are_refused(void **state)
{
	const char *why = NULL;
	const struct dns_params p = {.servers = "not an address"};

	assert_null(dns_resolver_new(&p, &why));
	assert_non_null(why);
}

/* ---- answers that no honest server gives ---- */

static void test_hostile_answers_give_nothing_and_break_nothing(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_ADDRESSES, .ttl = 1, .a = {"198.19.0.10"}}};

	begin(z, 1);
	want("one.test", DNS_FAMILY_V4);
	for (enum dns_say say = SAY_NO_BYTES; say < SAY_CUT; say++) {
		if (say == SAY_CNAME)
			continue;
		z[0].say = say;
		(void)after("one.test", 70);
		const struct dns_name *n = settle("one.test");
		assert_int_not_equal(n->last, DNS_NOT_ASKED);
		if (n->last == DNS_OK) /* a record of another type counts for nothing, an address for itself */
			fail_msg("%u: %u addresses", say, n->n_addresses);
		z[0].say = SAY_ADDRESSES;
		assert_addresses(after("one.test", 70), "198.19.0.10");
	}
	end();
}

static void test_an_answer_with_thousands_of_addresses_is_bounded(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_CUT, .ttl = 30, .n_many = 3000}};

	begin(z, 1);
	want("one.test", DNS_FAMILY_V4);
	const struct dns_name *n = settle("one.test");
	assert_int_equal(n->n_addresses, DNS_ADDRESSES_MAX);
	assert_string_equal(n->addresses[0].text, "198.18.1.0");
	assert_int_equal(dns_resolver_counters(r).n_left_out, 3000 - DNS_ADDRESSES_MAX);
	end();
}

static void test_addresses_that_no_endpoint_has_are_left_out(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_ADDRESSES, .ttl = 30, .a = {"127.0.0.1", "224.0.0.1", "0.0.0.0", "198.19.0.10"},
				.aaaa = {"::1", "ff02::1", "fe80::1", "::ffff:127.0.0.1"}},
			       {"none.test", SAY_ADDRESSES, .ttl = 30, .a = {"127.0.0.1"}}};

	begin(z, 2);
	want("one.test", DNS_FAMILY_ALL);
	assert_addresses(settle("one.test"), "198.19.0.10");
	assert_int_equal(dns_resolver_counters(r).n_unusable, 7);
	want("none.test", DNS_FAMILY_V4);
	const struct dns_name *n = settle("none.test");
	assert_int_equal(n->last, DNS_EMPTY);
	assert_non_null(strstr(n->error, "none can be an endpoint's"));
	end();
}

static void test_an_address_that_stands_twice_counts_once(void **state)
{
	struct dns_answer a;
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0xc6130001)};
	struct ares_addrinfo_node second = {.ai_family = AF_INET, .ai_ttl = -5, .ai_addr = (struct sockaddr *)&at};
	struct ares_addrinfo_node first = {.ai_family = AF_INET, .ai_ttl = 9, .ai_addr = (struct sockaddr *)&at, .ai_next = &second};
	const struct ares_addrinfo info = {.nodes = &first};

	dns_answer_read(ARES_SUCCESS, &info, &a);
	assert_int_equal(a.n_addresses, 1);
	assert_int_equal(a.ttl_s, 0); /* RFC 2181 8 */
	dns_answer_read(ARES_SUCCESS, NULL, &a);
	assert_int_equal(a.outcome, DNS_EMPTY);
	dns_answer_read(ARES_EBADRESP, NULL, &a);
	assert_int_equal(a.outcome, DNS_FAILED);
	assert_string_equal(dns_outcome_word(DNS_FAILED), "failed");
}

/* ---- names that are asked for once ---- */

static void hear(uint32_t n)
{
	for (int i = 0; i < WAIT_MS * 2 && heard.n < n; i++)
		turn();
	assert_int_equal(heard.n, n);
}

static void test_a_name_is_asked_for_once_and_forgotten(void **state)
{
	struct dns_zone z[] = {{"one.test", SAY_ADDRESSES, .ttl = 9, .a = {"198.19.0.11", "127.0.0.1"}, .aaaa = {"fd00::1"}},
			       {"none.test", SAY_NO_NAME}, {"bad.test", SAY_FAILURE}};

	begin(z, 3);
	want(NULL, DNS_FAMILY_V4);
	dns_resolver_ask_once(r, "one.test", clock_ms);
	dns_resolver_ask_once(r, "one.test", clock_ms); /* one question, one answer */
	hear(1);
	assert_string_equal(heard.name, "one.test");
	assert_string_equal(heard.addresses, "198.19.0.11");
	assert_int_equal(heard.ttl_s, 9);
	assert_int_equal(z[0].n_asked, 1);
	assert_int_equal(dns_resolver_n(r), 0);
	clock_ms += 100000;
	turn();
	assert_int_equal(z[0].n_asked, 1);
	dns_resolver_ask_once(r, "none.test", clock_ms);
	hear(2);
	assert_int_equal(heard.outcome, DNS_NO_NAME);
	dns_resolver_ask_once(r, "bad.test", clock_ms);
	hear(3);
	assert_int_equal(heard.outcome, DNS_FAILED);
	assert_string_equal(heard.addresses, "");
	dns_resolver_ask_once(r, "one.test", clock_ms); /* again, and then the end comes first */
	assert_int_equal(dns_resolver_counters(r).n_once, 4);
	end();
	assert_int_equal(heard.n, 3);
}

static void test_names_asked_for_once_are_bounded_and_hold_nobody_up(void **state)
{
	struct dns_zone z[] = {{"kept.test", SAY_ADDRESSES, .ttl = 30, .a = {"198.19.0.10"}}};
	char name[32];

	begin(z, 1);
	for (unsigned int i = 0; i < DNS_ONCE_WAITING_MAX + 10; i++) {
		(void)snprintf(name, sizeof(name), "n%u.silent.test", i);
		dns_resolver_ask_once(r, name, clock_ms);
	}
	dns_resolver_ask_once(r, "*", clock_ms);
	assert_int_equal(dns_resolver_counters(r).n_once, DNS_ONCE_WAITING_MAX);
	assert_int_equal(dns_resolver_counters(r).n_once_lost, 11);
	assert_int_equal(dns_resolver_counters(r).n_questions, DNS_ONCE_IN_FLIGHT_MAX);
	want("kept.test", DNS_FAMILY_V4);
	assert_addresses(settle("kept.test"), "198.19.0.10");
	end();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_name_is_asked_for_once_and_forgotten),
		cmocka_unit_test(test_names_asked_for_once_are_bounded_and_hold_nobody_up),
		cmocka_unit_test(test_both_families_are_asked_and_ipv4_comes_first),
		cmocka_unit_test(test_the_ttl_says_when_a_name_is_asked_again),
		cmocka_unit_test(test_no_answer_keeps_the_addresses_and_no_name_takes_them_away),
		cmocka_unit_test(test_a_name_that_never_had_an_address_is_asked_again_soon),
		cmocka_unit_test(test_the_least_ttl_of_aliases_and_addresses_counts),
		cmocka_unit_test(test_names_that_stay_keep_what_is_known),
		cmocka_unit_test(test_many_names_are_asked_a_few_at_a_time),
		cmocka_unit_test(test_the_hosts_file_comes_first),
		cmocka_unit_test(test_a_dead_server_that_returns_is_asked_again),
		cmocka_unit_test(test_a_changed_resolv_conf_begins_anew_and_loses_no_question),
		cmocka_unit_test(test_servers_that_are_no_addresses_are_refused),
		cmocka_unit_test(test_hostile_answers_give_nothing_and_break_nothing),
		cmocka_unit_test(test_an_answer_with_thousands_of_addresses_is_bounded),
		cmocka_unit_test(test_addresses_that_no_endpoint_has_are_left_out),
		cmocka_unit_test(test_an_address_that_stands_twice_counts_once),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
