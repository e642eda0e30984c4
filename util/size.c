/* SPDX-License-Identifier: MIT */
/* Sizes with suffixes, in and out. */
#include "util/size.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int64_t unit_of(char c)
{
    switch (g_ascii_toupper(c)) {
    case 'B':
        return 1;
    case 'K':
        return KiB;
    case 'M':
        return MiB;
    case 'G':
        return GiB;
    case 'T':
        return TiB;
    case 'P':
        return TiB << 10;
    case 'E':
        return TiB << 20;
    default:
        return -1;
    }
}

/* The digits after a point, as a fraction below 1. */
static const char *parse_fraction(const char *p, double *ret)
{
    double f = 0, scale = 0.1;

    for (; g_ascii_isdigit(*p); p++, scale /= 10) {
        f += (*p - '0') * scale;
    }
    *ret = f;
    return p;
}

/* All digits, whatever the sign was. */
static bool is_number(const char *s)
{
    return *s && s[strspn(s, "0123456789")] == '\0';
}

int size_parse(const char *s, const char **end, char default_suffix, uint64_t *ret)
{
    const char *p = s, *first;
    double fraction = 0;
    int64_t unit;
    uint64_t v, f;
    bool hex;
    char *e;

    while (g_ascii_isspace(*p)) {
        p++;
    }
    if (*p == '-') {
        return is_number(p + 1) ? -ERANGE : -EINVAL;
    }
    p += *p == '+';
    hex = p[0] == '0' && (p[1] == 'x' || p[1] == 'X');
    if (!g_ascii_isdigit(*p) && !(*p == '.' && g_ascii_isdigit(p[1]))) {
        return -EINVAL;
    }
    first = p;
    errno = 0;
    v = g_ascii_strtoull(p, &e, hex ? 16 : 10);
    if (errno == ERANGE) {
        return -ERANGE;
    }
    if ((e == first && *first != '.') || (hex && e <= first + 2)) {
        return -EINVAL;
    }
    p = e;
    if (!hex && *p == '.') {
        p = parse_fraction(p + 1, &fraction);
    }
    unit = *p ? unit_of(*p) : -1;
    if (unit >= 0) {
        if (hex) {
            return -EINVAL; /* one could not tell 0x1b from 0x1 with a suffix */
        }
        p++;
    } else {
        unit = unit_of(default_suffix);
    }
    if (fraction != 0 && unit == 1) {
        return -EINVAL; /* no half bytes */
    }
    if (end) {
        *end = p;
    } else if (*p) {
        return -EINVAL;
    }
    f = (uint64_t)(fraction * (double)unit + 0.5); /* to the nearest byte */
    if (v > (UINT64_MAX - f) / (uint64_t)unit) {
        return -ERANGE;
    }
    *ret = v * (uint64_t)unit + f;
    return 0;
}

char *size_to_human(uint64_t bytes)
{
    static const char *const units[] = { "", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei" };
    uint64_t div;
    int i;

    /* The exponent that leaves a mantissa below 1000. */
    frexp((double)bytes / (1000.0 / 1024.0), &i);
    i = bytes == 0 ? 0 : MAX(0, (i - 1) / 10);
    div = UINT64_C(1) << (i * 10);
    return g_strdup_printf("%0.3g %sB", (double)bytes / (double)div, units[i]);
}
