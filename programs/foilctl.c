/* foilctl: the command line of Hydrofoil. This file knows the commands and their words; each command is in a foilctl_*.c.
 * It asks the running agent over its loopback ports and the data plane over its sockets, and reads files. */
#include "programs/foilctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
	"usage: foilctl COMMAND\n"
	"\n"
	"  status [--json]                 the agent, the data plane, and where the newest configuration stands\n"
	"  stats [WORD...] [--json]        metrics whose name or labels hold every WORD\n"
	"  diagnostics [--json]            what the last reading of the configuration said\n"
	"  config dump                     the snapshot as it was sent (JSON)\n"
	"  validate DIR [--node FILE] [--json]\n"
	"                                  read and compile a folder of Istio and Kubernetes YAML, and say what is wrong with it, for that node or for any\n"
	"  explain --config DIR [--node NODE_FILE] [-X METHOD] [-H 'NAME: VALUE']... [--address IP] [--json] URL\n"
	"                                  which listener, route, cluster and endpoint a request would take, and why\n"
	"  explain --config DIR [--node NODE_FILE] [--address IP] [--alpn NAME] [--json] tcp://HOST:PORT | tls://NAME[:PORT]\n"
	"                                  the same of a connection that is not looked into, as clients of captured addresses open it\n"
	"  check [NODE_FILE] [--json]      what this machine has for a poll-mode data plane, and whether the node file is right\n"
	"  connections [--state NAME] [--local ADDRESS[:PORT]] [--remote ADDRESS[:PORT]] [--json]\n"
	"                                  TCP connections of the data plane: windows, RTT, retransmissions, drops\n"
	"  capture -w FILE [--reason NAME]... [--flow END[,END]] [--count N] [--seconds N]\n"
	"                                  packets that were dropped, or of a flow, as pcapng; the comment says why they were dropped\n"
	"  ca [rotate]                     the mesh's certificate authority; a change to a new root\n"
	"  secrets                         certificates and until when they are good\n"
	"  dns                             names among the endpoints: addresses, TTL, the last error\n"
	"  version\n"
	"\n"
	"  status, stats, diagnostics and config take --agent IP (127.0.0.1); connections and capture take\n"
	"  --node NODE_FILE or --socket PATH (/run/hydrofoil/agent.sock.inspect). Exit status: 0 fine, 1 something is wrong, 2 usage.\n";

static int version(int argc, char **argv)
{
	(void)argc;
	(void)argv;
	puts("foilctl " FOIL_VERSION);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(int argc, char **argv);
} commands[] = {
	{"status", foilctl_status}, {"stats", foilctl_stats}, {"diagnostics", foilctl_diagnostics}, {"config", foilctl_config},
	{"validate", foilctl_validate}, {"explain", foilctl_explain}, {"check", foilctl_check},
	{"connections", foilctl_connections}, {"capture", foilctl_capture}, {"ca", foilctl_ca},
	{"secrets", foilctl_secrets}, {"dns", foilctl_dns}, {"version", version},
};

static void take_out(int *argc, char **argv, int at, int n)
{
	memmove(argv + at, argv + at + n, (size_t)(*argc - at - n + 1) * sizeof(*argv)); /* with the NULL at the end */
	*argc -= n;
}

bool foilctl_flag(int *argc, char **argv, const char *name)
{
	for (int i = 1; i < *argc; i++) {
		if (strcmp(argv[i], name) == 0) {
			take_out(argc, argv, i, 1);
			return true;
		}
	}
	return false;
}

const char *foilctl_option(int *argc, char **argv, const char *name)
{
	for (int i = 1; i + 1 < *argc; i++) {
		if (strcmp(argv[i], name) == 0) {
			const char *value = argv[i + 1];
			take_out(argc, argv, i, 2);
			return value;
		}
	}
	return NULL;
}

bool foilctl_unknown(int argc, char **argv, const char *words)
{
	for (int i = 1; i < argc; i++) {
		if (argv[i][0] == '-') {
			fprintf(stderr, "foilctl %s: no option %s, or its value is missing\nusage: foilctl %s\n", argv[0], argv[i], words);
			return true;
		}
	}
	return false;
}

int main(int argc, char **argv)
{
	if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
		fputs(usage, argc < 2 ? stderr : stdout);
		return argc < 2 ? 2 : 0;
	}
	if (strcmp(argv[1], "--version") == 0)
		return version(0, NULL);
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(argv[1], commands[i].name) == 0)
			return commands[i].run(argc - 1, argv + 1);
	fprintf(stderr, "foilctl: no command \"%s\"\n%s", argv[1], usage);
	return 2;
}
