/* SPDX-License-Identifier: MIT */
#ifndef TRAPLINE_TESTS_INSN_RARE_FORMS_H
#define TRAPLINE_TESTS_INSN_RARE_FORMS_H

#include "forms.h"

/* Forms that are legal, awkward, and rare in real programs. */
void rare_forms_add(struct form_set *set);

#endif
