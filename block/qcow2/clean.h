/* SPDX-License-Identifier: MIT */
/* cache-clean-interval: metadata that was not used for so long leaves the memory. */
#ifndef QCOW2_CLEAN_H
#define QCOW2_CLEAN_H

#include "qcow2.h"

void qcow2_clean_start(Qcow2 *q, uint64_t interval_s);
void qcow2_clean_stop(Qcow2 *q);
/* For slow paths: those of a request that reads metadata, or flushes. Any thread. */
void qcow2_clean_if_due(Qcow2 *q);

#endif
