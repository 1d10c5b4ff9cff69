/* buffers.c - see buffers.h. */
#include "buffers.h"

#include <pthread.h>
#include <sys/mman.h>

#include "base/num.h"

/* What the kernel asks for at most, unless it was set up otherwise. */
#define KEPT_BYTES ((size_t)CKPT_MIB)
/* As many streams as keep them busy side by side. */
#define KEPT_MAX 8U

static struct {
	pthread_mutex_t mu;
	/* Protected by mu. */
	char *kept[KEPT_MAX];
	size_t count;
} buffers = { .mu = PTHREAD_MUTEX_INITIALIZER };

static size_t room_for(size_t len_bytes)
{
	return len_bytes > KEPT_BYTES ? len_bytes : KEPT_BYTES;
}

char *buffer_get(size_t len_bytes)
{
	char *data = NULL;
	void *fresh;

	if (len_bytes <= KEPT_BYTES) {
		pthread_mutex_lock(&buffers.mu);
		if (buffers.count > 0)
			data = buffers.kept[--buffers.count];
		pthread_mutex_unlock(&buffers.mu);
	}
	if (data)
		return data;
	fresh = mmap(NULL, room_for(len_bytes), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		     -1, 0);
	return fresh == MAP_FAILED ? NULL : fresh;
}

void buffer_put(char *data, size_t len_bytes)
{
	if (!data)
		return;
	if (len_bytes <= KEPT_BYTES) {
		pthread_mutex_lock(&buffers.mu);
		if (buffers.count < KEPT_MAX) {
			buffers.kept[buffers.count++] = data;
			data = NULL;
		}
		pthread_mutex_unlock(&buffers.mu);
	}
	if (data)
		munmap(data, room_for(len_bytes));
}

void buffers_release(void)
{
	pthread_mutex_lock(&buffers.mu);
	while (buffers.count > 0)
		munmap(buffers.kept[--buffers.count], KEPT_BYTES);
	pthread_mutex_unlock(&buffers.mu);
}
