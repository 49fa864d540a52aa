/* SPDX-License-Identifier: MIT
 *
 * Texts that several rooms say.
 */
#ifndef TRAPLINE_BASE_TEXTS_H
#define TRAPLINE_BASE_TEXTS_H

/* For -EMFILE of our own. */
#define TL_NO_DESCRIPTORS "out of file descriptors: raise the limit (ulimit -n)"

#endif
