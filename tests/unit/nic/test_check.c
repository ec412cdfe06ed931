/* nic/check.c against machines made of text files. */
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nic/check.h"
#include "tests/unit/support.h"

struct heard {
	unsigned int n_lines, n_warn, n_without_remedy, n_of_topic;
	const char *topic;
	enum nic_check_level level;
};

static void hear(void *arg, const struct nic_check_line *line)
{
	struct heard *h = arg;

	h->n_lines++;
	h->n_warn += line->level == NIC_CHECK_WARN;
	h->n_without_remedy += line->level == NIC_CHECK_WARN && !line->remedy[0];
	assert_true(strlen(line->text) > 0);
	if (h->topic && strcmp(line->topic, h->topic) == 0) {
		h->n_of_topic++;
		h->level = line->level;
	}
}

static char root[] = "/tmp/foil-check-XXXXXX";

static void put(const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s%s", root, path);
	for (char *at = full + strlen(root) + 1; (at = strchr(at, '/')); at++) {
		*at = 0;
		(void)mkdir(full, 0700);
		*at = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static void test_a_machine_with_nothing_gets_advice_on_everything(void **state)
{
	struct heard h = {0};

	assert_non_null(mkdtemp(root));
	unsigned int n_warn = nic_check(root, hear, &h);
	assert_int_equal(n_warn, h.n_warn);
	assert_true(h.n_warn > 0);
	assert_int_equal(h.n_without_remedy, 0);
}

static void test_hugepages_that_are_there_are_seen(void **state)
{
	struct heard before = {.topic = "hugepages"}, after = {.topic = "hugepages"};

	(void)nic_check(root, hear, &before);
	put("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "1024\n");
	put("/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "1024\n");
	put("/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "1024\n");
	put("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "1024\n");
	(void)nic_check(root, hear, &after);
	assert_true(before.n_of_topic > 0 && after.n_of_topic > 0);
	assert_int_equal(before.level, NIC_CHECK_WARN);
	assert_int_equal(after.level, NIC_CHECK_OK);
}

static void test_this_machine_can_be_looked_at(void **state)
{
	struct heard h = {0};

	(void)nic_check("", hear, &h);
	assert_true(h.n_lines > 3);
	assert_int_equal(h.n_without_remedy, 0);
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	return remove(path);
}

static int clean(void **state)
{
	return nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_machine_with_nothing_gets_advice_on_everything),
		cmocka_unit_test(test_hugepages_that_are_there_are_seen),
		cmocka_unit_test(test_this_machine_can_be_looked_at),
	};

	return cmocka_run_group_tests(tests, NULL, clean);
}
