/* SPDX-License-Identifier: MIT
 *
 * The commands. Each returns the exit status.
 */
#ifndef TRAPLINE_COMMANDS_H
#define TRAPLINE_COMMANDS_H

int cmd_list(int argc, char **argv);
int cmd_trace(int argc, char **argv);
int cmd_count(int argc, char **argv);
int cmd_watch(int argc, char **argv);
int cmd_doctor(int argc, char **argv);

/* Before anything is allocated. */
void heap_prepare(void);

#endif
