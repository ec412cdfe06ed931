/* bench_config [--routes N] [--endpoints N] [--changes N]: what a large mesh costs to load, and one endpoint's change in it. Writes the YAML of N (10,000)
 * routes in VirtualServices of 20 and N (100,000) endpoints in EndpointSlices of 100, a file each, reads and compiles it as foil-agent does, and applies
 * it as hydrofoil does. Then changes one endpoint in one file at a time: read, patch, apply. Ends with 1 when a bound is broken.
 *
 * Left out: the ring between the two (a copy of what changed) and the agent's wait until a directory has settled, which is no work. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ctrl/source/dir_priv.h"
#include "ctrl/source/source.h"
#include "dataplane/config/config.h"

#include "channel.pb-c.h"

#define ENDPOINTS_A_SERVICE 100u
#define ROUTES_A_SERVICE 20u
#define LOAD_S_MAX 5.0
#define CHANGE_MS_MAX 5.0
#define CHANGES_MAX 4

struct bench {
	unsigned int n_routes, n_endpoints, n_services, n_changes;
	char path[64];
	struct src_dir *dir;
	struct istio_diags diags;
	struct istio_model *model;
	struct istio_snapshot *snapshot;
	struct mesh_shared *mesh;
	struct snap *snap;
	bool failed;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double resident_mib(void)
{
	long pages = 0;
	FILE *f = fopen("/proc/self/statm", "r");

	if (f && fscanf(f, "%*d %ld", &pages) != 1)
		pages = 0;
	if (f)
		fclose(f);
	return (double)pages * (double)sysconf(_SC_PAGESIZE) / (1 << 20);
}

static void bound(struct bench *b, bool holds, const char *what)
{
	printf("%s %s\n", holds ? "ok    " : "BROKEN", what);
	b->failed |= !holds;
}

/* ---- the mesh ---- */

static FILE *open_file(struct bench *b, const char *name)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/%s", b->path, name); /* it fits */
	FILE *f = fopen(path, "w");
	if (!f) {
		perror(path);
		exit(2);
	}
	return f;
}

/* turn: another port for the first endpoint each time. */
static void write_slice(struct bench *b, unsigned int service, unsigned int turn)
{
	char name[64];

	(void)snprintf(name, sizeof(name), "slice-%u.yaml", service); /* it fits */
	FILE *f = open_file(b, name);
	fprintf(f, "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: s%u-1, namespace: app, labels: {kubernetes.io/service-name: s%u}}\n"
		   "addressType: IPv4\nports: [{name: http, port: 8080, protocol: TCP}]\nendpoints:\n", service, service);
	for (unsigned int i = 0; i < ENDPOINTS_A_SERVICE; i++) {
		unsigned int host = (service * ENDPOINTS_A_SERVICE + i + (i == 0 ? turn * 7 : 0)) % (250 * 250);
		fprintf(f, "- {addresses: [198.19.%u.%u], conditions: {ready: true}, nodeName: n%u, zone: z%u, "
			   "targetRef: {kind: Pod, name: s%u-%u, namespace: app}}\n",
			host / 250, host % 250 + 1, i % 100, i % 3, service, i);
	}
	fclose(f);
}

static void write_mesh(struct bench *b)
{
	FILE *f = open_file(b, "mesh.yaml");

	fputs("apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: main, namespace: app}\n"
	      "spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}\n", f);
	for (unsigned int i = 0; i < b->n_services; i++)
		fprintf(f, "---\napiVersion: v1\nkind: Service\nmetadata: {name: s%u, namespace: app}\n"
			   "spec: {clusterIP: 198.18.%u.%u, ports: [{name: http, port: 80, targetPort: 8080}]}\n", i, 10 + i / 250, i % 250 + 1);
	for (unsigned int i = 0; i < b->n_routes; i++) {
		if (i % ROUTES_A_SERVICE == 0)
			fprintf(f, "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: v%u, namespace: app}\n"
				   "spec:\n  hosts: [h%u.example.com]\n  gateways: [main]\n  http:\n", i / ROUTES_A_SERVICE, i / ROUTES_A_SERVICE);
		fprintf(f, "  - {match: [{uri: {prefix: /p%u/}}], route: [{destination: {host: s%u, port: {number: 80}}}]}\n", i % ROUTES_A_SERVICE,
			i % b->n_services);
	}
	fclose(f);
	for (unsigned int i = 0; i < b->n_services; i++)
		write_slice(b, i, 0);
}

/* ---- the data plane's side ---- */

static void apply(struct bench *b, const char *version, const struct istio_resource *list, size_t n, bool full)
{
	struct snap_resource *r = calloc(n + 1, sizeof(*r));
	size_t n_why, n_more;

	for (size_t i = 0; r && i < n; i++)
		r[i] = (struct snap_resource){.type = list[i].type, .name = foil_slice_str(list[i].name),
					      .body = foil_slice_of(list[i].bytes, list[i].n_bytes)};
	struct snap_update u = {.version = foil_slice_str(version), .full = full, .resources = r, .n_resources = n};
	if (!r || snap_apply(b->snap, &u) == SNAP_REJECTED) {
		const struct snap_rejection *why = snap_rejections(b->snap, &n_why, &n_more);
		fprintf(stderr, "bench_config: the data plane refused %s: %s %s\n", version, n_why ? why->name : "", n_why ? why->reason : "");
		exit(2);
	}
	free(r);
}

static void load(struct bench *b)
{
	char err[256];
	struct src_dir_stats stats;
	double mib = resident_mib(), start = now_s();

	b->dir = src_dir_open(b->path, err, sizeof(err));
	b->model = b->dir ? src_dir_read(b->dir, &b->diags, &stats) : NULL;
	if (!b->model) {
		fprintf(stderr, "bench_config: cannot read the mesh back\n");
		exit(2);
	}
	double read = now_s();
	if (istio_compile(b->model, &istio_any_node, "v1", &b->snapshot, &b->diags)) {
		fprintf(stderr, "bench_config: no memory to compile\n");
		exit(2);
	}
	double compiled = now_s(), agent_mib = resident_mib();
	apply(b, "v1", b->snapshot->resources, b->snapshot->n_resources, true);
	double applied = now_s(), plane_mib = resident_mib();
	printf("%zu files, %.1f MB of YAML, %zu resources; %zu resources, %.1f MB in the snapshot\n", stats.n_files, (double)stats.n_bytes / 1e6,
	       stats.n_resources, b->snapshot->n_resources, (double)b->snapshot->n_bytes / 1e6);
	printf("load: read %.2f s, compile %.2f s, apply %.2f s\n", read - start, compiled - read, applied - compiled);
	printf("memory: agent %.0f MiB, data plane %.0f MiB\n", agent_mib - mib, plane_mib - agent_mib);
	bound(b, applied - start < LOAD_S_MAX, "the mesh loads in under 5 s of one core");
}

/* ---- changes ---- */

static int by_value(const void *x, const void *y)
{
	double a = *(const double *)x, b = *(const double *)y;

	return a < b ? -1 : a > b;
}

static void change_once(struct bench *b, unsigned int turn, double *agent_ms, double *plane_ms)
{
	struct istio_file_change changes[CHANGES_MAX];
	const struct istio_resource *changed = NULL;
	size_t n = CHANGES_MAX, n_changed = 0;
	struct foil_error err;
	char version[32];

	(void)snprintf(version, sizeof(version), "c%u", turn); /* it fits */
	write_slice(b, turn * 37 % b->n_services, turn);
	double start = now_s();
	if (!src_dir_changes(b->dir, changes, &n) || istio_patch(b->snapshot, &istio_any_node, version, changes, n, &b->diags, &changed, &n_changed)) {
		fprintf(stderr, "bench_config: the change of an endpoint was no patch\n");
		exit(2);
	}
	src_dir_changes_taken(b->dir);
	double patched = now_s();
	apply(b, version, changed, n_changed, false);
	if (snap_turn(b->snap, 0, &err))
		exit(2); /* it has no state directory: nothing can fail */
	double applied = now_s();
	*agent_ms = (patched - start) * 1e3;
	*plane_ms = (applied - patched) * 1e3;
}

static void change(struct bench *b)
{
	double *both = calloc(b->n_changes, sizeof(*both)), agent_ms, plane_ms, agent_sum = 0, plane_sum = 0;

	for (unsigned int i = 0; both && i < b->n_changes; i++) {
		change_once(b, i + 1, &agent_ms, &plane_ms);
		both[i] = agent_ms + plane_ms;
		agent_sum += agent_ms;
		plane_sum += plane_ms;
	}
	if (!both)
		exit(2);
	qsort(both, b->n_changes, sizeof(*both), by_value);
	printf("an endpoint's change: %.2f ms in the middle, %.2f at most; agent %.2f, data plane %.2f on average\n", both[b->n_changes / 2],
	       both[b->n_changes - 1], agent_sum / b->n_changes, plane_sum / b->n_changes);
	bound(b, both[b->n_changes / 2] < CHANGE_MS_MAX, "an endpoint's change costs under 5 ms, agent and data plane");
	free(both);
}

static int remove_one(void *arg, const char *path, const struct stat *st)
{
	return unlink(path);
}

int main(int argc, char **argv)
{
	struct bench b = {.n_routes = 10000, .n_endpoints = 100000, .n_changes = 100};
	struct foil_error err;

	for (int i = 1; i + 1 < argc; i += 2) {
		unsigned int *to = !strcmp(argv[i], "--routes") ? &b.n_routes : !strcmp(argv[i], "--endpoints") ? &b.n_endpoints :
				   !strcmp(argv[i], "--changes") ? &b.n_changes : NULL;
		if (!to || (*to = (unsigned int)strtoul(argv[i + 1], NULL, 10)) == 0) {
			fprintf(stderr, "usage: bench_config [--routes N] [--endpoints N] [--changes N]\n");
			return 2;
		}
	}
	b.n_services = b.n_endpoints / ENDPOINTS_A_SERVICE;
	istio_diags_init(&b.diags);
	(void)snprintf(b.path, sizeof(b.path), "/tmp/foil-bench-config-XXXXXX"); /* it fits */
	b.mesh = mesh_shared_new(&(struct mesh_shared_params){.n_workers = 1});
	if (b.n_services == 0 || !mkdtemp(b.path) || !b.mesh ||
	    snap_new(&(struct snap_params){.shared = b.mesh, .n_workers = 1, .abi = 1, .seed = 7}, &b.snap, &err)) {
		fprintf(stderr, "bench_config: cannot begin: at least 100 endpoints, a writable /tmp and memory\n");
		return 2;
	}
	write_mesh(&b);
	load(&b);
	change(&b);
	(void)src_walk(b.path, remove_one, NULL, NULL);
	(void)rmdir(b.path);
	snap_free(b.snap);
	mesh_shared_free(b.mesh);
	istio_snapshot_free(b.snapshot);
	istio_model_free(b.model);
	src_dir_close(b.dir);
	istio_diags_fini(&b.diags);
	return b.failed;
}
