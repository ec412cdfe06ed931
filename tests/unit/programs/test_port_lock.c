/* One hydrofoil a kernel interface, and the second one says which process has it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "programs/port_lock.h"

static struct node_conf *conf_of(const char *uri0, const char *uri1)
{
	struct node_conf *c = calloc(1, sizeof(*c));
	assert_non_null(c);
	(void)snprintf(c->ports[0].uri, sizeof(c->ports[0].uri), "%s", uri0);
	(void)snprintf(c->ports[1].uri, sizeof(c->ports[1].uri), "%s", uri1);
	c->n_ports = 2;
	return c;
}

static void test_second_one_is_refused_and_told_who_has_it(void **state)
{
	struct node_conf *a = conf_of("af_packet:iface=t-lock0", "ring:x"), *b = conf_of("ring:y", "af_xdp:start_queue=1,iface=t-lock0");
	struct port_locks first, second;
	struct foil_error err = {0};
	char pid[32];
	(void)snprintf(pid, sizeof(pid), "process %d", (int)getpid());
	assert_int_equal(port_locks_take(&first, a, &err), 0);
	assert_int_equal(first.n, 1);
	assert_int_equal(port_locks_take(&second, b, &err), -EADDRINUSE);
	assert_non_null(strstr(err.text, "t-lock0"));
	assert_non_null(strstr(err.text, pid));
	port_locks_drop(&first);
	assert_int_equal(port_locks_take(&second, b, &err), 0);
	port_locks_drop(&second);
	free(a);
	free(b);
}

static void test_what_was_taken_before_a_refusal_is_given_back(void **state)
{
	struct node_conf *a = conf_of("af_packet:iface=t-lock1", "ring:x"), *b = conf_of("af_packet:iface=t-lock2", "af_packet:iface=t-lock1");
	struct node_conf *c = conf_of("af_packet:iface=t-lock2,qpairs=1", "ring:x");
	struct port_locks first, second, third;
	struct foil_error err = {0};
	assert_int_equal(port_locks_take(&first, a, &err), 0);
	assert_int_equal(port_locks_take(&second, b, &err), -EADDRINUSE);
	assert_int_equal(port_locks_take(&third, c, &err), 0);
	port_locks_drop(&first);
	port_locks_drop(&third);
	free(a);
	free(b);
	free(c);
}

static void test_ports_that_no_kernel_interface_has_need_no_lock(void **state)
{
	struct node_conf *a = conf_of("pci=0000:3b:02.0", "memif:socket=/run/m,id=0");
	struct port_locks one, two;
	struct foil_error err = {0};
	assert_int_equal(port_locks_take(&one, a, &err), 0);
	assert_int_equal(port_locks_take(&two, a, &err), 0);
	assert_int_equal(one.n + two.n, 0);
	free(a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_second_one_is_refused_and_told_who_has_it),
		cmocka_unit_test(test_what_was_taken_before_a_refusal_is_given_back),
		cmocka_unit_test(test_ports_that_no_kernel_interface_has_need_no_lock),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
