/* vote.c - see vote.h. */
#include "vote.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#include "base/num.h"
#include "collective.h"

int ckpt_vote_post(struct ckpt_mpi *job, struct ckpt_vote *vote, uint64_t value)
{
	assert(!vote->posted);
	if (job->broken)
		return job->broken;
	vote->numbers = array_alloc(2, sizeof(*vote->numbers));
	if (!vote->numbers)
		return ckpt_coll_no_memory(job);
	vote->posted = true;
	vote->numbers[0] = value;
	vote->numbers[1] = value;
	vote->mpi_rc = MPI_SUCCESS;
	/* NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): ckpt_vote_take() ends it. */
	if (job->comm != MPI_COMM_NULL)
		vote->mpi_rc = MPI_Iallreduce(&vote->numbers[0], &vote->numbers[1], 1, MPI_UINT64_T,
					      MPI_MAX, job->comm, &vote->request);
	return 0;
	/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */
}

int ckpt_vote_take(struct ckpt_mpi *job, struct ckpt_vote *vote, uint64_t *out)
{
	int rc = 0;

	assert(vote->posted);
	if (job->broken)
		return job->broken;
	/* In the roll, a rank takes part in a round from here on: now it listens. */
	if (job->comm != MPI_COMM_NULL)
		rc = ckpt_coll_finish(job, vote->mpi_rc, &vote->request, "MPI_Iallreduce");
	if (rc < 0)
		return rc;
	vote->posted = false;
	*out = vote->numbers[1];
	free(vote->numbers);
	vote->numbers = NULL;
	return 0;
}
