/* The last good snapshot on disk: what was applied comes back, and nothing else does. */
#include "tests/unit/config/fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dataplane/config/config_priv.h"
#include "dataplane/core/crc32c.h"

static void path_of(const struct t_conf *f, char out[128])
{
	(void)snprintf(out, 128, "%s/snapshot.bin", f->dir);
}

static void write_it(struct t_conf *f)
{
	struct foil_error err;
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_APPLIED);
	assert_int_equal(snap_turn(f->snap, 1000000, &err), 0);
}

static size_t read_file(const struct t_conf *f, uint8_t *out, size_t n_max)
{
	char path[128];
	path_of(f, path);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	ssize_t n = read(fd, out, n_max);
	(void)close(fd);
	assert_true(n > 0);
	return (size_t)n;
}

static void write_file(const struct t_conf *f, const uint8_t *data, size_t n)
{
	char path[128];
	path_of(f, path);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, data, n), n);
	(void)close(fd);
}

static void seal(uint8_t *data, size_t n) /* a right CRC over whatever is there */
{
	uint32_t crc = foil_crc32c(0, data, n - 4);
	for (int i = 0; i < 4; i++)
		data[n - 4 + (size_t)i] = (uint8_t)(crc >> (24 - 8 * i));
}

static void test_applied_snapshot_comes_back_after_a_restart(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	struct snap_status st;
	write_it(f);
	t_conf_restart(f);
	assert_int_equal(snap_load(f->snap, &err), 0);
	assert_true(foil_slice_eq(snap_version(f->snap), FOIL_SLICE("v1")));
	assert_int_equal(snap_config(f->snap)->n_listeners, 1);
	snap_status(f->snap, &st);
	assert_int_equal(st.n_resources, 5);
	assert_true(st.is_on_disk);
	t_put_all(f);
	assert_int_equal(t_apply(f, "v1", true), SNAP_UNCHANGED); /* the agent sends the same */
	t_conf_free(f);
}

static void test_file_is_for_its_owner_alone_and_nothing_is_left_beside_it(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct stat st;
	char path[128], fresh[140];
	write_it(f);
	path_of(f, path);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	(void)snprintf(fresh, sizeof(fresh), "%s.new", path);
	assert_int_equal(access(fresh, F_OK), -1);
	t_conf_free(f);
}

static void test_what_is_not_on_disk_yet_is_written_at_the_end(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	write_it(f);
	t_put_cluster(f, "late");
	assert_int_equal(t_apply(f, "v2", false), SNAP_APPLIED);
	assert_int_equal(snap_turn(f->snap, 1000001, &err), 0); /* too soon after the first */
	struct snap_status st;
	snap_status(f->snap, &st);
	assert_false(st.is_on_disk);
	t_conf_restart(f);
	assert_int_equal(snap_load(f->snap, &err), 0);
	assert_true(foil_slice_eq(snap_version(f->snap), FOIL_SLICE("v2")));
	t_conf_free(f);
}

static void test_rejected_update_does_not_reach_the_disk(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	write_it(f);
	t_put_raw(f, T_CLUSTER, "bad", "\xff", 1);
	assert_int_equal(t_apply(f, "v2", false), SNAP_REJECTED);
	t_conf_restart(f);
	assert_int_equal(snap_load(f->snap, &err), 0);
	assert_true(foil_slice_eq(snap_version(f->snap), FOIL_SLICE("v1")));
	t_conf_free(f);
}

static void test_no_file_is_no_error_but_nothing_runs(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	assert_int_equal(snap_load(f->snap, &err), -ENOENT);
	assert_null(snap_config(f->snap));
	t_conf_free(f);
	f = t_conf();
	assert_int_equal(snap_load(f->snap, &err), -ENOENT);
	t_conf_free(f);
}

static void test_file_cut_at_any_byte_is_refused(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	static uint8_t data[65536];
	write_it(f);
	size_t n = read_file(f, data, sizeof(data));
	for (size_t cut = 0; cut < n; cut++) {
		write_file(f, data, cut);
		t_conf_restart(f);
		assert_int_equal(snap_load(f->snap, &err), -EBADMSG);
		assert_non_null(strstr(err.text, "snapshot.bin is not used"));
		assert_null(snap_config(f->snap));
	}
	t_conf_free(f);
}

static void test_any_flipped_bit_is_refused(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	static uint8_t data[65536];
	write_it(f);
	size_t n = read_file(f, data, sizeof(data));
	for (size_t i = 0; i < n; i++) {
		data[i] ^= (uint8_t)(1u << i % 8);
		write_file(f, data, n);
		t_conf_restart(f);
		assert_int_equal(snap_load(f->snap, &err), -EBADMSG);
		data[i] ^= (uint8_t)(1u << i % 8);
	}
	t_conf_free(f);
}

static void test_lengths_that_lie_under_a_right_crc_are_refused(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_blob b = {0};
	struct foil_error err = {0};
	struct snap_update u;
	static uint8_t data[65536];
	write_it(f);
	size_t n = read_file(f, data, sizeof(data));
	for (size_t at = 12; at + 4 < n; at++) { /* everything but magic and format; most of it breaks the frame, none of it us */
		uint8_t save = data[at];
		for (unsigned int v = 0; v < 3; v++) {
			data[at] = (uint8_t[]){0x00, 0xff, 0x7f}[v];
			seal(data, n);
			(void)(snap_disk_parse(f->snap, foil_slice_of(data, n), &b, &u, &err) == 0);
		}
		data[at] = save;
	}
	data[27] = 200; /* n_resources */
	seal(data, n);
	assert_int_equal(snap_disk_parse(f->snap, foil_slice_of(data, n), &b, &u, &err), -EBADMSG);
	foil_blob_free(&b);
	t_conf_free(f);
}

static void test_file_of_another_abi_is_refused_with_both_numbers(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	static uint8_t data[65536];
	write_it(f);
	size_t n = read_file(f, data, sizeof(data));
	data[15] = 9;
	seal(data, n);
	write_file(f, data, n);
	t_conf_restart(f);
	assert_int_equal(snap_load(f->snap, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "ABI 9"));
	t_conf_free(f);
}

static void test_bad_resource_in_a_whole_file_is_named(void **state)
{
	struct t_conf *f = t_conf(.disk = true);
	struct foil_error err = {0};
	static uint8_t data[65536];
	write_it(f);
	size_t n = read_file(f, data, sizeof(data));
	uint8_t *at = memmem(data, n, "198.18.0.1", 10);
	assert_non_null(at);
	at[0] = 'x';
	seal(data, n);
	write_file(f, data, n);
	t_conf_restart(f);
	assert_int_equal(snap_load(f->snap, &err), -EBADMSG);
	assert_non_null(strstr(err.text, "listener l: address"));
	assert_null(snap_config(f->snap));
	t_conf_free(f);
}

static void test_folder_that_cannot_be_written_is_said_and_the_snapshot_runs(void **state)
{
	struct t_conf *f = t_conf();
	struct foil_error err = {0};
	struct snap *s;
	struct snap_params p = {.shared = f->mesh, .n_workers = 1, .state_dir = "/proc/nothing/here", .abi = T_ABI};
	assert_int_equal(snap_new(&p, &s, &err), 0);
	t_put_all(f);
	const struct snap_update u = {.version = FOIL_SLICE("v1"), .full = true, .resources = f->list, .n_resources = f->n};
	assert_int_equal(snap_apply(s, &u), SNAP_APPLIED);
	assert_true(snap_turn(s, 1000000, &err) < 0);
	assert_non_null(strstr(err.text, "/proc/nothing"));
	assert_non_null(snap_config(s));
	snap_free(s);
	t_conf_free(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_applied_snapshot_comes_back_after_a_restart),
		cmocka_unit_test(test_file_is_for_its_owner_alone_and_nothing_is_left_beside_it),
		cmocka_unit_test(test_what_is_not_on_disk_yet_is_written_at_the_end),
		cmocka_unit_test(test_rejected_update_does_not_reach_the_disk),
		cmocka_unit_test(test_no_file_is_no_error_but_nothing_runs),
		cmocka_unit_test(test_file_cut_at_any_byte_is_refused),
		cmocka_unit_test(test_any_flipped_bit_is_refused),
		cmocka_unit_test(test_lengths_that_lie_under_a_right_crc_are_refused),
		cmocka_unit_test(test_file_of_another_abi_is_refused_with_both_numbers),
		cmocka_unit_test(test_bad_resource_in_a_whole_file_is_named),
		cmocka_unit_test(test_folder_that_cannot_be_written_is_said_and_the_snapshot_runs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
