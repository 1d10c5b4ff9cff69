/*
 * pmpi_count.c - preloaded by tests: counts the MPI calls that the contract
 * numbers, and appends them at MPI_Finalize to $PMPI_COUNT_FILE.RANK, a line a
 * call: NAME COUNT.
 */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned long barriers; /* blocking or not */
static unsigned long write_at_alls;

unsigned long pmpi_barriers(void);
/* For a program that wants to know while it runs: a weak symbol there. */
unsigned long pmpi_barriers(void)
{
	return barriers;
}

static void print_counts(void)
{
	const char *base = getenv("PMPI_COUNT_FILE");
	char path[4096];
	int rank = 0;
	FILE *file;

	if (!base || PMPI_Comm_rank(MPI_COMM_WORLD, &rank) != MPI_SUCCESS)
		return;
	(void)snprintf(path, sizeof(path), "%s.%d", base, rank);
	file = fopen(path, "a");
	if (!file)
		return;
	(void)fprintf(file, "barrier %lu\nwrite_at_all %lu\n", barriers, write_at_alls);
	(void)fclose(file);
}

int MPI_Barrier(MPI_Comm comm)
{
	barriers++;
	return PMPI_Barrier(comm);
}

int MPI_Ibarrier(MPI_Comm comm, MPI_Request *request)
{
	barriers++;
	return PMPI_Ibarrier(comm, request);
}

int MPI_File_write_at_all(MPI_File file, MPI_Offset offset, const void *data, int count,
			  MPI_Datatype type, MPI_Status *status)
{
	write_at_alls++;
	return PMPI_File_write_at_all(file, offset, data, count, type, status);
}

int MPI_Finalize(void)
{
	print_counts();
	return PMPI_Finalize();
}
