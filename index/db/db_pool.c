/*
 * db_pool.c - who uses which connection. A thread that has one gets the same
 * one again (a callback may read), so a thread holds one at most and waiting
 * for one cannot close a circle.
 */
#include <assert.h>

#include "db_internal.h"

/* The connection that this thread holds; NULL. */
static struct db_conn *find_mine_locked(struct ckpt_db *db)
{
	for (size_t i = 0; i < db->conn_count; i++) {
		struct db_conn *conn = &db->conns[i];

		if (conn->depth > 0 && pthread_equal(conn->owner, pthread_self()))
			return conn;
	}
	return NULL;
}

/* An idle one for reading, rather one that is open already; NULL. */
static struct db_conn *find_idle_locked(struct ckpt_db *db)
{
	struct db_conn *unopened = NULL;

	for (size_t i = db->path ? 1 : 0; i < db->conn_count; i++) {
		struct db_conn *conn = &db->conns[i];

		if (conn->depth > 0)
			continue;
		if (conn->handle)
			return conn;
		if (!unopened)
			unopened = conn;
	}
	return unopened;
}

static void take_locked(struct db_conn *conn)
{
	if (conn->depth++ == 0)
		conn->owner = pthread_self();
}

int db_pool_borrow(struct ckpt_db *db, struct db_conn **out, struct ckpt_err *err)
{
	struct db_conn *conn = NULL;
	int rc = 0;

	pthread_mutex_lock(&db->pool_mu);
	conn = find_mine_locked(db);
	while (!conn) {
		conn = find_idle_locked(db);
		if (!conn)
			pthread_cond_wait(&db->idle, &db->pool_mu);
	}
	take_locked(conn);
	pthread_mutex_unlock(&db->pool_mu);
	if (!conn->handle)
		rc = db_conn_open_reader(db, conn, err);
	if (rc < 0)
		db_pool_give_back(db, conn);
	else
		*out = conn;
	return rc;
}

void db_pool_give_back(struct ckpt_db *db, struct db_conn *conn)
{
	bool idle = false;

	pthread_mutex_lock(&db->pool_mu);
	assert(conn->depth > 0);
	idle = --conn->depth == 0;
	pthread_mutex_unlock(&db->pool_mu);
	/* All: those who wait for the writer and those who wait for a reader wait here alike. */
	if (idle)
		pthread_cond_broadcast(&db->idle);
}

struct db_conn *db_pool_claim_writer(struct ckpt_db *db)
{
	struct db_conn *conn = &db->conns[0];

	pthread_mutex_lock(&db->pool_mu);
	assert(!find_mine_locked(db)); /* begin inside begin, or inside a callback */
	while (conn->depth > 0)
		pthread_cond_wait(&db->idle, &db->pool_mu);
	take_locked(conn);
	pthread_mutex_unlock(&db->pool_mu);
	return conn;
}

bool db_pool_owns_writer(struct ckpt_db *db)
{
	bool mine = false;

	pthread_mutex_lock(&db->pool_mu);
	mine = db->conns[0].depth > 0 && pthread_equal(db->conns[0].owner, pthread_self());
	pthread_mutex_unlock(&db->pool_mu);
	return mine;
}
