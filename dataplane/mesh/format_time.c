/* Time as text, UTC, without the C library's locale and zone: the words of strftime that need neither, and Envoy's and Abseil's fractions
 * (%f, %1f to %9f, %E1S to %E9S, %E*S as microseconds). Years 1970 to 9999. */
#include "dataplane/mesh/format_priv.h"

static const char weekdays[7][10] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
static const char months[12][10] = {"January", "February", "March",	"April",   "May",      "June",
				    "July",    "August",   "September", "October", "November", "December"};

struct civil {
	uint32_t year, month, day, yearday, weekday, hour, minute, second, nanos; /* month, day, yearday from 1; weekday 0 = Sunday */
	uint64_t unix_s;
};

static bool is_leap(uint32_t year)
{
	return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

/* Howard Hinnant's civil_from_days, for days from 1970 on. */
static struct civil civil_of(uint64_t wall_us)
{
	static const uint16_t before[12] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
	uint64_t unix_s = wall_us / 1000000, days = unix_s / 86400, z = days + 719468, era = z / 146097;
	uint32_t of_era = (uint32_t)(z % 146097), s = (uint32_t)(unix_s % 86400);
	uint32_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	uint32_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100), m = (5 * of_year + 2) / 153;
	struct civil c = {
		.day = of_year - (153 * m + 2) / 5 + 1, .month = m < 10 ? m + 3 : m - 9, .weekday = (uint32_t)((days + 4) % 7), .hour = s / 3600,
		.minute = s / 60 % 60, .second = s % 60, .nanos = (uint32_t)(wall_us % 1000000) * 1000, .unix_s = unix_s,
	};

	c.year = (uint32_t)(year_of_era + era * 400) + (c.month <= 2);
	c.yearday = before[c.month - 1] + c.day + (c.month > 2 && is_leap(c.year));
	return c;
}

struct out {
	char *data;
	uint32_t n;
};

static void put(struct out *o, struct foil_slice s)
{
	uint32_t n = FOIL_MIN(s.n_bytes, FORMAT_TIME_BYTES - o->n);

	if (n)
		memcpy(o->data + o->n, s.data, n);
	o->n += n;
}

/* width digits at least, filled up with fill. */
static void put_number(struct out *o, uint64_t n, uint32_t width, char fill)
{
	char text[24];
	uint32_t at = sizeof(text);

	do
		text[--at] = (char)('0' + n % 10);
	while ((n /= 10) != 0);
	while (sizeof(text) - at < width)
		text[--at] = fill;
	put(o, foil_slice_of(text + at, sizeof(text) - at));
}

static void put_fraction(struct out *o, uint32_t nanos, uint32_t digits)
{
	for (uint32_t i = digits; i < 9; i++)
		nanos /= 10;
	put_number(o, nanos, digits, '0');
}

static void put_second(struct out *o, const struct civil *c, uint32_t digits)
{
	put_number(o, c->second, 2, '0');
	put(o, FOIL_SLICE("."));
	put_fraction(o, c->nanos, digits);
}

static void put_clock(struct out *o, uint32_t hour, const struct civil *c, bool with_second)
{
	put_number(o, hour, 2, '0');
	put(o, FOIL_SLICE(":"));
	put_number(o, c->minute, 2, '0');
	if (with_second) {
		put(o, FOIL_SLICE(":"));
		put_number(o, c->second, 2, '0');
	}
}

static void put_date(struct out *o, uint32_t a, uint32_t b, uint32_t c, struct foil_slice between)
{
	put_number(o, a, 2, '0');
	put(o, between);
	put_number(o, b, 2, '0');
	put(o, between);
	put_number(o, c, 2, '0');
}

/* One word without modifier. False: there is no such word. */
static bool put_word(struct out *o, char word, const struct civil *c)
{
	uint32_t hour12 = c->hour % 12 ? c->hour % 12 : 12;

	switch (word) {
	case 'Y': put_number(o, c->year, 4, '0'); return true;
	case 'y': put_number(o, c->year % 100, 2, '0'); return true;
	case 'm': put_number(o, c->month, 2, '0'); return true;
	case 'd': put_number(o, c->day, 2, '0'); return true;
	case 'e': put_number(o, c->day, 2, ' '); return true;
	case 'j': put_number(o, c->yearday, 3, '0'); return true;
	case 'H': put_number(o, c->hour, 2, '0'); return true;
	case 'I': put_number(o, hour12, 2, '0'); return true;
	case 'M': put_number(o, c->minute, 2, '0'); return true;
	case 'S': put_number(o, c->second, 2, '0'); return true;
	case 's': put_number(o, c->unix_s, 1, '0'); return true;
	case 'f': put_fraction(o, c->nanos, 9); return true;
	case 'p': put(o, c->hour < 12 ? FOIL_SLICE("AM") : FOIL_SLICE("PM")); return true;
	case 'a': put(o, foil_slice_of(weekdays[c->weekday], 3)); return true;
	case 'A': put(o, foil_slice_str(weekdays[c->weekday])); return true;
	case 'b': case 'h': put(o, foil_slice_of(months[c->month - 1], 3)); return true;
	case 'B': put(o, foil_slice_str(months[c->month - 1])); return true;
	case 'u': put_number(o, c->weekday ? c->weekday : 7, 1, '0'); return true;
	case 'w': put_number(o, c->weekday, 1, '0'); return true;
	case 'F': put_date(o, c->year, c->month, c->day, FOIL_SLICE("-")); return true;
	case 'D': put_date(o, c->month, c->day, c->year % 100, FOIL_SLICE("/")); return true;
	case 'T': put_clock(o, c->hour, c, true); return true;
	case 'R': put_clock(o, c->hour, c, false); return true;
	case 'z': put(o, FOIL_SLICE("+0000")); return true;
	case 'Z': put(o, FOIL_SLICE("UTC")); return true;
	case 'n': put(o, FOIL_SLICE(" ")); return true; /* a line feed has no place in a header */
	case 't': put(o, FOIL_SLICE("\t")); return true;
	case '%': put(o, FOIL_SLICE("%")); return true;
	}
	return false;
}

static bool is_digit_from_1(char c)
{
	return c >= '1' && c <= '9';
}

/* The word after a percent at format[at..). Returns the bytes it takes, 0 when there is none. */
static uint32_t put_one(struct out *o, struct foil_slice format, uint32_t at, const struct civil *c)
{
	const char *p = format.data + at;
	uint32_t left = format.n_bytes - at;

	if (left >= 2 && is_digit_from_1(p[0]) && p[1] == 'f') {
		put_fraction(o, c->nanos, (uint32_t)(p[0] - '0'));
		return 2;
	}
	if (left >= 3 && p[0] == 'E' && p[2] == 'S' && (is_digit_from_1(p[1]) || p[1] == '*')) {
		put_second(o, c, p[1] == '*' ? 6 : (uint32_t)(p[1] - '0'));
		return 3;
	}
	return left >= 1 && put_word(o, p[0], c) ? 1 : 0;
}

/* False: a word is unknown. */
static bool put_all(struct out *o, struct foil_slice format, const struct civil *c)
{
	for (uint32_t i = 0; i < format.n_bytes; i++) {
		if (format.data[i] != '%') {
			put(o, foil_slice_of(format.data + i, 1));
			continue;
		}
		uint32_t n = put_one(o, format, i + 1, c);
		if (n == 0)
			return false;
		i += n;
	}
	return true;
}

bool mesh_format_time_check(struct foil_slice format)
{
	char scratch[FORMAT_TIME_BYTES];
	struct out o = {.data = scratch};
	struct civil c = civil_of(0);

	return format.n_bytes > 0 && format.n_bytes <= FORMAT_TIME_TEXT_MAX && put_all(&o, format, &c);
}

struct foil_slice mesh_format_time(struct foil_slice format, uint64_t wall_us, char out[FORMAT_TIME_BYTES])
{
	struct out o = {.data = out};
	struct civil c = civil_of(wall_us);

	(void)put_all(&o, format, &c); /* mesh_format_time_check has seen it */
	return foil_slice_of(o.data, o.n);
}
