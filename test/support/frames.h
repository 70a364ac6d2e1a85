// SPDX-License-Identifier: BSD-2-Clause
// What arrives on status pipes, checked against the contract while it is read.
#pragma once

#include "test/support/wait.h"

#include <map>
#include <sendfiled/sendfiled.h>
#include <string>
#include <vector>

enum class Got { Frame, End, Nothing };

// Reads one frame from a pipe, blocking or not. Nothing: it did not come in time (or in one piece, a failure).
Got read_frame(int fd, void *frame, milliseconds patience = PATIENCE);

// How one request went.
struct Outcome {
	std::vector<sfd_file_info> infos; // normally one
	std::vector<sfd_xfer_stat> stats; // progress and end
	bool ended = false;               // end-of-file was read

	bool accepted() const; // there is information, and it is no error
	bool has_terminal() const;
	int stat() const;          // the terminal frame's; -1 if there is none
	int terminal_kind() const; // SFD_FILE_INFO, SFD_XFER_STAT; -1 if there is none
	uint64_t total() const;    // bytes delivered, by the last frame
	const sfd_file_info &info() const;
};

// Reads all frames up to end-of-file and fails the test where they break a rule that holds for every transfer.
Outcome read_outcome(int fd, milliseconds patience = PATIENCE);

// The same for one whose information was read already.
Outcome read_rest(int fd, const sfd_file_info &info, milliseconds patience = PATIENCE);

// The same where the requests of one datagram share the pipe: outcomes by tag.
std::map<uint64_t, Outcome> read_outcomes(int fd, milliseconds patience = PATIENCE);

// Reads the information only. False (and a failure) if something else comes.
bool read_info(int fd, sfd_file_info *info);

// What an sfd_read() brought: its information and the bytes behind it.
struct ReadResult {
	sfd_file_info info = {};
	bool has_info = false;
	std::string content;
	bool ended = false;
};

ReadResult read_file_pipe(int fd, milliseconds patience = PATIENCE);

// For EXPECT: the transfer succeeded with that many bytes.
void expect_success(const Outcome &o, uint64_t bytes);

// For EXPECT: refused before it began, with that errno and nothing else.
void expect_refused(const Outcome &o, int err);

// For EXPECT: no more frames than one for each MiB and one for each 100 ms that the whole took, and the last.
void expect_paced(const Outcome &o, Clock::duration took);
