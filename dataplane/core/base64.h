/* A digit of base64 (RFC 4648 4) or base64url (5), which differ in the last two; what stands around digits is the reader's affair. */
#pragma once

/* 0 to 63; -1: c is no digit. last2: the digits of 62 and 63, "+/" or "-_". */
static inline int foil_base64_digit(char c, const char *last2)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == last2[0] ? 62 : c == last2[1] ? 63 : -1;
}
