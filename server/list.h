/* SPDX-License-Identifier: BSD-2-Clause */
/* A circular, doubly linked, intrusive list. A node that is in no list points to itself. */
#ifndef SFD_LIST_H
#define SFD_LIST_H

#include <stdbool.h>
#include <stddef.h>

/* What a member of it belongs to. */
#define container_of(ptr, type, member) ((type *)(void *)((char *)(ptr)-offsetof(type, member)))

struct list {
	struct list *prev, *next;
};

static inline void list_init(struct list *l)
{
	l->prev = l->next = l;
}

static inline bool list_empty(const struct list *l)
{
	return l->next == l;
}

/* Adds a node that is in no list at the end. */
static inline void list_append(struct list *head, struct list *node)
{
	node->prev = head->prev;
	node->next = head;
	head->prev->next = node;
	head->prev = node;
}

/* Takes a node out; harmless if it is in no list. */
static inline void list_remove(struct list *node)
{
	node->prev->next = node->next;
	node->next->prev = node->prev;
	list_init(node);
}

#endif
