/* The network layer on a kernel interface, with nothing above it: what net_ping.py pings. Answers ARP, ND and echo; refuses UDP.
 *   net_ping URI SECONDS IDLE_MODE N_WORKERS ADDRESS/LEN...
 * Prints "ready" when it answers, and at its end each worker's CPU time and the counters that are not zero. */
#include <stdlib.h>

#include "tests/lab/rig.h"

int main(int argc, char **argv)
{
	enum nic_idle_mode mode;

	if (argc < 6 || nic_idle_mode_parse(argv[3], &mode)) {
		fprintf(stderr, "usage: net_ping URI SECONDS poll|pause|interrupt N_WORKERS ADDRESS/LEN...\n");
		return 2;
	}
	struct rig_params p = {
		.program = "net-ping", .uri = argv[1], .seconds = rig_number(argv[2], 1, 3600), .mode = mode,
		.n_workers = (uint16_t)rig_number(argv[4], 1, NIC_WORKERS_MAX), .n_mbufs = 8191, .memory_mb = 192,
		.addresses = (const char *const *)argv + 5, .n_addresses = argc - 5,
		.exception_tap = getenv("NET_PING_EXCEPTION") != NULL,
	};
	return rig_run(&p);
}
