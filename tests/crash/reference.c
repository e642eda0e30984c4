/* SPDX-License-Identifier: MIT */
/* The reference's check, run on a copy of the state in a scratch folder. */
#include "reference.h"

#include <glib/gstdio.h>
#include <string.h>
#include <sys/wait.h>

#define LEAKS_ONLY 3 /* its exit status */

bool reference_available(void)
{
    g_autofree char *path = g_find_program_in_path("qemu-img");

    return path != NULL;
}

static char *run_check(const Program *p, const char *image, const char *data)
{
    g_autofree char *ext =
        p->cfg.data_file
            ? g_strdup_printf(",\"data-file\":{\"driver\":\"file\",\"filename\":\"%s\"}", data)
            : g_strdup("");
    g_autofree char *name =
        g_strdup_printf("json:{\"driver\":\"qcow2\",\"backing\":null,\"file\":{\"driver\":\"file\","
                        "\"filename\":\"%s\"}%s%s}",
                        image, ext, p->cfg.encrypted ? ",\"encrypt\":{\"key-secret\":\"s\"}" : "");
    const char *argv[] = { "qemu-img", "check", "--object", "secret,id=s,data=moss", name, NULL };
    g_autofree char *out = NULL, *err = NULL;
    g_autoptr(GError) spawn = NULL;
    int status = -1;

    if (!g_spawn_sync(NULL, (char **)argv, NULL, G_SPAWN_SEARCH_PATH, NULL, NULL, &out, &err,
                      &status, &spawn)) {
        return g_strdup_printf("the reference did not run: %s", spawn->message);
    }
    if (WIFEXITED(status) && (WEXITSTATUS(status) == 0 || WEXITSTATUS(status) == LEAKS_ONLY)) {
        return NULL;
    }
    return g_strdup_printf("the reference's check: %.300s%.300s", out, err);
}

char *reference_check(const Program *p, const MemFile *image, const MemFile *data)
{
    g_autofree char *dir = g_dir_make_tmp("crash-XXXXXX", NULL);
    g_autofree char *i = NULL, *d = NULL;
    char *why;

    if (!dir) {
        return g_strdup("no scratch folder for the reference");
    }
    i = g_build_filename(dir, "image", NULL);
    d = g_build_filename(dir, "data", NULL);
    if (mem_save(image, i) && (!p->cfg.data_file || mem_save(data, d))) {
        why = run_check(p, i, d);
    } else {
        why = g_strdup("the state could not be saved for the reference");
    }
    g_unlink(i);
    g_unlink(d);
    g_rmdir(dir);
    return why;
}
