/* should_save.c - ckpt_mpi_catch_signals() and ckpt_mpi_should_save(). */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>

#include "collective.h"
#include "job.h"

/* What was caught and not told yet. Two flags: the handler of one may interrupt that of the other. */
static atomic_bool caught_usr1;
static atomic_bool caught_term;

_Static_assert(ATOMIC_BOOL_LOCK_FREE == 2, "a signal handler may use no lock");

static void note(int signal_number)
{
	atomic_store(signal_number == SIGUSR1 ? &caught_usr1 : &caught_term, true);
}

int ckpt_mpi_catch_signals(void)
{
	/* Restarted: the application's own system calls must not fail for this. */
	struct sigaction action = { .sa_handler = note, .sa_flags = SA_RESTART };

	sigemptyset(&action.sa_mask);
	if (sigaction(SIGUSR1, &action, NULL) < 0 || sigaction(SIGTERM, &action, NULL) < 0)
		return -errno;
	return 0;
}

/* Taken, not looked at: what comes from here on is for the next call. */
static int take_highest(void)
{
	int usr1 = atomic_exchange(&caught_usr1, false) ? SIGUSR1 : 0;
	int term = atomic_exchange(&caught_term, false) ? SIGTERM : 0;

	return usr1 > term ? usr1 : term;
}

int ckpt_mpi_should_save(struct ckpt_mpi *job, int *out_signal)
{
	uint64_t highest = 0;
	int rc = ckpt_job_begin(job);

	if (rc == 0)
		rc = ckpt_coll_max(job, (uint64_t)take_highest(), &highest);
	if (rc == 0)
		*out_signal = (int)highest;
	return rc;
}
