/* The sentence for a human when setup or control fails (style.md section 5). Never used on the fast path. */
#pragma once

#include <stdarg.h>
#include <stdio.h>

struct foil_error {
	char text[512];     /* one clear sentence: what is wrong, with what value, and what to do */
	char resource[160]; /* kind/namespace/name, or a file */
	char field[160];    /* dotted path inside it, may be empty */
	unsigned int line, column; /* 0 where there is none */
};

/* Formats text unless err is NULL; returns code so that a caller can `return foil_error_set(err, -EINVAL, "…")`. */
static inline int __attribute__((format(printf, 3, 4))) foil_error_set(struct foil_error *err, int code, const char *fmt, ...)
{
	if (err) {
		va_list ap;
		va_start(ap, fmt);
		(void)vsnprintf(err->text, sizeof(err->text), fmt, ap); /* a longer sentence is cut, never overrun */
		va_end(ap);
	}
	return code;
}
