/* foil-core-speed: how much of a physical core a virtual one has while something else is measured on it. A hypervisor may give the other hyperthread of the
 * core to anyone, this machine's second CPU included, and no counter of the guest tells. So every 20 ms this program takes the CPU for some 45 us and times
 * six independent chains of additions: they fill a core's width, and run at half the speed when another thread takes its share of it.
 *
 *   foil-core-speed CPU SECONDS   ends earlier at the end of its input; prints one line of JSON: samples, and additions a microsecond: mean, median, p90.
 *
 * It runs before everything else on the CPU (SCHED_FIFO) and costs what is measured there a quarter of a percent, the same for whoever it is. */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define PERIOD_MS 20
#define N_TURNS 100000
#define MAX_SAMPLES 200000

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* Additions a microsecond, this once. */
static double sample(void)
{
	uint64_t a = 1, b = 2, c = 3, d = 4, e = 5, f = 6;
	double from = now_s();

	for (uint32_t i = 0; i < N_TURNS; i++)
		__asm__ volatile("add $1, %0\n\tadd $1, %1\n\tadd $1, %2\n\tadd $1, %3\n\tadd $1, %4\n\tadd $1, %5"
				 : "+r"(a), "+r"(b), "+r"(c), "+r"(d), "+r"(e), "+r"(f));
	return 6.0 * N_TURNS / ((now_s() - from) * 1e6);
}

static int by_size(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set) != 0)
		return errno;
	return sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){.sched_priority = 50}) == 0 ? 0 : errno;
}

int main(int argc, char **argv)
{
	static double speeds[MAX_SAMPLES];
	uint32_t n = 0;
	double sum = 0;

	char *cpu_end = NULL, *seconds_end = NULL;
	long cpu = argc == 3 ? strtol(argv[1], &cpu_end, 10) : -1;
	double seconds = argc == 3 ? strtod(argv[2], &seconds_end) : 0;
	if (cpu < 0 || cpu >= CPU_SETSIZE || *cpu_end || !(seconds > 0) || *seconds_end) {
		fprintf(stderr, "usage: foil-core-speed CPU SECONDS\n");
		return 2;
	}
	int rc = pin((int)cpu);
	if (rc) {
		fprintf(stderr, "foil-core-speed: CPU %s: %s\n", argv[1], strerror(rc));
		return 1;
	}
	if (mlockall(MCL_CURRENT) != 0)
		perror("foil-core-speed: mlockall"); /* a page fault only makes a sample slower */
	for (double end = now_s() + seconds; n < MAX_SAMPLES && (n == 0 || now_s() < end); n++) {
		speeds[n] = sample();
		sum += speeds[n];
		struct pollfd in = {.fd = 0, .events = POLLIN};
		if (poll(&in, 1, PERIOD_MS) != 0) { /* whoever started it has closed the pipe */
			n++;
			break;
		}
	}
	qsort(speeds, n, sizeof(*speeds), by_size);
	printf("{\"samples\": %u, \"mean\": %.0f, \"median\": %.0f, \"p90\": %.0f}\n", n, sum / n, speeds[n / 2], speeds[n * 9 / 10]);
	return 0;
}
