/* SPDX-License-Identifier: MIT */
#include "trapline/error.h"

#include <stdarg.h>
#include <stdio.h>

static const struct {
    int error;
    const char *text;
} whys[] = {
#define WHY_ROW(name, error, text) [TL_WHY_##name] = {error, text},
    TL_WHYS(WHY_ROW)
#undef WHY_ROW
};

int tl_why_errno(enum tl_why why)
{
    return (unsigned)why < TL_WHY_COUNT ? whys[why].error : EIO;
}

const char *tl_why_text(enum tl_why why)
{
    return (unsigned)why < TL_WHY_COUNT ? whys[why].text : "unknown reason";
}

const char *tl_errno_name(int error)
{
    switch (error) {
#define NAME(e)                                                                                                        \
    case e:                                                                                                            \
        return #e;
        NAME(EPERM)
        NAME(ENOENT)
        NAME(ESRCH) NAME(EINTR) NAME(EIO) NAME(E2BIG) NAME(ENOEXEC) NAME(EAGAIN) NAME(ENOMEM) NAME(EACCES) NAME(EFAULT)
            NAME(EBUSY) NAME(EEXIST) NAME(EINVAL) NAME(EMFILE) NAME(ENFILE) NAME(ENOSPC) NAME(ENOSYS) NAME(ERANGE)
                NAME(EILSEQ) NAME(ENOTSUP) NAME(EOVERFLOW) NAME(ENODATA) NAME(ETIMEDOUT) NAME(ENOTUNIQ) NAME(EALREADY)
#undef NAME
                    default : return "EIO";
    }
}

int tl_fail(struct tl_error *error, int code, const char *format, ...)
{
    if (error) {
        va_list args;
        va_start(args, format);
        error->code = code;
        error->column = -1;
        vsnprintf(error->text, sizeof error->text, format, args);
        va_end(args);
    }
    return code;
}
