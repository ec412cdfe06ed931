/* What a machine lacks for a poll-mode data plane: hugepages, IOMMU and vfio, free cores, a steady clock rate, NICs with virtual
 * functions, packet sockets. Reads text files below root; a file that is not there means that the machine does not have the thing.
 * Invariant: every WARN line says what to do. */
#include "nic/check.h"

#include <glob.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

struct check {
	const char *root;
	nic_check_fn fn;
	void *arg;
	unsigned int n_warn;
};

static void __attribute__((format(printf, 5, 6))) say(struct check *c, const char *topic, const char *subject, const char *remedy,
						      const char *fmt, ...)
{
	struct nic_check_line line = {.level = remedy[0] ? NIC_CHECK_WARN : NIC_CHECK_OK, .topic = topic, .subject = subject, .remedy = remedy};
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap); /* a longer line is cut */
	va_end(ap);
	line.text = text;
	c->n_warn += line.level == NIC_CHECK_WARN;
	c->fn(c->arg, &line);
}

/* First line of a file below root, without its end; false if it cannot be read. */
static bool __attribute__((format(printf, 4, 5))) read_line(const struct check *c, char *out, size_t n_out, const char *fmt, ...)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof(path), "%s", c->root);
	va_list ap;
	FILE *f;

	if (n < 0 || (size_t)n >= sizeof(path))
		return false;
	va_start(ap, fmt);
	(void)vsnprintf(path + n, sizeof(path) - (size_t)n, fmt, ap); /* a cut path does not exist, which is answer enough */
	va_end(ap);
	f = fopen(path, "re");
	if (!f)
		return false;
	bool ok = fgets(out, (int)n_out, f) != NULL;
	fclose(f);
	if (ok)
		out[strcspn(out, "\n")] = 0;
	return ok;
}

static unsigned long long read_number(const struct check *c, const char *folder, const char *file)
{
	char text[64];

	return read_line(c, text, sizeof(text), "%s/%s", folder, file) ? strtoull(text, NULL, 0) : 0;
}

/* Folders that match below root; their paths without root. */
static size_t folders(const struct check *c, const char *pattern, glob_t *g)
{
	char path[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s%s", c->root, pattern) >= (int)sizeof(path))
		return 0;
	return glob(path, 0, NULL, g) == 0 ? g->gl_pathc : 0;
}

static const char *base(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* Name of what a symbolic link points to. */
static bool link_base(const char *folder, const char *file, char *out, size_t n_out)
{
	char path[PATH_MAX], target[PATH_MAX];

	if (snprintf(path, sizeof(path), "%s/%s", folder, file) >= (int)sizeof(path))
		return false;
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = 0;
	return snprintf(out, n_out, "%s", base(target)) < (int)n_out;
}

static void check_hugepages_in(struct check *c, const char *subject, const char *pattern)
{
	glob_t g = {0};
	size_t n = folders(c, pattern, &g);
	unsigned long long free_mb = 0, all_mb = 0, n_root = strlen(c->root);

	for (size_t i = 0; i < n; i++) {
		const char *at = strstr(g.gl_pathv[i], "hugepages-");
		unsigned long long kb = at ? strtoull(at + strlen("hugepages-"), NULL, 10) : 0;
		free_mb += kb * read_number(c, g.gl_pathv[i] + n_root, "free_hugepages") / 1024;
		all_mb += kb * read_number(c, g.gl_pathv[i] + n_root, "nr_hugepages") / 1024;
	}
	say(c, "hugepages", subject,
	    free_mb >= 512 ? "" : "reserve 512 MB or more: ./foil setup, or hugepagesz=1G hugepages=N on the kernel's command line",
	    "%llu MB free of %llu MB reserved", free_mb, all_mb);
	globfree(&g);
}

static void check_hugepages(struct check *c)
{
	glob_t g = {0};
	size_t n = folders(c, "/sys/devices/system/node/node[0-9]*", &g);

	for (size_t i = 0; i < n; i++) {
		const char *node = base(g.gl_pathv[i]);
		char pattern[PATH_MAX];
		snprintf(pattern, sizeof(pattern), "/sys/devices/system/node/%s/hugepages/hugepages-*kB", node);
		check_hugepages_in(c, node, pattern);
	}
	if (n == 0)
		check_hugepages_in(c, "machine", "/sys/kernel/mm/hugepages/hugepages-*kB");
	globfree(&g);
}

static void check_iommu(struct check *c)
{
	glob_t g = {0};
	size_t n_groups = folders(c, "/sys/kernel/iommu_groups/[0-9]*", &g);
	char noiommu[16] = "";

	globfree(&g);
	g = (glob_t){0};
	bool vfio = folders(c, "/sys/bus/pci/drivers/vfio-pci", &g) > 0;
	globfree(&g);
	(void)read_line(c, noiommu, sizeof(noiommu), "/sys/module/vfio/parameters/enable_unsafe_noiommu_mode"); /* may not be there */
	say(c, "iommu", "", n_groups ? "" : noiommu[0] == 'Y'
		? "vfio runs without IOMMU: a faulty NIC can write anywhere; switch the IOMMU on in the firmware and add intel_iommu=on iommu=pt"
		: "switch the IOMMU on in the firmware, and intel_iommu=on iommu=pt on the kernel's command line; needed for vfio-pci only",
	    "%zu IOMMU groups%s", n_groups, noiommu[0] == 'Y' ? ", vfio without IOMMU allowed" : "");
	say(c, "iommu", "vfio-pci", vfio ? "" : "modprobe vfio-pci; needed for PCI ports only", "driver %s", vfio ? "loaded" : "not loaded");
}

static void check_cores(struct check *c)
{
	char isolated[256] = "", online[256] = "?", nohz[256] = "", smt[16] = "", governor[32] = "";

	(void)read_line(c, online, sizeof(online), "/sys/devices/system/cpu/online");
	(void)read_line(c, isolated, sizeof(isolated), "/sys/devices/system/cpu/isolated");
	(void)read_line(c, nohz, sizeof(nohz), "/sys/devices/system/cpu/nohz_full");
	say(c, "cores", "isolated", isolated[0] ? "" : "isolcpus=LIST nohz_full=LIST rcu_nocbs=LIST on the kernel's command line keeps other work off "
	    "the workers' cores", "online %s, isolated %s, without tick %s", online, isolated[0] ? isolated : "none",
	    nohz[0] && nohz[0] != '(' ? nohz : "none");
	if (read_line(c, smt, sizeof(smt), "/sys/devices/system/cpu/smt/active"))
		say(c, "smt", "", smt[0] == '1' ? "give a worker both threads of its core, or echo off > /sys/devices/system/cpu/smt/control" : "",
		    "%s", smt[0] == '1' ? "two threads share a core" : "off");
	if (read_line(c, governor, sizeof(governor), "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"))
		say(c, "governor", "", strcmp(governor, "performance") ? "cpupower frequency-set -g performance" : "", "%s", governor);
	else
		say(c, "governor", "", "", "the machine (or its hypervisor) sets the clock rate itself");
}

static void check_nic(struct check *c, const char *folder)
{
	const char *name = folder + strlen(c->root), *address = base(folder);
	char driver[64] = "none", vfs[16] = "";
	unsigned long long vendor = read_number(c, name, "vendor"), device = read_number(c, name, "device");
	int node;

	if (read_number(c, name, "class") >> 8 != 0x0200)
		return; /* no Ethernet controller */
	bool bound = link_base(folder, "driver", driver, sizeof(driver));
	bool ours = bound && (strcmp(driver, "vfio-pci") == 0 || strcmp(driver, "mlx5_core") == 0);
	bool sriov = read_line(c, vfs, sizeof(vfs), "%s/sriov_totalvfs", name);
	unsigned long long n_vfs = read_number(c, name, "sriov_numvfs");
	char node_text[16] = "";
	node = read_line(c, node_text, sizeof(node_text), "%s/numa_node", name) ? (int)strtol(node_text, NULL, 10) : -1;
	say(c, "nic", address,
	    ours || n_vfs ? "" : sriov ? "make virtual functions (echo N > sriov_numvfs) and bind one: dpdk-devbind.py -b vfio-pci ADDRESS"
				       : "for a PCI port bind it (not your way into the machine): dpdk-devbind.py -b vfio-pci ADDRESS",
	    "%04llx:%04llx, driver %s, NUMA node %d, virtual functions %llu of %s", vendor, device, driver, node, n_vfs, sriov ? vfs : "0");
}

static void check_nics(struct check *c)
{
	glob_t g = {0};
	size_t n = folders(c, "/sys/bus/pci/devices/*", &g);

	for (size_t i = 0; i < n; i++)
		check_nic(c, g.gl_pathv[i]);
	if (n == 0)
		say(c, "nic", "", "use af_packet:, tap: or virtio-user: ports here", "no PCI devices");
	globfree(&g);
}

static void check_packet_socket(struct check *c)
{
	char status[64] = "";
	bool there = read_line(c, status, sizeof(status), "/proc/net/packet");

	say(c, "packet-socket", "", there ? "" : "modprobe af_packet; needed for af_packet: ports only",
	    "the kernel %s packet sockets", there ? "has" : "lacks");
}

unsigned int nic_check(const char *root, nic_check_fn fn, void *arg)
{
	struct check c = {.root = root, .fn = fn, .arg = arg};

	check_hugepages(&c);
	check_iommu(&c);
	check_cores(&c);
	check_nics(&c);
	check_packet_socket(&c);
	return c.n_warn;
}
