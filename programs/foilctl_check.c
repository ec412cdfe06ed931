/* foilctl check: what this machine has for a poll-mode data plane, line by line, and whether a node file is right for it. It only reads:
 * /proc, /sys and the node file; no EAL starts and no port is opened. */
#include "programs/foilctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <jansson.h>

#include "nic/check.h"
#include "programs/node_file.h"

struct report {
	json_t *lines; /* NULL: as text */
	unsigned int n_warnings;
};

static void print_line(struct report *r, bool is_ok, const char *topic, const char *subject, const char *text, const char *remedy)
{
	r->n_warnings += !is_ok;
	if (r->lines) {
		json_array_append_new(r->lines, json_pack("{s:b, s:s, s:s, s:s, s:s}", "ok", is_ok, "topic", topic, "subject", subject, "text", text,
							  "remedy", remedy));
		return;
	}
	printf("%-5s %-14s %s%s%s\n", is_ok ? "ok" : "warn", topic, subject, subject[0] ? ": " : "", text);
	if (!is_ok && remedy[0])
		printf("%-20s -> %s\n", "", remedy);
}

static void on_line(void *arg, const struct nic_check_line *line)
{
	print_line(arg, line->level == NIC_CHECK_OK, line->topic, line->subject ? line->subject : "", line->text, line->remedy ? line->remedy : "");
}

static void check_iface(struct report *r, const struct node_port *p)
{
	char path[512], name[64], text[192];
	const char *iface = strstr(p->uri, "iface=");
	struct stat st;

	if (!iface || (strncmp(p->uri, "af_packet:", 10) != 0 && strncmp(p->uri, "af_xdp:", 7) != 0))
		return;
	snprintf(name, sizeof(name), "%.*s", (int)strcspn(iface + 6, ","), iface + 6);
	snprintf(path, sizeof(path), "/sys/class/net/%s", name);
	bool is_there = strchr(name, '/') == NULL && stat(path, &st) == 0;
	snprintf(text, sizeof(text), "interface %s is %s", name, is_there ? "there" : "not in this network namespace");
	print_line(r, is_there, "port", p->uri, text, "name an interface of the namespace in which hydrofoil will run (ip link)");
}

static void check_pci(struct report *r, const struct node_port *p)
{
	char path[512], driver[512], text[640];

	if (strncmp(p->uri, "pci=", 4) != 0)
		return;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%.*s/driver", (int)strcspn(p->uri + 4, ","), p->uri + 4);
	char *real = realpath(path, NULL);
	const char *slash = real ? strrchr(real, '/') : NULL;
	snprintf(driver, sizeof(driver), "%.400s", slash ? slash + 1 : "no driver");
	free(real);
	bool is_ok = strcmp(driver, "vfio-pci") == 0 || strncmp(driver, "mlx", 3) == 0;
	snprintf(text, sizeof(text), "bound to %s", driver);
	print_line(r, is_ok, "port", p->uri, text, "dpdk-devbind.py --bind=vfio-pci ADDRESS (docs/operating.md)");
}

/* Hugepages of 2 MiB that are free now; 0 where the file cannot be read. */
static unsigned long free_hugepages(void)
{
	char text[32] = "";
	FILE *f = fopen("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages", "re");

	if (f) {
		if (!fgets(text, sizeof(text), f))
			text[0] = 0;
		fclose(f);
	}
	return strtoul(text, NULL, 10);
}

static void check_memory(struct report *r, const struct node_conf *conf)
{
	unsigned long free_mb = free_hugepages() * 2;
	char text[192];
	bool is_ok = conf->hugepages == NODE_HUGEPAGES_OFF || free_mb >= conf->memory_megabytes;

	snprintf(text, sizeof(text), "memory.megabytes is %u, and %lu MiB of 2 MiB hugepages are free", conf->memory_megabytes, free_mb);
	print_line(r, is_ok, "memory", "", text,
		   conf->hugepages == NODE_HUGEPAGES_ON ? "hydrofoil will refuse to start: reserve hugepages (./foil setup, docs/operating.md)"
							: "hydrofoil will use plain pages: slower, and not for a PCI port without an IOMMU");
}

static void check_node_file(struct report *r, const char *path)
{
	struct node_conf *conf = calloc(1, sizeof(*conf));
	struct foil_error err = {0};

	if (!conf) {
		fputs("foilctl: no memory\n", stderr);
		r->n_warnings++;
		return;
	}
	if (node_file_read(path, conf, &err) != 0) {
		char text[800];
		if (err.line)
			snprintf(text, sizeof(text), "%s:%u:%u: %s", path, err.line, err.column, err.text);
		else
			snprintf(text, sizeof(text), "%s", err.text);
		print_line(r, false, "node file", "", text, "docs/node-file.md has every key");
	} else {
		char text[192];
		snprintf(text, sizeof(text), "%u ports, %u workers, node %s", conf->n_ports, conf->n_workers, conf->node_name);
		print_line(r, true, "node file", path, text, "");
		for (uint16_t i = 0; i < conf->n_ports; i++) {
			check_iface(r, &conf->ports[i]);
			check_pci(r, &conf->ports[i]);
		}
		check_memory(r, conf);
	}
	free(conf);
}

int foilctl_check(int argc, char **argv)
{
	struct report r = {.lines = foilctl_flag(&argc, argv, "--json") ? json_array() : NULL};

	if (foilctl_unknown(argc, argv, "check [NODE_FILE] [--json]") || argc > 2)
		return 2;
	(void)nic_check("", on_line, &r); /* on_line counts too */
	if (argc == 2)
		check_node_file(&r, argv[1]);
	if (r.lines) {
		(void)json_dumpf(r.lines, stdout, JSON_INDENT(1));
		puts("");
		json_decref(r.lines);
	} else {
		printf("%u to look at\n", r.n_warnings);
	}
	return r.n_warnings ? 1 : 0;
}
