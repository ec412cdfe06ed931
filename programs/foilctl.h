/* Shared by foilctl's commands. Each takes its own words (argv[0] is the command) and returns the exit status: 0 fine, 1 something is
 * wrong and was said, 2 the command line is wrong. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int foilctl_status(int argc, char **argv);
int foilctl_stats(int argc, char **argv);
int foilctl_config(int argc, char **argv);
int foilctl_diagnostics(int argc, char **argv);
int foilctl_check(int argc, char **argv);
int foilctl_validate(int argc, char **argv);
int foilctl_explain(int argc, char **argv);
int foilctl_connections(int argc, char **argv);
int foilctl_capture(int argc, char **argv);
int foilctl_dns(int argc, char **argv);
int foilctl_ca(int argc, char **argv);
int foilctl_secrets(int argc, char **argv);

/* Takes `--name VALUE` or `--name` out of the words; what is left stays in order. */
bool foilctl_flag(int *argc, char **argv, const char *name);
const char *foilctl_option(int *argc, char **argv, const char *name);
/* True when a word is left that begins with a dash; says so. */
bool foilctl_unknown(int argc, char **argv, const char *usage);

struct foilctl_page {
	char *body; /* terminated; the caller frees it with foilctl_page_free */
	size_t n_bytes;
	unsigned int status;
};
/* GET http://address:port/path, blocking, at most 5 s without a byte and 256 MiB. 0, or 1 after a sentence on stderr. address: an IP
 * address; NULL: 127.0.0.1. */
int foilctl_get(const char *address, uint16_t port, const char *path, struct foilctl_page *out);
/* The same with another method, and no body. */
int foilctl_ask(const char *address, uint16_t port, const char *method, const char *path, struct foilctl_page *out);
void foilctl_page_free(struct foilctl_page *page);
