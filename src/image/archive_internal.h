#pragma once
/*
 * image/archive_internal.h - libarchive's objects in AUTO(...) variables.
 */
#include <archive.h>
#include <archive_entry.h>

#include "base/cleanup.h"

DEFINE_AUTO(struct archive *, archive_read_free)
DEFINE_AUTO(struct archive *, archive_write_free)
DEFINE_AUTO(struct archive_entry *, archive_entry_free)
