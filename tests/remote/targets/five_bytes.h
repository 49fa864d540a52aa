/* SPDX-License-Identifier: MIT
 *
 * A function that begins with an instruction of five bytes, and returns 0x12345678. For one file of a program.
 */
#ifndef TESTS_REMOTE_FIVE_BYTES_H
#define TESTS_REMOTE_FIVE_BYTES_H

unsigned five_bytes(void);
__asm__(".pushsection .text\n"
        ".globl five_bytes\n"
        ".type five_bytes, @function\n"
        "five_bytes:\n"
        "    mov $0x12345678, %eax\n"
        "    ret\n"
        ".size five_bytes, . - five_bytes\n"
        ".popsection\n");

#endif
