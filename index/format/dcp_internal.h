/*
 * dcp_internal.h - the parts of reading a `.metadata`.
 * May be included only by index/format/dcp*.c.
 */
#ifndef CKPT_FORMAT_DCP_INTERNAL_H
#define CKPT_FORMAT_DCP_INTERNAL_H

#include "format/dcp.h"
#include "format/torch_internal.h"

/* FQNs and groups are module paths; the longest seen have some 200 bytes. */
#define DCP_NAME_MAX 4096

/* Where one box, or the bytes of an entry, are stored: an item of storage_data. */
struct dcp_record {
	struct pickle_text fqn;
	const struct pickle_value *start; /* integers of 0 or more; NULL: it is told without */
	struct pickle_text path;
	uint64_t offset_bytes;
	uint64_t len_bytes;
	const char *opaque; /* why its bytes are not what they seem; NULL: they are */
};

struct dcp_path {
	struct pickle_text fqn;
	const struct pickle_value *keys;
};

/* The parsed metadata while entries are made. */
struct dcp_reader {
	struct pickle *pickle;
	struct dcp_record *records; /* by FQN, then start */
	size_t record_count;
	struct dcp_path *paths; /* planner_data by FQN */
	size_t path_count;
	size_t chunk_budget; /* boxes that may still be looked at */
	struct ckpt_dcp_metadata out;
	size_t file_cap;
	struct ckpt_err *err;
};

/** dcp_is - a call of @name, of the module that holds DCP's classes now, or of an older one? */
bool dcp_is(const struct pickle_value *value, const char *name);
/** dcp_refuse - file "'FQN': @reason"; returns -EBADMSG. */
int dcp_refuse(struct ckpt_err *err, struct pickle_text fqn, const char *reason);
/** dcp_name_is_good - UTF-8 without control characters, not empty, not longer than DCP_NAME_MAX? */
bool dcp_name_is_good(struct pickle_text text);
/** dcp_text_copy - NUL-terminated; NULL: no memory. */
char *dcp_text_copy(struct pickle_text text) CKPT_MUST_CHECK;

/**
 * dcp_storage_read - fill records and files of @reader from storage_data
 * Errors: -EBADMSG a path leaves the folder, a range overflows, a box is told of twice; -ENOMEM.
 */
int dcp_storage_read(struct dcp_reader *reader, const struct pickle_value *storage_data)
	CKPT_MUST_CHECK;
/** dcp_storage_find - NULL: storage_data tells of no such box (@start NULL: of no bytes); borrowed. */
const struct dcp_record *dcp_storage_find(const struct dcp_reader *reader, struct pickle_text fqn,
					  const struct pickle_value *start);
/** dcp_storage_file - the name in reader->out.files; it is there. */
const char *dcp_storage_file(const struct dcp_reader *reader, struct pickle_text path);

/**
 * dcp_tensor_take - all of @out but FQN and group, from a TensorStorageMetadata
 * Errors: -EBADMSG; -ENOMEM. @out is to be released in any case.
 */
int dcp_tensor_take(struct dcp_reader *reader, struct pickle_text fqn,
		    const struct pickle_value *value, struct ckpt_dcp_entry *out) CKPT_MUST_CHECK;

#endif
