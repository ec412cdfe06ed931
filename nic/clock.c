/* Clocks for the loops of programs: the TSC as microseconds, and Unix time. dataplane/ reads neither.
 * Invariant: the factor is set by nic_eal_start, before any worker asks; products have 128 bits, so nothing wraps. */
#include "nic/nic.h"

#include <rte_cycles.h>

#include <time.h>

static uint64_t us_per_2_40_tsc; /* set once: microseconds in 2^40 TSC cycles */

uint64_t nic_clock_us(void)
{
	if (FOIL_UNLIKELY(us_per_2_40_tsc == 0))
		us_per_2_40_tsc = (uint64_t)(((unsigned __int128)1000000 << 40) / rte_get_tsc_hz());
	return 1000000 + (uint64_t)((unsigned __int128)rte_rdtsc() * us_per_2_40_tsc >> 40);
}

uint64_t nic_wall_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_REALTIME, &t); /* cannot fail for this clock */
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}
