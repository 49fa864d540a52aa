/* SPDX-License-Identifier: MIT
 *
 * A case that is left out says why; scripts/check passes it on. Include it behind cmocka.h.
 */
#ifndef TL_TESTS_SKIP_H
#define TL_TESTS_SKIP_H

#define SKIP_BECAUSE(reason)                                                                                           \
    do {                                                                                                               \
        print_message("[  BECAUSE ] %s\n", reason);                                                                    \
        skip();                                                                                                        \
    } while (0)

#endif
