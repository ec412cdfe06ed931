/* `foilctl ca`, `foilctl secrets` and `foilctl dns`: what the agent's certificate authority and resolver have, and a change of the root. */
#include "programs/foilctl.h"

#include <stdio.h>
#include <string.h>

static const char ca_usage[] = "ca [rotate] [--agent IP] [--json]";
static const char dns_usage[] = "dns [--agent IP] [--json]";
static const char secrets_usage[] = "secrets [--agent IP] [--json]";

static int show(const char *address, const char *method, const char *path)
{
	struct foilctl_page page;

	if (foilctl_ask(address, 15000, method, path, &page) != 0)
		return 1;
	(void)fwrite(page.body, 1, page.n_bytes, page.status == 200 ? stdout : stderr); /* a closed terminal is nobody's business */
	int rc = page.status == 200 ? 0 : 1;
	foilctl_page_free(&page);
	return rc;
}

int foilctl_ca(int argc, char **argv)
{
	bool is_json = foilctl_flag(&argc, argv, "--json");
	const char *address = foilctl_option(&argc, argv, "--agent");

	if (foilctl_unknown(argc, argv, ca_usage))
		return 2;
	if (argc == 2 && strcmp(argv[1], "rotate") == 0)
		return show(address, "POST", "/ca/rotate");
	if (argc > 1) {
		fprintf(stderr, "usage: foilctl %s\n", ca_usage);
		return 2;
	}
	return show(address, "GET", is_json ? "/ca" : "/ca?text");
}

int foilctl_secrets(int argc, char **argv)
{
	bool is_json = foilctl_flag(&argc, argv, "--json");
	const char *address = foilctl_option(&argc, argv, "--agent");

	if (foilctl_unknown(argc, argv, secrets_usage))
		return 2;
	if (argc > 1) {
		fprintf(stderr, "usage: foilctl %s\n", secrets_usage);
		return 2;
	}
	return show(address, "GET", is_json ? "/secrets" : "/secrets?text");
}

int foilctl_dns(int argc, char **argv)
{
	bool is_json = foilctl_flag(&argc, argv, "--json");
	const char *address = foilctl_option(&argc, argv, "--agent");

	if (foilctl_unknown(argc, argv, dns_usage))
		return 2;
	if (argc > 1) {
		fprintf(stderr, "usage: foilctl %s\n", dns_usage);
		return 2;
	}
	return show(address, "GET", is_json ? "/dns" : "/dns?text");
}
