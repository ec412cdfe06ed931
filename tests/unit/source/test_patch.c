/* Patches of endpoints (istio_patch by src_dir_changes): after each of many random edits of a directory the patched snapshot holds, byte for byte, the
 * resources that a fresh reading of the same directory compiles to; and what is more than endpoints is left to a whole reading. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ctrl/source/dir_priv.h"
#include "ctrl/source/source.h"

#define N_FILES 3
#define N_SLICES 4 /* a file */
#define N_SERVICES 5
#define N_EDITS 300
#define CHANGES_MAX 8

/* What a file of slices says; written as YAML. */
struct slice {
	bool is_there;
	unsigned int service, n_endpoints, first, not_ready; /* not_ready: that endpoint, or none */
};

struct fixture {
	char path[64];
	struct src_dir *dir;
	struct istio_diags diags;
	struct istio_model *model;
	struct istio_snapshot *snapshot;
	struct slice slices[N_FILES][N_SLICES];
	unsigned int prng;
	uint64_t n_written;
};

static unsigned int draw(struct fixture *f, unsigned int n)
{
	f->prng = f->prng * 1103515245u + 12345u;
	return (f->prng >> 16) % n;
}

static FILE *open_file(struct fixture *f, const char *name)
{
	char path[200];

	(void)snprintf(path, sizeof(path), "%s/%s", f->path, name);
	FILE *out = fopen(path, "w");
	assert_non_null(out);
	f->n_written++;
	fprintf(out, "# %llu\n", (unsigned long long)f->n_written);
	return out;
}

static void write_text(struct fixture *f, const char *name, const char *text)
{
	FILE *out = open_file(f, name);

	fputs(text, out);
	assert_int_equal(fclose(out), 0);
}

static void write_slices(struct fixture *f, unsigned int file)
{
	char name[32];

	(void)snprintf(name, sizeof(name), "slices-%u.yaml", file);
	FILE *out = open_file(f, name);
	for (unsigned int i = 0; i < N_SLICES; i++) {
		const struct slice *s = &f->slices[file][i];
		if (!s->is_there)
			continue;
		fprintf(out, "---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-%u-%u, namespace: app, labels: "
			     "{kubernetes.io/service-name: s%u}}\naddressType: IPv4\nports: [{name: http, port: 8080}]\nendpoints:%s\n",
			file, i, s->service, s->n_endpoints ? "" : " []");
		for (unsigned int j = 0; j < s->n_endpoints; j++)
			fprintf(out, "- {addresses: [198.19.%u.%u], conditions: {ready: %s}, zone: z%u}\n", i, s->first + j,
				j == s->not_ready ? "false" : "true", j % 2);
	}
	assert_int_equal(fclose(out), 0);
}

static void write_mesh(struct fixture *f)
{
	FILE *out = open_file(f, "mesh.yaml");

	fputs("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g, namespace: app}\n"
	      "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n", out);
	for (unsigned int i = 0; i < N_SERVICES; i++)
		fprintf(out, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%u, namespace: app}\n"
			     "spec: {clusterIP: 198.18.10.%u, ports: [{name: http, port: 80}, {name: http, port: 81}]}\n"
			     "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v%u, namespace: app}\n"
			     "spec: {hosts: [h%u.test], gateways: [g], http: [{route: [{destination: {host: s%u, port: {number: 80}}}]}]}\n",
			i, i + 1, i, i, i);
	fputs("---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: s0, namespace: app}\n"
	      "spec: {host: s0, trafficPolicy: {loadBalancer: {localityLbSetting: {enabled: true}}, outlierDetection: {consecutive5xxErrors: 3}}}\n", out);
	assert_int_equal(fclose(out), 0);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char err[200];

	f->prng = 7;
	(void)snprintf(f->path, sizeof(f->path), "/tmp/foil-patch-XXXXXX");
	assert_non_null(mkdtemp(f->path));
	istio_diags_init(&f->diags);
	write_mesh(f);
	for (unsigned int i = 0; i < N_FILES; i++) {
		for (unsigned int j = 0; j < N_SLICES; j++)
			f->slices[i][j] = (struct slice){true, (i * N_SLICES + j) % N_SERVICES, 3, 1 + i * 20, 99};
		write_slices(f, i);
	}
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

	istio_snapshot_free(f->snapshot);
	istio_model_free(f->model);
	src_dir_close(f->dir);
	istio_diags_fini(&f->diags);
	assert_int_equal(src_walk(f->path, remove_one, NULL, NULL), 0);
	assert_int_equal(rmdir(f->path), 0);
	free(f);
	return 0;
}

static void read_whole(struct fixture *f)
{
	istio_model_free(f->model);
	istio_snapshot_free(f->snapshot);
	istio_diags_fini(&f->diags);
	istio_diags_init(&f->diags);
	f->model = src_dir_read(f->dir, &f->diags, NULL);
	assert_non_null(f->model);
	assert_int_equal(istio_compile(f->model, &istio_any_node, "whole", &f->snapshot, &f->diags), 0);
}

/* True: a patch did. */
static bool follow(struct fixture *f, size_t *n_changed)
{
	struct istio_file_change changes[CHANGES_MAX];
	const struct istio_resource *changed;
	size_t n = CHANGES_MAX;

	*n_changed = 0;
	if (src_dir_changes(f->dir, changes, &n) && n &&
	    istio_patch(f->snapshot, &istio_any_node, "patched", changes, n, &f->diags, &changed, n_changed) == 0) {
		src_dir_changes_taken(f->dir);
		assert_string_equal(f->snapshot->version, "patched");
		for (size_t i = 0; i < *n_changed; i++)
			assert_memory_equal(changed[i].name, "outbound|", 9);
		return true;
	}
	read_whole(f);
	return false;
}

static void check_same_as_fresh(const struct fixture *f)
{
	char err[200];
	struct src_dir *dir = src_dir_open(f->path, err, sizeof(err));
	struct istio_diags diags;
	struct istio_snapshot *fresh;

	istio_diags_init(&diags);
	struct istio_model *model = src_dir_read(dir, &diags, NULL);
	assert_int_equal(istio_compile(model, &istio_any_node, "fresh", &fresh, &diags), 0);
	assert_int_equal(f->snapshot->n_resources, fresh->n_resources);
	assert_int_equal(f->snapshot->n_bytes, fresh->n_bytes);
	for (size_t i = 0; i < fresh->n_resources; i++) {
		const struct istio_resource *a = &f->snapshot->resources[i], *b = &fresh->resources[i];
		assert_int_equal(a->type, b->type);
		assert_string_equal(a->name, b->name);
		assert_int_equal(a->n_bytes, b->n_bytes);
		assert_memory_equal(a->bytes, b->bytes, a->n_bytes);
	}
	istio_snapshot_free(fresh);
	istio_model_free(model);
	istio_diags_fini(&diags);
	src_dir_close(dir);
}

static void edit(struct fixture *f)
{
	unsigned int file = draw(f, N_FILES);
	struct slice *s = &f->slices[file][draw(f, N_SLICES)];

	switch (draw(f, 8)) {
	case 0:
		s->is_there = !s->is_there;
		break;
	case 1:
		s->service = draw(f, N_SERVICES);
		break;
	case 2:
		s->first = 1 + draw(f, 100);
		break;
	case 3:
		s->not_ready = draw(f, 4);
		break;
	case 4: /* two files at once */
		f->slices[(file + 1) % N_FILES][0].n_endpoints = draw(f, 4);
		write_slices(f, (file + 1) % N_FILES);
		s->n_endpoints = draw(f, 6);
		break;
	default:
		s->n_endpoints = draw(f, 6);
	}
	write_slices(f, file);
}

static void test_patches_come_to_what_a_fresh_reading_comes_to(void **state)
{
	struct fixture *f = *state;
	unsigned int n_patched = 0, n_with_change = 0;
	size_t n_changed;

	read_whole(f);
	for (int i = 0; i < N_EDITS; i++) {
		edit(f);
		n_patched += follow(f, &n_changed);
		n_with_change += n_changed > 0;
		check_same_as_fresh(f);
	}
	assert_true(n_patched > N_EDITS / 2);
	assert_true(n_with_change > N_EDITS / 4);
}

static void test_what_is_more_than_endpoints_is_read_whole(void **state)
{
	struct fixture *f = *state;
	size_t n_changed;

	read_whole(f);
	write_mesh(f); /* a file with other kinds, even with the same contents */
	assert_false(follow(f, &n_changed));
	write_text(f, "slices-9.yaml", ""); /* a file more */
	assert_false(follow(f, &n_changed));
	write_text(f, "slices-9.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: x, namespace: app}\nspec: {ports: [{name: http, port: 80}]}\n");
	assert_false(follow(f, &n_changed));
	check_same_as_fresh(f);
	write_text(f, "slices-0.yaml", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: lost, namespace: app}\nendpoints: []\n");
	assert_false(follow(f, &n_changed)); /* of no Service: a diagnostic */
	check_same_as_fresh(f);
	write_slices(f, 0);
	(void)follow(f, &n_changed);
	check_same_as_fresh(f);
}

/* A file that is broken keeps its contents, and neither its breaking nor its mending is a patch; a slice that is refused keeps its last good version. */
static void test_broken_files_and_slices(void **state)
{
	struct fixture *f = *state;
	size_t n_changed;

	read_whole(f);
	write_text(f, "slices-1.yaml", "{ not: yaml");
	assert_false(follow(f, &n_changed));
	assert_true(f->diags.n_errors > 0);
	f->slices[0][0].n_endpoints = 1;
	write_slices(f, 0);
	assert_false(follow(f, &n_changed)); /* while another file is broken */
	write_slices(f, 1);
	assert_false(follow(f, &n_changed) && n_changed); /* the same contents as before */
	check_same_as_fresh(f);
	write_text(f, "slices-2.yaml", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-2-0, namespace: app, labels: "
				       "{kubernetes.io/service-name: s3}}\nendpoints: 7\n");
	assert_false(follow(f, &n_changed));
	write_slices(f, 2);
	assert_false(follow(f, &n_changed));
	check_same_as_fresh(f);
}

static void test_a_slice_that_stands_twice_is_no_patch(void **state)
{
	struct fixture *f = *state;
	size_t n_changed;

	read_whole(f);
	write_text(f, "slices-2.yaml", "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s-0-0, namespace: app, labels: "
				       "{kubernetes.io/service-name: s3}}\naddressType: IPv4\nendpoints: []\n");
	assert_false(follow(f, &n_changed));
	check_same_as_fresh(f);
	f->slices[0][0].n_endpoints = 2; /* the first of the two */
	write_slices(f, 0);
	(void)follow(f, &n_changed);
	check_same_as_fresh(f);
	f->slices[0][0].is_there = false; /* now the second one counts */
	write_slices(f, 0);
	(void)follow(f, &n_changed);
	check_same_as_fresh(f);
}

static void test_a_file_that_goes_is_no_patch(void **state)
{
	struct fixture *f = *state;
	char path[200];
	size_t n_changed;

	read_whole(f);
	(void)snprintf(path, sizeof(path), "%s/slices-2.yaml", f->path);
	assert_int_equal(unlink(path), 0);
	f->slices[0][0].n_endpoints = 2;
	write_slices(f, 0);
	assert_false(follow(f, &n_changed));
	check_same_as_fresh(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_patches_come_to_what_a_fresh_reading_comes_to, setup, teardown),
		cmocka_unit_test_setup_teardown(test_what_is_more_than_endpoints_is_read_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_broken_files_and_slices, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_slice_that_stands_twice_is_no_patch, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_file_that_goes_is_no_patch, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
