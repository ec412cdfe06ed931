/* EAL's start: which cores, how much memory of which kind, which buses. It builds the argument vector that DPDK wants, so that
 * nobody has to know it. Lcore 0 is the main thread, lcore i + 1 is worker i, each placed on the CPU that the node file says; several
 * may share one CPU.
 * Invariant: nothing was changed on the machine when it returns an error, but that EAL cannot be started again in this process. */
#include "nic/nic_priv.h"

#include <errno.h>
#include <glob.h>
#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#include <rte_eal.h>
#include <rte_errno.h>
#include <rte_lcore.h>

#define ARGS_MAX 64
#define ARG_BYTES 1536

struct args {
	int n;
	char *v[ARGS_MAX + 1];
	char text[ARGS_MAX][ARG_BYTES];
};

void nic_notice(nic_notice_fn fn, void *arg, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	if (!fn)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* a longer notice is cut */
	va_end(ap);
	fn(arg, text);
}

static int __attribute__((format(printf, 2, 3))) arg_add(struct args *a, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (a->n == ARGS_MAX)
		return -E2BIG;
	va_start(ap, fmt);
	n = vsnprintf(a->text[a->n], ARG_BYTES, fmt, ap);
	va_end(ap);
	if (n < 0 || n >= ARG_BYTES)
		return -E2BIG;
	a->v[a->n] = a->text[a->n];
	a->n++;
	return 0;
}

static int cpus_allowed(uint16_t *cpus, uint16_t n_max)
{
	cpu_set_t set;
	int n = 0;

	CPU_ZERO(&set);
	if (sched_getaffinity(0, sizeof(set), &set))
		return -errno;
	for (uint16_t i = 0; i < CPU_SETSIZE && n < n_max; i++)
		if (CPU_ISSET(i, &set))
			cpus[n++] = i;
	return n;
}

static bool cpu_in(const uint16_t *cpus, uint16_t n, uint16_t cpu)
{
	for (uint16_t i = 0; i < n; i++)
		if (cpus[i] == cpu)
			return true;
	return false;
}

/* out[0] main, out[1 + i] worker i. */
static int cpus_choose(const struct nic_eal_params *p, uint16_t n_workers, uint16_t *out, struct foil_error *err)
{
	uint16_t allowed[CPU_SETSIZE];
	int n = cpus_allowed(allowed, CPU_SETSIZE);

	if (n <= 0)
		return foil_error_set(err, -EINVAL, "cannot tell which CPUs this process may use");
	for (uint16_t i = 0; i < n_workers; i++) {
		out[1 + i] = p->worker_cpus ? p->worker_cpus[i] : allowed[((n - n_workers % n) + i) % n];
		if (!cpu_in(allowed, (uint16_t)n, out[1 + i]))
			return foil_error_set(err, -EINVAL, "worker %u cannot have CPU %u: the machine or this process's cpuset has no such CPU; "
					      "/proc/self/status says Cpus_allowed_list", i, out[1 + i]);
	}
	if (p->main_cpu >= 0) {
		out[0] = (uint16_t)p->main_cpu;
		if (!cpu_in(allowed, (uint16_t)n, out[0]))
			return foil_error_set(err, -EINVAL, "housekeeping cannot have CPU %d: the machine or this process's cpuset has no such CPU",
					      p->main_cpu);
	} else {
		out[0] = allowed[0];
		for (int i = 0; i < n; i++)
			if (!cpu_in(out + 1, n_workers, allowed[i])) {
				out[0] = allowed[i];
				break;
			}
	}
	if (n < n_workers)
		nic_notice(p->notice, p->notice_arg, "%u workers share %d CPUs: they will slow each other down", n_workers, n);
	return 0;
}

static int lcores_add(struct args *a, const uint16_t *cpus, uint16_t n_workers)
{
	char text[ARG_BYTES];
	int n = 0;

	for (uint16_t i = 0; i <= n_workers && n < (int)sizeof(text) - 16; i++)
		n += snprintf(text + n, sizeof(text) - (size_t)n, "%s%u@%u", i ? "," : "", i, cpus[i]);
	return arg_add(a, "--lcores=%s", text);
}

/* Free hugepages of all sizes, in MB. */
static uint64_t hugepages_free_mb(void)
{
	uint64_t kb = 0;
	glob_t g;

	if (glob("/sys/kernel/mm/hugepages/hugepages-*kB", 0, NULL, &g))
		return 0;
	for (size_t i = 0; i < g.gl_pathc; i++) {
		unsigned long long size_kb = 0, n = 0;
		const char *base = strstr(g.gl_pathv[i], "hugepages-");
		char path[256];
		FILE *f;

		if (!base || sscanf(base, "hugepages-%llukB", &size_kb) != 1)
			continue;
		snprintf(path, sizeof(path), "%s/free_hugepages", g.gl_pathv[i]);
		f = fopen(path, "re");
		if (!f)
			continue;
		if (fscanf(f, "%llu", &n) == 1)
			kb += n * size_kb;
		fclose(f);
	}
	globfree(&g);
	return kb / 1024;
}

/* A vhost-user peer maps our memory piece by piece and takes eight pieces at most; a memif that copies nothing shows its peer the one file that the
 * packet buffers are in: one file then, not one a page. */
static bool shows_memory(const struct nic_eal_params *p)
{
	for (uint16_t i = 0; i < p->n_uris; i++)
		if (strncmp(p->uris[i], "virtio-user:", 12) == 0 || nic_uri_is_zero_copy(p->uris[i]))
			return true;
	return false;
}

/* The driver (DPDK 22.11) closes the descriptor of our packet memory when it resets such a port, as if it were the port's own. */
static int zero_copy_check(const struct nic_eal_params *p, struct foil_error *err)
{
	unsigned int n = 0;

	for (uint16_t i = 0; i < p->n_uris; i++)
		n += nic_uri_is_zero_copy(p->uris[i]);
	return n < 2 ? 0 : foil_error_set(err, -EINVAL, "%u ports are memif with zero-copy=yes, and DPDK's driver can have one in a process; take it from "
					  "the others", n);
}

static int memory_add(struct args *a, const struct nic_eal_params *p, struct foil_error *err)
{
	uint32_t want_mb = p->memory_mb ? p->memory_mb : 512;
	uint64_t free_mb = p->hugepages == NIC_HUGEPAGES_NEVER ? 0 : hugepages_free_mb();
	int rc = arg_add(a, "-m") ? -E2BIG : arg_add(a, "%u", want_mb);

	if (free_mb >= want_mb && shows_memory(p))
		rc = rc ? rc : arg_add(a, "--single-file-segments");
	if (free_mb >= want_mb)
		return rc ? rc : arg_add(a, "--in-memory");
	if (p->hugepages == NIC_HUGEPAGES_REQUIRE)
		return foil_error_set(err, -ENOMEM, "%u MB of hugepages are wanted and %llu MB are free; reserve them with ./foil setup, or set "
				      "memory.hugepages to auto", want_mb, (unsigned long long)free_mb);
	if (p->hugepages == NIC_HUGEPAGES_AUTO)
		nic_notice(p->notice, p->notice_arg, "%u MB of hugepages are wanted and %llu MB are free: using ordinary pages, which is slower; "
			   "./foil setup reserves them", want_mb, (unsigned long long)free_mb);
	rc = rc ? rc : arg_add(a, "--no-shconf"); /* EAL 22.11 refuses --in-memory together with --no-huge */
	return rc ? rc : arg_add(a, "--no-huge");
}

static int buses_add(struct args *a, const struct nic_eal_params *p)
{
	bool any = false;

	for (uint16_t i = 0; i < p->n_uris; i++) {
		if (!nic_uri_is_pci(p->uris[i]))
			continue;
		any = true;
		if (arg_add(a, "-a") || arg_add(a, "%s", p->uris[i] + 4))
			return -E2BIG;
	}
	if (any)
		return 0;
	return arg_add(a, "--no-pci") ? -E2BIG : arg_add(a, "--iova-mode=va");
}

static int args_make(struct args *a, const struct nic_eal_params *p, struct foil_error *err)
{
	uint16_t cpus[1 + NIC_WORKERS_MAX], n_workers = p->n_workers ? p->n_workers : 1;
	int rc;

	if (n_workers > NIC_WORKERS_MAX)
		return foil_error_set(err, -EINVAL, "%u workers; at most %u are possible", n_workers, NIC_WORKERS_MAX);
	rc = cpus_choose(p, n_workers, cpus, err);
	if (rc)
		return rc;
	rc = zero_copy_check(p, err);
	if (rc)
		return rc;
	rc = arg_add(a, "%s", p->program ? p->program : "hydrofoil");
	rc = rc ? rc : lcores_add(a, cpus, n_workers);
	rc = rc ? rc : arg_add(a, "--main-lcore=0");
	rc = rc ? rc : arg_add(a, "--no-telemetry");
	rc = rc ? rc : arg_add(a, "--file-prefix=%s", p->file_prefix ? p->file_prefix : "hydrofoil");
	rc = rc ? rc : arg_add(a, "--log-level=%u", p->log_level ? p->log_level : 4);
	rc = rc ? rc : buses_add(a, p);
	if (rc)
		return foil_error_set(err, rc, "too many or too long arguments for EAL; are there more than %d PCI ports?", ARGS_MAX / 4);
	return memory_add(a, p, err);
}

int nic_eal_start(const struct nic_eal_params *p, struct foil_error *err)
{
	struct args *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return foil_error_set(err, -ENOMEM, "no memory for EAL's arguments");
	rc = args_make(a, p, err);
	if (rc == 0 && rte_eal_init(a->n, a->v) < 0)
		rc = foil_error_set(err, rte_errno ? -rte_errno : -EIO, "DPDK's environment did not start: %s; its log says more%s",
				    rte_strerror(rte_errno), geteuid() ? " (it usually needs root)" : "");
	if (rc == 0)
		(void)nic_clock_us(); /* sets its factor before any worker asks */
	free(a);
	return rc;
}

void nic_eal_stop(void)
{
	(void)rte_eal_cleanup(); /* the process ends; nothing more could be done about an error */
}

int nic_worker_socket(uint16_t worker)
{
	unsigned int socket = rte_lcore_to_socket_id(nic_worker_lcore(worker));

	return socket < RTE_MAX_NUMA_NODES ? (int)socket : 0;
}
