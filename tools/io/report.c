/* SPDX-License-Identifier: MIT */
/* Numbers in, figures and dumps out: the forms that scripts parse. */
#include "io.h"

#include "util/size.h"

#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cvt_bytes(double value, char *str, size_t size)
{
    static const char *const units[] = { "EiB", "PiB", "TiB", "GiB", "MiB", "KiB" };
    double unit = 1152921504606846976.0;
    char *dot;

    for (unsigned i = 0; i < G_N_ELEMENTS(units); i++, unit /= 1024) {
        if (value >= unit) {
            snprintf(str, size, "%.3f %s", value / unit, units[i]);
            dot = strstr(str, ".000 ");
            if (dot) {
                memmove(dot, dot + 4, strlen(dot + 4) + 1);
            }
            return;
        }
    }
    snprintf(str, size, "%f bytes", value);
    dot = strstr(str, ".000000 ");
    if (dot) {
        memmove(dot, dot + 7, strlen(dot + 7) + 1);
    }
}

int64_t cvtnum(const char *s)
{
    uint64_t v;
    int ret = size_parse(s, NULL, 'B', &v);

    if (ret < 0) {
        return ret;
    }
    return v > INT64_MAX ? -ERANGE : (int64_t)v;
}

void print_cvtnum_err(int64_t rc, const char *arg)
{
    if (rc == -ERANGE) {
        printf("Parsing error: argument too large -- %s\n", arg);
    } else {
        printf("Parsing error: non-numeric argument, or extraneous/unrecognized suffix -- %s\n",
               arg);
    }
}

int parse_pattern(const char *arg)
{
    char *end;
    long v = strtol(arg, &end, 0);

    if (v < 0 || v > UCHAR_MAX || *end != '\0') {
        printf("%s is not a valid pattern byte\n", arg);
        return -1;
    }
    return (int)v;
}

void dump_buffer(const void *buf, int64_t offset, size_t len)
{
    const uint8_t *p = buf;

    for (size_t i = 0; i < len; i += 16) {
        size_t n = MIN(len - i, 16);

        printf("%08" G_GINT64_MODIFIER "x:  ", offset + (int64_t)i);
        for (size_t j = 0; j < n; j++) {
            printf("%02x ", p[i + j]);
        }
        printf(" ");
        for (size_t j = 0; j < n; j++) {
            printf("%c", isalnum(p[i + j]) ? p[i + j] : '.');
        }
        printf("\n");
    }
}

static void format_time(int64_t ns, char *s, size_t size, bool fixed)
{
    uint64_t sec = (uint64_t)ns / 1000000000, cs = (uint64_t)ns % 1000000000 / 10000000;
    unsigned h = (unsigned)(sec / 3600), m = (unsigned)(sec / 60 % 60), r = (unsigned)(sec % 60);

    if (fixed || h || m) {
        snprintf(s, size, "%u:%02u:%02u.%02u", h, m, r, (unsigned)cs);
    } else {
        snprintf(s, size, "%02u.%02u sec", r, (unsigned)cs);
    }
}

void print_report(const char *op, int64_t ns, int64_t offset, int64_t count, int64_t total, int cnt,
                  bool machine)
{
    double secs = (double)MAX(ns, 1) / 1e9;
    char s1[64], s2[64], ts[64];

    format_time(ns, ts, sizeof(ts), machine);
    if (machine) { /* bytes,ops,time,bytes/sec,ops/sec */
        printf("%" G_GINT64_FORMAT ",%d,%s,%.3f,%.3f\n", total, cnt, ts, (double)total / secs,
               cnt / secs);
        return;
    }
    cvt_bytes((double)total, s1, sizeof(s1));
    cvt_bytes((double)total / secs, s2, sizeof(s2));
    printf("%s %" G_GINT64_FORMAT "/%" G_GINT64_FORMAT " bytes at offset %" G_GINT64_FORMAT "\n",
           op, total, count, offset);
    printf("%s, %d ops; %s (%s/sec and %.4f ops/sec)\n", s1, cnt, ts, s2, cnt / secs);
}

void print_error(GError *err)
{
    tool_error("%s", err->message);
    g_error_free(err);
}

void print_specific_info(BlockBackend *blk)
{
    Options *o = blk_get_specific_info(blk_bs(blk), NULL);

    if (o && opts_count(o) > 0) {
        g_autofree char *text = opts_to_text(o, 1);

        printf("Format specific information:\n%s", text);
    }
    opts_free(o);
}

bool parse_options(Options *o, const char *arg)
{
    GError *err = NULL;
    const char *p = arg;

    while (*p) { /* elements end at a single comma */
        const char *end = p;

        while (*end && (*end != ',' || end[1] == ',')) {
            end += *end == ',' ? 2 : 1;
        }
        if (end > p && !memchr(p, '=', (size_t)(end - p))) {
            tool_error("warning: short-form boolean option '%.*s' deprecated", (int)(end - p), p);
            fprintf(stderr, "Please use %.*s=on instead\n", (int)(end - p), p);
        }
        p = *end ? end + 1 : end;
    }
    if (!opts_parse(o, arg, NULL, &err)) {
        print_error(err);
        return false;
    }
    return true;
}
