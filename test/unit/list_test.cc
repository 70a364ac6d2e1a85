// SPDX-License-Identifier: BSD-2-Clause
extern "C" {
#include "server/list.h"
}

#include <gtest/gtest.h>

#include <vector>

namespace
{

struct Node {
	list node; /* first: a list * is a Node * */
	int value;
};

// The values from front to back; the links must say the same from back to front.
std::vector<int> values(const list &head)
{
	std::vector<int> forward, backward;

	for (list *l = head.next; l != &head; l = l->next)
		forward.push_back(reinterpret_cast<Node *>(l)->value);
	for (list *l = head.prev; l != &head; l = l->prev)
		backward.insert(backward.begin(), reinterpret_cast<Node *>(l)->value);
	EXPECT_EQ(forward, backward);
	return forward;
}

class List : public testing::Test
{
      protected:
	List()
	{
		list_init(&head);
		for (int i = 0; i < 3; i++) {
			n[i].value = i;
			list_init(&n[i].node);
		}
	}
	void append_all()
	{
		for (auto &x : n)
			list_append(&head, &x.node);
	}

	list head;
	Node n[3];
};

TEST_F(List, IsEmptyAtFirst)
{
	EXPECT_TRUE(list_empty(&head));
	EXPECT_TRUE(list_empty(&n[0].node));
	EXPECT_EQ(std::vector<int>{}, values(head));
}

TEST_F(List, KeepsTheOrder)
{
	append_all();
	EXPECT_FALSE(list_empty(&head));
	EXPECT_EQ((std::vector<int>{0, 1, 2}), values(head));
}

TEST_F(List, AnyNodeMayBeTakenOut)
{
	for (int victim = 0; victim < 3; victim++) {
		std::vector<int> want = {0, 1, 2};

		append_all();
		want.erase(want.begin() + victim);
		list_remove(&n[victim].node);
		EXPECT_EQ(want, values(head));
		EXPECT_TRUE(list_empty(&n[victim].node)) << "it points to itself again";
		for (auto &x : n)
			list_remove(&x.node);
		EXPECT_TRUE(list_empty(&head));
	}
}

TEST_F(List, TakingOutTwiceIsHarmless)
{
	append_all();
	list_remove(&n[1].node);
	list_remove(&n[1].node);
	EXPECT_EQ((std::vector<int>{0, 2}), values(head));
	list_append(&head, &n[1].node);
	EXPECT_EQ((std::vector<int>{0, 2, 1}), values(head));
}

} // namespace
