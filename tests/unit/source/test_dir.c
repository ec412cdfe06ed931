/* ctrl/source: a directory read, read again, watched; and what stays in use when a file cannot be read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctrl/source/dir_priv.h"
#include "ctrl/source/source.h"

#define SERVICE(name) "apiVersion: v1\nkind: Service\nmetadata: {name: " name ", namespace: x}\nspec: {ports: [{name: http, port: 80}]}\n"

struct fixture {
	char path[64];
	struct src_dir *dir;
	struct istio_diags diags;
	struct src_dir_stats stats;
	struct istio_model *model;
};

static void write_file(struct fixture *f, const char *name, const char *text)
{
	char path[200];
	FILE *out;

	(void)snprintf(path, sizeof(path), "%s/%s", f->path, name);
	out = fopen(path, "w");
	assert_non_null(out);
	fputs(text, out);
	assert_int_equal(fclose(out), 0);
}

static void remove_file(struct fixture *f, const char *name)
{
	char path[200];

	(void)snprintf(path, sizeof(path), "%s/%s", f->path, name);
	assert_int_equal(unlink(path), 0);
}

static void read_again(struct fixture *f)
{
	istio_model_free(f->model);
	istio_diags_fini(&f->diags);
	istio_diags_init(&f->diags);
	f->model = src_dir_read(f->dir, &f->diags, &f->stats);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char err[200];

	(void)snprintf(f->path, sizeof(f->path), "/tmp/foil-source-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	istio_diags_init(&f->diags);
	f->dir = src_dir_open(f->path, err, sizeof(err));
	assert_non_null(f->dir);
	*state = f;
	return 0;
}

static int remove_one(void *arg, const char *path, const struct stat *st)
{
	(void)arg;
	(void)st;
	return unlink(path);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char sub[100];

	(void)src_walk(f->path, remove_one, NULL, NULL); /* what the test left */
	(void)snprintf(sub, sizeof(sub), "%s/sub", f->path);
	(void)rmdir(sub);
	(void)rmdir(f->path);
	istio_model_free(f->model);
	src_dir_close(f->dir);
	istio_diags_fini(&f->diags);
	free(f);
	return 0;
}

static void test_a_directory_that_is_not_there(void **state)
{
	char err[200];

	assert_null(src_dir_open("/no/such/directory", err, sizeof(err)));
	assert_non_null(strstr(err, "/no/such/directory: No such file or directory; give a directory"));
	(void)state;
}

static void test_files_of_three_names_here_and_below(void **state)
{
	struct fixture *f = *state;
	char sub[100];

	(void)snprintf(sub, sizeof(sub), "%s/sub", f->path);
	assert_int_equal(mkdir(sub, 0700), 0);
	write_file(f, "a.yaml", SERVICE("a") "---\n" SERVICE("b"));
	write_file(f, "b.yml", SERVICE("c"));
	write_file(f, "c.json", "{\"apiVersion\": \"v1\", \"kind\": \"Service\", \"metadata\": {\"name\": \"d\"}, \"spec\": {\"ports\": [{\"port\": 80}]}}");
	write_file(f, "sub/d.yaml", SERVICE("e"));
	write_file(f, "e.txt", "not: ours");
	write_file(f, ".hidden.yaml", "not: ours");
	read_again(f);
	assert_non_null(f->model);
	assert_int_equal(f->diags.n, 0);
	assert_int_equal(f->stats.n_files, 4);
	assert_int_equal(f->stats.n_resources, 5);
}

static void test_an_empty_directory_is_an_empty_mesh(void **state)
{
	struct fixture *f = *state;

	read_again(f);
	assert_non_null(f->model);
	assert_int_equal(f->stats.n_files, 0);
}

static void test_a_half_written_file_keeps_its_last_good_contents(void **state)
{
	struct fixture *f = *state;

	write_file(f, "a.yaml", SERVICE("a"));
	write_file(f, "b.yaml", SERVICE("b"));
	read_again(f);
	assert_int_equal(f->stats.n_resources, 2);
	write_file(f, "b.yaml", "apiVersion: v1\nkind: {Serv");
	for (int i = 0; i < 2; i++) { /* told at every read, not only at the first */
		read_again(f);
		assert_int_equal(f->stats.n_resources, 2);
		assert_int_equal(f->stats.n_stale_files, 1);
		assert_int_equal(f->diags.n_errors, 1);
		assert_non_null(strstr(f->diags.list[0].file, "/b.yaml"));
		assert_int_equal(f->diags.list[0].at.line, 3); /* the end of the file, where the brace is missed */
		assert_non_null(strstr(f->diags.list[0].text, "its last good contents stay in use"));
	}
	write_file(f, "b.yaml", SERVICE("b") "---\n" SERVICE("c"));
	read_again(f);
	assert_int_equal(f->stats.n_resources, 3);
	assert_int_equal(f->diags.n, 0);
	remove_file(f, "b.yaml");
	read_again(f);
	assert_int_equal(f->stats.n_resources, 1);
}

static void test_a_file_that_never_was_readable_is_left_out_and_the_rest_goes_on(void **state)
{
	struct fixture *f = *state;

	write_file(f, "a.yaml", SERVICE("a"));
	write_file(f, "bad.yaml", "x: [");
	read_again(f);
	assert_int_equal(f->stats.n_resources, 1);
	assert_int_equal(f->stats.n_refused_files, 1);
	assert_null(strstr(f->diags.list[0].text, "last good"));
}

static void test_a_file_without_permission_or_behind_a_dangling_link(void **state)
{
	struct fixture *f = *state;
	char path[200];

	write_file(f, "a.yaml", SERVICE("a"));
	(void)snprintf(path, sizeof(path), "%s/link.yaml", f->path);
	assert_int_equal(symlink("/no/such/file", path), 0);
	read_again(f);
	assert_int_equal(f->stats.n_files, 1);
	assert_int_equal(unlink(path), 0);
	if (geteuid() != 0) { /* root reads all */
		(void)snprintf(path, sizeof(path), "%s/a.yaml", f->path);
		write_file(f, "a.yaml", SERVICE("a") "\n");
		assert_int_equal(chmod(path, 0), 0);
		read_again(f);
		assert_int_equal(f->stats.n_stale_files, 1);
	}
}

static void test_a_refused_resource_keeps_its_last_good_version_over_reads(void **state)
{
	struct fixture *f = *state;

	write_file(f, "a.yaml", SERVICE("a"));
	read_again(f);
	write_file(f, "a.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: a, namespace: x}\nspec: {ports: [{port: 99999}]}\n");
	for (int i = 0; i < 3; i++) {
		read_again(f);
		assert_int_equal(f->stats.n_last_good, 1);
		assert_int_equal(f->stats.n_refused, 1);
	}
}

static void test_the_directory_itself_may_go(void **state)
{
	struct fixture *f = *state;

	assert_int_equal(rmdir(f->path), 0);
	read_again(f);
	assert_null(f->model);
	assert_non_null(strstr(f->diags.list[0].text, "cannot read the directory"));
}

static void test_a_model_outlives_its_directory(void **state)
{
	struct fixture *f = *state;

	write_file(f, "a.yaml", SERVICE("a"));
	read_again(f);
	src_dir_close(f->dir);
	f->dir = NULL;
	struct istio_snapshot *s = NULL;
	assert_int_equal(istio_compile(f->model, &istio_any_node, "1", &s, &f->diags), 0);
	istio_snapshot_free(s);
}

/* ---- watching; the clock is the test's ---- */

static void wait_for_event(struct fixture *f)
{
	struct pollfd p = {.fd = src_dir_fd(f->dir), .events = POLLIN};

	assert_int_equal(poll(&p, 1, 5000), 1);
}

static void test_a_change_is_told_once_it_has_settled(void **state)
{
	struct fixture *f = *state;
	char sub[100];

	src_dir_watch(f->dir);
	assert_false(src_dir_is_polled(f->dir));
	assert_false(src_dir_turn(f->dir, 1000));
	write_file(f, "a.yaml", SERVICE("a"));
	wait_for_event(f);
	assert_false(src_dir_turn(f->dir, 2000));
	assert_false(src_dir_turn(f->dir, 2000 + SRC_SETTLE_MS - 1));
	write_file(f, "a.yaml", SERVICE("b"));
	wait_for_event(f);
	assert_false(src_dir_turn(f->dir, 2000 + SRC_SETTLE_MS)); /* it began again */
	assert_true(src_dir_turn(f->dir, 2000 + 2 * SRC_SETTLE_MS));
	assert_false(src_dir_turn(f->dir, 9000));
	(void)snprintf(sub, sizeof(sub), "%s/sub", f->path); /* a folder made later is watched too */
	assert_int_equal(mkdir(sub, 0700), 0);
	wait_for_event(f);
	assert_false(src_dir_turn(f->dir, 10000));
	assert_true(src_dir_turn(f->dir, 10000 + SRC_SETTLE_MS));
	write_file(f, "sub/b.yaml", SERVICE("b"));
	wait_for_event(f);
	assert_false(src_dir_turn(f->dir, 11000));
	assert_true(src_dir_turn(f->dir, 11000 + SRC_SETTLE_MS));
}

static void test_what_never_settles_is_told_all_the_same(void **state)
{
	struct fixture *f = *state;
	uint64_t now = 1000;
	bool told = false;

	src_dir_watch(f->dir);
	for (; !told && now < 1000 + SRC_SETTLE_MS_MAX + 100; now += 50) {
		write_file(f, "a.yaml", SERVICE("a"));
		wait_for_event(f);
		told = src_dir_turn(f->dir, now);
	}
	assert_true(told);
	assert_true(now >= 1000 + SRC_SETTLE_MS_MAX);
}

static void test_without_inotify_the_directory_is_looked_at(void **state)
{
	struct fixture *f = *state;

	src_dir_watch(f->dir);
	src_watch_close(f->dir); /* as when the system has no more watches */
	assert_true(src_dir_is_polled(f->dir));
	assert_int_equal(src_dir_fd(f->dir), -1);
	assert_false(src_dir_turn(f->dir, 1000));
	write_file(f, "a.yaml", SERVICE("a"));
	assert_false(src_dir_turn(f->dir, 1000 + SRC_POLL_MS - 1));
	assert_false(src_dir_turn(f->dir, 1000 + SRC_POLL_MS));
	assert_true(src_dir_turn(f->dir, 1000 + SRC_POLL_MS + SRC_SETTLE_MS));
	remove_file(f, "a.yaml");
	assert_false(src_dir_turn(f->dir, 5000));
	assert_true(src_dir_turn(f->dir, 5000 + SRC_SETTLE_MS));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_directory_that_is_not_there),
		cmocka_unit_test_setup_teardown(test_files_of_three_names_here_and_below, setup, teardown),
		cmocka_unit_test_setup_teardown(test_an_empty_directory_is_an_empty_mesh, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_half_written_file_keeps_its_last_good_contents, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_that_never_was_readable_is_left_out_and_the_rest_goes_on, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_without_permission_or_behind_a_dangling_link, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_refused_resource_keeps_its_last_good_version_over_reads, setup, teardown),
		cmocka_unit_test_setup_teardown(test_the_directory_itself_may_go, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_model_outlives_its_directory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_change_is_told_once_it_has_settled, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_never_settles_is_told_all_the_same, setup, teardown),
		cmocka_unit_test_setup_teardown(test_without_inotify_the_directory_is_looked_at, setup, teardown),
	};
	return cmocka_run_group_tests_name("source.dir", tests, NULL, NULL);
}
