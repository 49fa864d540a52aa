/* SPDX-License-Identifier: MIT
 *
 * A jump probe: a handler with the signature of the probed function, which sees its arguments.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <trapline/trapline.h>

static ssize_t see_write(int fd, const void *bytes, size_t size)
{
    (void)bytes;
    if (fd == STDERR_FILENO)
        printf("%zu bytes go to stderr\n", size);
    return 0; /* dropped: the real one runs now */
}

int main(void)
{
    struct tl_jump_probe probe = {
        .size = sizeof probe, .symbol = "write", .module = "libc", .handler = TL_JUMP_HANDLER(see_write)};
    struct tl_error error;

    if (tl_jump_probe_register(&probe, &error)) {
        fprintf(stderr, "%s\n", error.text);
        return 1;
    }
    fputs("something has gone wrong\n", stderr);
    tl_jump_probe_unregister(&probe);
    fputs("nobody sees this\n", stderr);
    return 0;
}
