/* Any bytes as a node file: taken with every value in its range, or refused with a sentence that begins with the file's name. */
#include <stdlib.h>

#include "programs/node_file.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct node_conf conf;
	struct foil_error err = {0};
	if (node_file_parse("n", data, size, &conf, &err) < 0) {
		if (err.text[0] != 'n')
			abort();
		return 0;
	}
	if (conf.n_ports == 0 || conf.n_ports > NODE_PORTS_MAX || conf.n_workers == 0 || conf.n_workers > NODE_WORKERS_MAX ||
	    conf.memory_megabytes < 64 || conf.drain_s > 3600 || conf.agent_socket[0] != '/' || conf.state_dir[0] != '/')
		abort();
	for (uint16_t i = 0; i < conf.n_routes; i++)
		if (conf.routes[i].port >= conf.n_ports)
			abort();
	return 0;
}
