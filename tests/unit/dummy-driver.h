/* SPDX-License-Identifier: MIT */
#ifndef TESTS_UNIT_DUMMY_DRIVER_H
#define TESTS_UNIT_DUMMY_DRIVER_H

#include "block/io.h"

DRIVER_API_BEGIN /* what a module shows */
extern const BlockDriver dummy_driver;
DRIVER_API_END

#endif
