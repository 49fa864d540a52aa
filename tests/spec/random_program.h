/* SPDX-License-Identifier: MIT
 *
 * Random programs that verify, and a world for them: a little memory at RANDOM_MEMORY, to which registers and constants
 * like to point.
 */
#ifndef TRAPLINE_TEST_RANDOM_PROGRAM_H
#define TRAPLINE_TEST_RANDOM_PROGRAM_H

#include "chance.h"
#include "machine.h"

enum { RANDOM_PAGE = 0x10000000, RANDOM_MEMORY = 0x10000fe8, RANDOM_PROGRAM_MAX = 64 };
extern const char random_page[4096]; /* from RANDOM_PAGE; all zeros up to RANDOM_MEMORY */

/* The program's operations go into `code`. */
struct tl_program random_program(struct chance *chance, struct tl_operation code[RANDOM_PROGRAM_MAX]);
struct machine random_machine(struct chance *chance);

#endif
