// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * The main() of a fuzz target without a fuzzer: runs the files and folders given as arguments, so
 * that the seeds are a plain test as well.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

static unsigned replayed;

static int replay_file(const char *name)
{
    static uint8_t data[1 << 20];
    FILE *in = fopen(name, "rb");
    size_t size;

    if (!in) {
        perror(name);
        return -1;
    }
    size = fread(data, 1, sizeof data, in);
    fclose(in);
    fprintf(stderr, "%s\n", name);
    LLVMFuzzerTestOneInput(data, size);
    replayed++;
    return 0;
}

static int replay(const char *name)
{
    DIR *folder = opendir(name);
    char path[4096];
    int status = 0;

    if (!folder)
        return replay_file(name);
    for (struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] == '.')
            continue;
        snprintf(path, sizeof path, "%s/%s", name, entry->d_name);
        status |= replay_file(path);
    }
    closedir(folder);
    return status;
}

int main(int argc, char **argv)
{
    int status = 0;

    for (int i = 1; i < argc; i++)
        status |= replay(argv[i]);
    fprintf(stderr, "%u inputs\n", replayed);
    return status == 0 && replayed > 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
