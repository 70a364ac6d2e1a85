/* SPDX-License-Identifier: BSD-2-Clause */
#include "server/escape.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static bool is_continuation(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* The length of the character that begins there, 0 if none does. (No continuation byte is a NUL, so the text's end is one.) */
static size_t utf8_length(const unsigned char *s)
{
	size_t n = s[0] >= 0xf0 ? 4 : s[0] >= 0xe0 ? 3 : 2;
	uint32_t c = s[0];

	if (s[0] < 0x80)
		return 1;
	if (s[0] < 0xc2 || s[0] > 0xf4)
		return 0;
	c &= 0x7fU >> n;
	for (size_t i = 1; i < n; i++) {
		if (!is_continuation(s[i]))
			return 0;
		c = c << 6 | (s[i] & 0x3f);
	}
	/* Longer than it need be; a surrogate; beyond the last one. */
	if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || (c >= 0xd800 && c < 0xe000) || c > 0x10ffff)
		return 0;
	return n;
}

/* C1 control characters, and what ends or turns lines round in terminals and viewers. */
static bool is_printable(const unsigned char *s, size_t n)
{
	if (n == 1)
		return s[0] >= ' ' && s[0] != 0x7f;
	if (n == 2)
		return !(s[0] == 0xc2 && s[1] < 0xa0);
	if (n == 3 && s[0] == 0xe2 && s[1] == 0x80)
		return s[2] != 0xa8 && s[2] != 0xa9 && !(s[2] >= 0xaa && s[2] <= 0xae);
	return !(n == 3 && s[0] == 0xe2 && s[1] == 0x81 && s[2] >= 0xa6 && s[2] <= 0xa9);
}

size_t escape(char *out, size_t size, const char *text)
{
	static const char digits[] = "0123456789abcdef";
	const unsigned char *s = (const unsigned char *)text;
	size_t len = 0;

	while (*s != '\0') {
		const size_t n = utf8_length(s);
		char hex[] = {'\\', 'x', digits[*s >> 4], digits[*s & 15]};
		const char *piece = (const char *)s;
		size_t piece_len = n;

		if (*s == '\\') {
			piece = "\\\\";
			piece_len = 2;
		} else if (n == 0 || !is_printable(s, n)) {
			piece = hex;
			piece_len = sizeof hex;
		}
		if (len + piece_len >= size)
			break;
		memcpy(out + len, piece, piece_len);
		len += piece_len;
		s += piece == (const char *)s ? n : 1;
	}
	out[len] = '\0';
	return len;
}
